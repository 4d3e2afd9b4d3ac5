package vppapi

import (
	"context"
	"sync"
	"time"
)

// Pacer has VPP poll those adaptive interfaces that are busy, and no others. In adaptive mode
// VPP itself polls in a rush, but the peer of a shared memory interface goes on to wake it for
// every burst (memif_interface_rx_mode_change in VPP's memif plugin leaves its rings so): a
// system call at both ends, which costs a sixth of what can be carried.
type Pacer struct {
	vpp   *Client
	stats *Stats

	mu    sync.Mutex
	paces map[string]*pace // by the interface's tag
	taken time.Time        // of the last look
}

// When VPP polls an interface, and stops.
const (
	lookEvery = time.Second
	busyAt    = 20_000 // packets a second that come in
	quietAt   = 2_000
	patience  = 5 // looks in a row at which it was quiet
)

// pace is how much comes in at an interface.
type pace struct {
	at      Index
	adopted bool   // its mode is that of an agent before this one
	counted bool   // packets is known
	packets uint64 // that had come in by the last look
	polled  bool
	quiet   int // looks in a row
}

// NewPacer returns a Pacer that does nothing until Run.
func NewPacer(vpp *Client, stats *Stats) *Pacer {
	return &Pacer{vpp: vpp, stats: stats, paces: map[string]*pace{}}
}

// Run looks once a second until ctx ends.
func (p *Pacer) Run(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			p.look(ctx)
		}
	}
}

// begin follows an interface that has just been made adaptive.
func (p *Pacer) begin(tag string, at Index) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.paces[tag] = &pace{at: at}
}

// adopt follows an interface that an agent before this one has left.
func (p *Pacer) adopt(tag string, at Index) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a := p.paces[tag]; a == nil || a.at != at {
		p.paces[tag] = &pace{at: at, adopted: true}
	}
}

// look has VPP change the modes of those interfaces whose traffic asks for it.
func (p *Pacer) look(ctx context.Context) {
	if p.idle() || p.learn(ctx) != nil {
		return
	}
	for at, mode := range p.changes() {
		if err := p.vpp.SetRxMode(ctx, at, mode); err != nil {
			p.vpp.log.Debug("rx-mode was not set", "interface", at, "err", err)
		}
	}
}

// idle tells whether there is nothing to look at.
func (p *Pacer) idle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.paces) == 0
}

// learn finds out which of the adopted interfaces VPP polls.
func (p *Pacer) learn(ctx context.Context) error {
	p.mu.Lock()
	var unknown []*pace
	for _, a := range p.paces {
		if a.adopted {
			unknown = append(unknown, a)
		}
	}
	p.mu.Unlock()
	if unknown == nil {
		return nil
	}
	queues, err := p.vpp.Queues(ctx, All)
	if err != nil {
		return err
	}
	polled := map[Index]bool{}
	for _, q := range queues {
		polled[q.At] = polled[q.At] || q.Mode == Polling
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range unknown {
		a.adopted, a.polled = false, polled[a.at]
	}
	return nil
}

// changes are the interfaces whose mode is to change.
func (p *Pacer) changes() map[Index]RxMode {
	counters, _, err := p.stats.recent()
	if err != nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	past := time.Since(p.taken)
	p.taken = time.Now()
	changes := map[Index]RxMode{}
	for tag, a := range p.paces {
		i, ok := p.vpp.Tagged(tag)
		if !ok || i.Index != a.at || !i.LinkUp || int(a.at) >= len(counters) {
			delete(p.paces, tag) // it is followed again when its link comes up
			continue
		}
		if mode, change := a.next(counters[a.at].RxPackets, past); change {
			changes[a.at] = mode
		}
	}
	return changes
}

// next notes how many packets have come in by now, and says which mode follows from that, if
// another.
func (a *pace) next(packets uint64, past time.Duration) (mode RxMode, change bool) {
	rate := float64(packets-min(packets, a.packets)) / past.Seconds()
	known := a.counted
	a.packets, a.counted = packets, true
	switch {
	case !known:
		return 0, false
	case rate >= quietAt:
		a.quiet = 0
	default:
		a.quiet++
	}
	switch {
	case !a.polled && rate >= busyAt:
		a.polled = true
		return Polling, true
	case a.polled && a.quiet >= patience:
		a.polled = false
		return Adaptive, true
	}
	return 0, false
}
