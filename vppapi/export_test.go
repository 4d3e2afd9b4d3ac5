package vppapi

import (
	"context"

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

// PlaceOf is what a Placer decides.
var PlaceOf = place
