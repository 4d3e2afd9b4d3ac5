package vppapi

import (
	"context"
	"strings"
	"sync"
)

// Ports are the interfaces that one mechanism has finished. It watches them, so that
// damage from outside is mended and links that come or go are told.
type Ports struct {
	vpp *Client
	// RxMode is set whenever a link comes up: the queues of a shared memory interface
	// exist only while its peer is there.
	RxMode RxMode
	// Placer chooses who looks after those queues; nil: VPP.
	Placer *Placer
	// Pacer has VPP poll them while they are busy, if RxMode is Adaptive; nil: VPP sees to it.
	Pacer *Pacer

	mu    sync.Mutex
	byTag map[string]*port
}

// port is one interface.
type port struct {
	key  string // of the engine's value
	up   bool   // it was seen up: until it is joined it is not
	told bool   // how its link is
	link bool   // it was told to be up
}

// NewPorts returns an empty set.
func NewPorts(vpp *Client) *Ports { return &Ports{vpp: vpp, byTag: map[string]*port{}} }

// Watch has lost told of values whose interface was deleted or set down by somebody else,
// and changed of connections of which a link came up or went down. Before Client.Start.
func (p *Ports) Watch(lost func(key string), changed func(id string)) {
	p.vpp.Watch(Watcher{
		Up:   func() { p.back(changed) },
		Down: func(error) { p.away(changed) },
		Links: func(tags []string) {
			ids := map[string]bool{} // once where both ends of a connection have changed
			for _, tag := range tags {
				if p.look(tag, lost) {
					ids[idOf(tag)] = true
				}
			}
			for id := range ids {
				changed(id)
			}
		},
	})
}

// look sees to an interface that may have changed, and says whether that is news: most of what
// VPP tells is that an interface is there which was just made.
func (p *Ports) look(tag string, lost func(key string)) (news bool) {
	s := p.see(tag)
	switch {
	case s.damaged:
		lost(s.key)
	case s.now.LinkUp:
		p.arrange(tag, s.now.Index)
	}
	return s.damaged || s.news
}

// arrange sees to the queues of an interface, which may just have come.
func (p *Ports) arrange(tag string, index Index) {
	if p.Placer != nil {
		p.Placer.Place(index)
	}
	if p.RxMode != DefaultMode {
		go p.setRxMode(tag, index)
	}
}

func (p *Ports) setRxMode(tag string, index Index) {
	if err := p.vpp.SetRxMode(context.Background(), index, p.RxMode); err != nil {
		p.vpp.log.Debug("rx-mode was not set", "interface", index, "err", err)
	} else if p.paced() {
		p.Pacer.begin(tag, index)
	}
}

// paced tells whether the Pacer has a say in the rx-mode.
func (p *Ports) paced() bool { return p.Pacer != nil && p.RxMode == Adaptive }

// Len is how many there are.
func (p *Ports) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.byTag)
}

// idOf is the connection in a tag patchbay:<id>:<side>.
func idOf(tag string) string {
	_, rest, _ := strings.Cut(tag, ":")
	return rest[:max(strings.LastIndexByte(rest, ':'), 0)]
}

// seen is what became of an interface.
type seen struct {
	key     string
	now     Interface
	damaged bool // by somebody
	news    bool // its link is not as it was told
}

// see notes how an interface is now; nothing, if it is none of these. It is asked for under the
// lock, so that what is noted last is what was last.
func (p *Ports) see(tag string) (s seen) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i, ok := p.byTag[tag]
	if !ok {
		return s
	}
	now, there := p.vpp.Tagged(tag)
	s = seen{key: i.key, now: now, damaged: !there || (i.up && !now.AdminUp), news: !i.told || i.link != now.LinkUp}
	i.up, i.told, i.link = i.up || now.AdminUp, true, now.LinkUp
	return s
}

// away tells of every connection that its interfaces are not there.
func (p *Ports) away(changed func(id string)) {
	p.each(changed, func(_ string, i *port) bool {
		i.told = false
		return true
	})
}

// back tells of those that are there after all: VPP was not restarted.
func (p *Ports) back(changed func(id string)) {
	p.each(changed, func(tag string, _ *port) bool {
		_, there := p.vpp.Tagged(tag)
		return there
	})
}

// each tells of the connections of which is holds.
func (p *Ports) each(changed func(id string), is func(tag string, i *port) bool) {
	ids := map[string]bool{}
	p.mu.Lock()
	for tag, i := range p.byTag {
		if is(tag, i) {
			ids[idOf(tag)] = true
		}
	}
	p.mu.Unlock()
	for id := range ids {
		changed(id)
	}
}

// Add notes that the interface with this tag is finished. How its link is, is told when it is
// joined, or with what its connection comes to.
func (p *Ports) Add(tag, key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i, _ := p.vpp.Tagged(tag)
	if i.LinkUp && p.paced() {
		p.Pacer.adopt(tag, i.Index)
	}
	p.byTag[tag] = &port{key: key, up: i.AdminUp}
}

// Drop notes that an interface is about to be deleted.
func (p *Ports) Drop(tag string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.byTag, tag)
}

// Clear notes that nothing is known.
func (p *Ports) Clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.byTag)
}
