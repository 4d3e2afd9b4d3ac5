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
	key string // of the engine's value
	up  bool   // it was seen up: until it is joined it is not
}

// NewPorts returns an empty set.
func NewPorts(vpp *Client) *Ports { return &Ports{vpp: vpp, byTag: map[string]*port{}} }

// Watch has lost told of values whose interface was deleted or set down by somebody else,
// and changed of connections of which a link came up or went down. Before Client.Start.
func (p *Ports) Watch(lost func(key string), changed func(id string)) {
	p.vpp.Watch(Watcher{
		Down: func(error) { p.all(changed) },
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

// look sees to an interface that has changed, and says whether it is one of these.
func (p *Ports) look(tag string, lost func(key string)) bool {
	i, there := p.vpp.Tagged(tag)
	key, damaged, ok := p.see(tag, there, i.AdminUp)
	switch {
	case damaged:
		lost(key)
	case ok && i.LinkUp:
		p.arrange(tag, i.Index)
	}
	return ok
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

// see notes how an interface is now and says whether somebody has damaged it.
func (p *Ports) see(tag string, there, up bool) (key string, damaged, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i, ok := p.byTag[tag]
	if !ok {
		return "", false, false
	}
	damaged = !there || (i.up && !up)
	i.up = i.up || up
	return i.key, damaged, true
}

// all tells of every connection.
func (p *Ports) all(changed func(id string)) {
	p.mu.Lock()
	var ids []string
	for tag := range p.byTag {
		ids = append(ids, idOf(tag))
	}
	p.mu.Unlock()
	for _, id := range ids {
		changed(id)
	}
}

// Add notes that the interface with this tag is finished.
func (p *Ports) Add(tag, key string) {
	i, _ := p.vpp.Tagged(tag)
	if i.LinkUp && p.paced() {
		p.Pacer.adopt(tag, i.Index)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.byTag[tag] = &port{key, i.AdminUp}
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
