package vppapi

import (
	"context"
	"time"

	"go.fd.io/govpp/api"
)

// Pair is a request and its reply.
type Pair struct{ Request, Reply api.Message }

// Ask sends requests in one write; no refusal of VPP is taken for well.
func (c *Client) Ask(ctx context.Context, pairs ...Pair) error {
	var calls []*exchange
	for _, p := range pairs {
		calls = append(calls, one(p.Request, p.Reply))
	}
	return c.call(ctx, calls...)
}

// Idle tells whether all are placed that were to be.
func (p *Placer) Idle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.running
}

// PlaceOf is what a Placer decides.
var PlaceOf = place

// Pace follows what comes in at an interface, as a Pacer does: Next is told how many packets
// have come in by now, a second after the last time.
type Pace struct{ pace }

// Next is as pace.next.
func (p *Pace) Next(packets uint64) (RxMode, bool) { return p.next(packets, time.Second) }
