package reconcile

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// A world to be reconciled: things that stand in places and are made of parts, and facts
// that come and go. It checks at every call what the engine promises at Descriptor.

// spec of a thing. Two specs with different places cannot be updated into each other.
type spec struct {
	Place string
	Parts string // letters, in order, each once
	Needs []string
}

func (s spec) equal(o spec) bool {
	return s.Place == o.Place && s.Parts == o.Parts && slices.Equal(s.Needs, o.Needs)
}

// where is the address of a thing: there may be one of the same key in each place.
type where struct{ key, place string }

type world struct {
	mu     sync.Mutex
	rand   *rand.Rand
	things map[where]spec

	life    int             // of the agent; a call of an earlier one has no effect any more
	unknown map[string]bool // kinds whose first retrieval in this life failed, or is to come
	known   map[string]bool // keys that were ever wanted, or found: the others are foreign
	asked   map[string]int  // retrievals in this life, by kind
	damaged map[string]bool // keys that something happened to, until they are made again
	busy    map[string]bool // keys with a call under way
	calls   map[string]int  // that change the world, by key

	failures float64 // probability that a call fails
	slowness time.Duration

	facts   map[string]bool
	watched map[string]bool
	broken  []string // promises
}

func newWorld(seed uint64) *world {
	return &world{
		rand: rand.New(rand.NewPCG(seed, 1)), things: map[where]spec{}, known: map[string]bool{},
		unknown: map[string]bool{}, asked: map[string]int{}, damaged: map[string]bool{}, busy: map[string]bool{}, calls: map[string]int{},
		facts: map[string]bool{}, watched: map[string]bool{},
	}
}

func (w *world) breach(format string, args ...any) {
	w.broken = append(w.broken, fmt.Sprintf(format, args...))
}

func (w *world) know(key string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.known[key] = true
}

func (w *world) chance(p float64) bool { return w.rand.Float64() < p }

var errWorld = errors.New("the world said no")

// errDead is what a call of a killed agent returns.
var errDead = errors.New("killed")

// factSource watches the facts of the world.
type factSource struct {
	*world
	life int
}

func (f factSource) Watch(key string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.life != f.world.life {
		return false
	}
	if f.watched[key] {
		f.breach("%s is watched twice", key)
	}
	f.watched[key] = true
	return f.facts[key]
}

func (f factSource) Unwatch(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.life != f.world.life {
		return
	}
	if !f.watched[key] {
		f.breach("%s is not watched", key)
	}
	delete(f.watched, key)
}

// setFact makes a fact come or go. What stands on a fact that goes may go with it.
func (w *world) setFact(e *Engine, key string, present bool) {
	w.mu.Lock()
	w.facts[key] = present
	if !present && w.chance(0.5) {
		for at, t := range w.things {
			if slices.Contains(t.Needs, key) {
				w.damaged[at.key] = true
				delete(w.things, at)
			}
		}
	}
	watched := w.watched[key]
	w.mu.Unlock()
	if watched {
		e.Observe(key, present)
	}
}

// damage takes something from a random thing and returns its key, or "".
func (w *world) damage() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, at := range slices.SortedFunc(maps.Keys(w.things), func(a, b where) int { return strings.Compare(a.key+a.place, b.key+b.place) }) {
		if w.chance(0.8) {
			continue
		}
		w.damaged[at.key] = true
		t := w.things[at]
		if t.Parts == "" || w.chance(0.5) {
			delete(w.things, at)
		} else {
			t.Parts = t.Parts[1:]
			w.things[at] = t
		}
		return at.key
	}
	return ""
}
