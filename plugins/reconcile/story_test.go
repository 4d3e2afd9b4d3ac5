package reconcile

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// story is an agent over a world, and what it was told to want.
type story struct {
	t        *testing.T
	seed     uint64
	rand     *rand.Rand
	world    *world
	engine   *Engine
	want     map[string]map[string]spec // by group and key
	revision int64
	circles  bool              // dependencies may go round in circles
	last     map[string]Status // by group, from OnStatus; with world.mu
}

var kinds = []string{"base", "mid", "top"}

var facts = []string{"fact/0", "fact/1", "fact/2"}

// start begins a new life of the agent, with everything that is wanted.
func (s *story) start() {
	w := s.world
	w.mu.Lock()
	life := w.life
	for _, k := range kinds {
		w.unknown[k] = true
	}
	clear(w.asked)
	clear(w.watched)
	clear(w.busy)
	clear(s.last)
	w.mu.Unlock()
	s.engine = New(Options{OnStatus: func(st Status) { s.told(life, st) }})
	for _, k := range kinds {
		Register(s.engine, k, thingDescriptor{w, k, life})
	}
	s.engine.Facts("fact", "the fact", factSource{w, life})
	for g := range s.want {
		s.apply(g)
	}
	if err := s.engine.Start(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

// crash ends the life of the agent: what it was doing stops where it is.
func (s *story) crash() {
	s.world.mu.Lock()
	s.world.life++
	s.world.mu.Unlock()
	s.engine.Stop()
}

func (s *story) told(life int, st Status) {
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	if life != s.world.life {
		return
	}
	if st.State == Applying {
		s.world.breach("told that %s is still applying", st.Group)
	}
	if before := s.last[st.Group]; st.Revision < before.Revision {
		s.world.breach("told of %s at revision %d after %d", st.Group, st.Revision, before.Revision)
	}
	s.last[st.Group] = st
}

func (s *story) change(g string) Change {
	s.revision++
	c := Change{Group: g, Revision: s.revision}
	for key, spec := range s.want[g] {
		s.world.know(key)
		c.Values = append(c.Values, Value{key, spec})
	}
	s.rand.Shuffle(len(c.Values), func(i, j int) { c.Values[i], c.Values[j] = c.Values[j], c.Values[i] })
	return c
}

func (s *story) apply(groups ...string) {
	var all []Change
	for _, g := range groups {
		all = append(all, s.change(g))
	}
	s.engine.Apply(all...)
}

// anySpec returns a random spec: it needs facts and values of the kinds before its own,
// or of any kind.
func (s *story) anySpec(kind int) spec {
	var parts strings.Builder
	for _, p := range "abcd" {
		if s.rand.IntN(2) == 0 {
			parts.WriteRune(p)
		}
	}
	var needs []string
	for _, f := range facts {
		if s.rand.IntN(6) == 0 {
			needs = append(needs, f)
		}
	}
	for range s.rand.IntN(2 * (kind + 1)) {
		switch {
		case s.circles && s.rand.IntN(3) == 0:
			needs = append(needs, s.anyKey(s.rand.IntN(len(kinds)), ""))
		case kind > 0:
			needs = append(needs, s.anyKey(s.rand.IntN(kind), ""))
		}
	}
	return spec{fmt.Sprint("place", s.rand.IntN(2)), parts.String(), union(needs, nil)}
}

// anyKey returns a random key; each belongs to one group, that with its last letter.
func (s *story) anyKey(kind int, group string) string {
	if group == "" {
		group = s.anyGroup()
	}
	return fmt.Sprintf("%s/%d%s", kinds[kind], s.rand.IntN(3), group)
}

func (s *story) anyGroup() string { return string(rune('A' + s.rand.IntN(4))) }

// mutate changes what is wanted of a random group and returns it.
func (s *story) mutate() string {
	g := s.anyGroup()
	if s.rand.IntN(8) == 0 || s.want[g] == nil {
		s.want[g] = map[string]spec{}
	}
	for range s.rand.IntN(4) {
		kind := s.rand.IntN(len(kinds))
		key := s.anyKey(kind, g)
		if _, wanted := s.want[g][key]; wanted && s.rand.IntN(3) == 0 {
			delete(s.want[g], key)
		} else {
			s.want[g][key] = s.anySpec(kind)
		}
	}
	return g
}

// litter puts things into the world that nobody in this life has made.
func (s *story) litter() {
	for range 6 {
		kind := s.rand.IntN(len(kinds))
		if key := s.anyKey(kind, ""); !s.world.exists(key) {
			sp := s.anySpec(kind)
			s.world.things[where{key, sp.Place}] = sp
		}
	}
}

// event is something that happens while the engine is at work.
func (s *story) event() {
	w, e := s.world, s.engine
	switch n := s.rand.IntN(20); {
	case n < 8:
		groups := []string{s.mutate()}
		for s.rand.IntN(2) == 0 {
			if g := s.mutate(); !slices.Contains(groups, g) {
				groups = append(groups, g)
			} else {
				s.apply(g)
			}
		}
		s.apply(groups...)
	case n < 12:
		f := facts[s.rand.IntN(len(facts))]
		w.setFact(e, f, s.rand.IntN(2) == 0)
		if s.rand.IntN(3) == 0 {
			w.setFact(e, f, s.rand.IntN(2) == 0)
		}
	case n < 14:
		if key := w.damage(); key != "" {
			e.Lost(key)
		}
	case n < 16:
		names := []string{kinds[s.rand.IntN(len(kinds))]}
		if key := w.damage(); key != "" { // unnoticed, until
			names = append(names, kindOf(key))
		}
		s.resync(names...)
	case n < 17:
		s.crash()
		if s.rand.IntN(2) == 0 {
			s.mutate()
		}
		s.start()
	default:
		time.Sleep(time.Duration(s.rand.IntN(1000)) * time.Millisecond)
	}
}

func (s *story) resync(names ...string) {
	if s.rand.IntN(2) == 0 {
		names = nil
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Duration(s.rand.IntN(2000))*time.Millisecond)
	defer cancel()
	if err := s.engine.Resync(ctx, names...); err != nil && ctx.Err() == nil {
		s.t.Errorf("resync: %v", err)
	}
}
