package kernel

import (
	"strings"
	"sync"
	"time"

	"go.patchbay.dev/plugins/linux"
)

// pairs are the veth pairs, taps and tunnels that are known to be there, and where.
type pairs struct {
	mu      sync.Mutex
	byKey   map[string]*pair
	byPlace map[linux.Place]*pair
	busy    map[string]bool // an operation is under way; true: and something was heard
	due     map[string]bool // it is looked at soon
	// told is whether an interface carries packets, as events said last. Who has looked at one and then notes what
	// was seen may have been overtaken by an event, after which there is no other: see put.
	told map[linux.Place]bool
}

// A pair as it was seen last.
type pair struct {
	key   string
	spec  Veth
	links [2]linux.Link
	fresh [2]bool // nothing has been set on that end since it was made
	// tunnel is what the interface is, where it is one.
	tunnel linux.Device
	vf     bool      // it is that of a virtual function, whose MAC is the card's business
	unsure bool      // events and what was seen differ in whether it carries packets
	since  time.Time // it was made, or an operation on it ended
}

func (t *pairs) init() {
	t.byKey, t.byPlace, t.busy = map[string]*pair{}, map[linux.Place]*pair{}, map[string]bool{}
	t.due = map[string]bool{}
	t.told = map[linux.Place]bool{}
}

// get returns a copy of what is known of a pair.
func (t *pairs) get(key string) (pair, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p, ok := t.byKey[key]; ok {
		return *p, true
	}
	return pair{}, false
}

// set notes what a pair is like.
func (t *pairs) set(key string, spec Veth, links [2]linux.Link, fresh bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.put(&pair{key: key, spec: spec, links: links, fresh: [2]bool{fresh, fresh}})
}

// setTunnel notes what a tunnel is like.
func (t *pairs) setTunnel(key string, spec Device, link linux.Link, fresh bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.put(&pair{key: key, spec: spec.end(), tunnel: spec.Tunnel, links: [2]linux.Link{link}, fresh: [2]bool{fresh}})
}

// setVF notes what the interface of a virtual function is like.
func (t *pairs) setVF(key string, spec Veth, link linux.Link, fresh bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.put(&pair{key: key, spec: spec, vf: true, links: [2]linux.Link{link}, fresh: [2]bool{fresh}})
}

func (t *pairs) put(p *pair) {
	t.drop(p.key)
	t.byKey[p.key], p.since = p, time.Now()
	for _, l := range p.links {
		if l.Index == 0 {
			continue
		}
		t.byPlace[l.Place] = p
		if running, ok := t.told[l.Place]; ok {
			p.unsure = p.unsure || running != l.Running
			delete(t.told, l.Place)
		}
	}
}

func (t *pairs) drop(key string) {
	p, ok := t.byKey[key]
	if !ok {
		return
	}
	delete(t.byKey, key)
	for _, l := range p.links {
		if t.byPlace[l.Place] == p {
			delete(t.byPlace, l.Place)
		}
	}
}

func (t *pairs) forget(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drop(key)
}

// replace forgets all of a kind but what was found now.
func (m *Mechanism) replace(kind string, found []*pair) {
	t := &m.pairs
	t.mu.Lock()
	for key := range t.byKey {
		if strings.HasPrefix(key, kind+"/") {
			t.drop(key)
		}
	}
	for _, p := range found {
		t.put(p)
	}
	t.mu.Unlock()
	for _, p := range found {
		m.makeSure(p.key)
	}
}

// of returns a copy of what is known of the pair that has a workload's end, and which of
// its ends that is.
func (t *pairs) of(tag linux.Tag) (pair, int, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p, i := t.at(tag); p != nil {
		return *p, i, true
	}
	return pair{}, 0, false
}

func (t *pairs) at(tag linux.Tag) (*pair, int) {
	for _, key := range []string{portKey(tag), tapKey(tag), deviceKey(tag), vfKey(tag)} {
		if p := t.byKey[key]; p != nil {
			return p, 0
		}
	}
	return t.byKey[vethKey(tag.ID)], sideIndex(tag.Side)
}

// first gives, once, the interface that was made for a tag if nothing has been set on it since and it has
// its name still.
func (t *pairs) first(tag linux.Tag, name string) (linux.Link, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, i := t.at(tag)
	if p == nil || !p.fresh[i] {
		return linux.Link{}, false
	}
	p.fresh[i] = false
	return p.links[i], p.links[i].Name == name
}

func sideIndex(s linux.Side) int {
	if s == linux.Client {
		return 0
	}
	return 1
}

// side returns which end of the pair is at a place.
func (p *pair) side(at linux.Place) int {
	if p.links[0].Place == at {
		return 0
	}
	return 1
}

// keys of the pairs that f selects.
func (t *pairs) keys(f func(p *pair) bool) (keys []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, p := range t.byKey {
		if f(p) {
			keys = append(keys, key)
		}
	}
	return keys
}
