package kernel

import (
	"errors"
	"maps"
	"time"

	"go.patchbay.dev/plugins/linux"
)

// begin notes that an operation on a pair is under way, so that what is heard of it
// meanwhile is not taken for damage.
func (t *pairs) begin(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.busy[key] = false
}

// settling is for how long events of a pair that was just made or changed may be from before
// that: the kernel tells of every step.
const settling = 50 * time.Millisecond

// end has what was heard during an operation looked at, whether it was all its doing. That waits
// until the kernel's events are through: who asked for the pair does not wait for it.
func (m *Mechanism) end(key string) {
	m.pairs.mu.Lock()
	defer m.pairs.mu.Unlock()
	heard := m.pairs.busy[key]
	delete(m.pairs.busy, key)
	p := m.pairs.byKey[key]
	if p == nil {
		return
	}
	p.since = time.Now()
	if p.unsure && !p.running() { // an end that is said to carry packets is not said to be down
		go m.makeSure(key)
	}
	if heard || p.unsure {
		m.lookLater(p)
	}
}

// running tells whether both ends were seen to carry packets.
func (p *pair) running() bool {
	return p.links[0].Running && (p.links[1].Index == 0 || p.links[1].Running)
}

// lookLater looks at a pair once it has settled. m.pairs.mu is held.
func (m *Mechanism) lookLater(p *pair) {
	if m.pairs.due[p.key] {
		return
	}
	m.pairs.due[p.key] = true
	time.AfterFunc(settling, func() {
		m.pairs.mu.Lock()
		delete(m.pairs.due, p.key)
		_, busy := m.pairs.busy[p.key]
		if busy {
			m.pairs.busy[p.key] = true // it is looked at when that is done
		}
		m.pairs.mu.Unlock()
		if !busy {
			m.verify(p.key)
			m.makeSure(p.key)
		}
	})
}

// makeSure looks again whether a pair carries packets, if that is not sure.
func (m *Mechanism) makeSure(key string) {
	m.pairs.mu.Lock()
	p := m.pairs.byKey[key]
	if p == nil || !p.unsure {
		m.pairs.mu.Unlock()
		return
	}
	p.unsure = false
	var turned []string
	for i, seen := range p.links {
		if seen.Index == 0 {
			continue
		}
		// What comes by event from now on is newer, or heard knows what to do.
		if now, err := m.ns.LinkAt(seen.Place); err == nil && now.Running != seen.Running && p.fits(i, now) {
			p.links[i].Running = now.Running
			turned = append(turned, tagsOf(key)[i].ID)
		}
	}
	m.pairs.mu.Unlock()
	for _, id := range turned {
		m.changed(id)
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

// heard takes an event. What looks like damage is looked at before it is believed, for
// an event may be older than what was done about it. But a link of ours that was set
// down after it was finished has lost routes and addresses, even if it is up again.
func (m *Mechanism) heard(l linux.Link, gone bool) {
	m.pairs.mu.Lock()
	if gone {
		delete(m.pairs.told, l.Place)
	} else {
		m.pairs.told[l.Place] = l.Running
	}
	p := m.pairs.byPlace[l.Place]
	if p == nil {
		m.pairs.mu.Unlock()
		return
	}
	key, i := p.key, p.side(l.Place)
	fits := !gone && p.fits(i, l)
	if fits && !l.Running && p.links[i].Running {
		// The event may be from before the other end was up.
		if time.Since(p.since) < settling {
			p.unsure, l.Running = true, true
			m.lookLater(p)
		} else if now, err := m.ns.LinkAt(l.Place); err == nil {
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
	m.pairs.mu.Lock()
	maps.DeleteFunc(m.pairs.told, func(at linux.Place, _ bool) bool { return at.NSID == nsid })
	m.pairs.mu.Unlock()
	for _, key := range m.pairs.keys(func(p *pair) bool {
		return p.links[0].NSID == nsid || (p.links[1].Index != 0 && p.links[1].NSID == nsid)
	}) {
		m.verify(key)
	}
}

// missed looks at every pair, after events were lost.
func (m *Mechanism) missed() {
	for _, key := range m.pairs.keys(func(p *pair) bool { p.unsure = true; return true }) {
		m.verify(key)
		m.makeSure(key)
	}
}
