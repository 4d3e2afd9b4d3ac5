package kernel

import (
	"errors"
	"strings"
	"sync"

	"go.patchbay.dev/plugins/linux"
)

// pairs are the veth pairs, taps and tunnels that are known to be there, and where.
type pairs struct {
	mu      sync.Mutex
	byKey   map[string]*pair
	byPlace map[linux.Place]*pair
	busy    map[string]bool // an operation is under way; true: and something was heard
}

// A pair as it was seen last.
type pair struct {
	key   string
	spec  Veth
	links [2]linux.Link
	fresh [2]bool // nothing has been set on that end since it was made
	// tunnel is what the interface is, where it is one.
	tunnel linux.Device
	vf     bool // it is that of a virtual function, whose MAC is the card's business
}

func (t *pairs) init() {
	t.byKey, t.byPlace, t.busy = map[string]*pair{}, map[linux.Place]*pair{}, map[string]bool{}
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
	t.byKey[p.key] = p
	for _, l := range p.links {
		if l.Index != 0 {
			t.byPlace[l.Place] = p
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
func (t *pairs) replace(kind string, found []*pair) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key := range t.byKey {
		if strings.HasPrefix(key, kind+"/") {
			t.drop(key)
		}
	}
	for _, p := range found {
		t.put(p)
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

// first tells, once for each pair made, that nothing has been set on an end yet.
func (t *pairs) first(tag linux.Tag, l linux.Link) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, i := t.at(tag)
	if p == nil {
		return false
	}
	fresh := p.fresh[i] && p.links[i].Index == l.Index
	p.fresh[i] = false
	return fresh
}

func sideIndex(s linux.Side) int {
	if s == linux.Client {
		return 0
	}
	return 1
}

// begin notes that an operation on a pair is under way, so that what is heard of it
// meanwhile is not taken for damage.
func (t *pairs) begin(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.busy[key] = false
}

// end looks whether what was heard during an operation was all its doing.
func (m *Mechanism) end(key string) {
	m.pairs.mu.Lock()
	heard := m.pairs.busy[key]
	delete(m.pairs.busy, key)
	m.pairs.mu.Unlock()
	if heard {
		m.verify(key)
	}
}

// fits tells whether an end is as it should be.
func (p *pair) fits(i int, l linux.Link) bool {
	if p.vf {
		l.MAC = p.spec.Ends[i].MAC
	}
	return belongs(l, tagsOf(p.key)[i], linux.MAC{}) && difference(l, p.spec.Ends[i], tagsOf(p.key)[i], p.spec.MTU) == linux.Change{} &&
		(p.tunnel == nil || l.Resembles(p.tunnel))
}

// side returns which end of the pair is at a place.
func (p *pair) side(at linux.Place) int {
	if p.links[0].Place == at {
		return 0
	}
	return 1
}

// heard takes an event. What looks like damage is looked at before it is believed, for
// an event may be older than what was done about it. But a link of ours that was set
// down after it was finished has lost routes and addresses, even if it is up again.
func (m *Mechanism) heard(l linux.Link, gone bool) {
	m.pairs.mu.Lock()
	p := m.pairs.byPlace[l.Place]
	if p == nil {
		m.pairs.mu.Unlock()
		return
	}
	key, i := p.key, p.side(l.Place)
	fits := !gone && p.fits(i, l)
	if fits && !l.Running && p.links[i].Running {
		// The event may be from before the other end was up.
		if now, err := m.ns.LinkAt(l.Place); err == nil {
			l.Running = now.Running
		}
	}
	turned := fits && p.links[i].Running != l.Running
	if fits {
		p.links[i].Running = l.Running
	}
	_, busy := m.pairs.busy[key]
	if busy && !fits {
		m.pairs.busy[key] = true
	}
	m.pairs.mu.Unlock()
	switch {
	case !busy && !gone && !l.Up && l.Alias == tagsOf(key)[i].String() && (i == 0 || !isPort(key)):
		m.damaged(key)
	case !fits && !busy:
		m.verify(key)
	case turned:
		m.changed(tagsOf(key)[i].ID)
	}
}

func (m *Mechanism) damaged(key string) {
	if isTap(key) {
		go m.damagedTap(key)
		return
	}
	m.log.Info("interface was changed or deleted from outside", "key", key)
	m.lost(key)
}

// verify looks at a pair and has it mended if it is not as it should be.
func (m *Mechanism) verify(key string) {
	p, ok := m.pairs.get(key)
	if !ok || m.intact(p) {
		return
	}
	m.damaged(key)
}

func (m *Mechanism) intact(p pair) bool {
	for i, seen := range p.links {
		if seen.Index == 0 {
			continue // a tap or a tunnel has one end
		}
		now, err := m.ns.LinkAt(seen.Place)
		if err != nil && !errors.Is(err, linux.ErrNoLink) {
			m.log.Warn("cannot look at an interface", "key", p.key, "err", err)
			return true
		}
		if err != nil || !p.fits(i, now) {
			return false
		}
	}
	return true
}

// namespaceGone is told that a namespace has ended. Another may have its number by now,
// with a pair that was made since.
func (m *Mechanism) namespaceGone(nsid int) {
	for _, key := range m.pairs.keys(func(p *pair) bool {
		return p.links[0].NSID == nsid || (p.links[1].Index != 0 && p.links[1].NSID == nsid)
	}) {
		m.verify(key)
	}
}

// missed looks at every pair, after events were lost.
func (m *Mechanism) missed() {
	for _, key := range m.pairs.keys(func(*pair) bool { return true }) {
		m.verify(key)
	}
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
