package negotiation

import (
	"cmp"
	"math/bits"

	"go.patchbay.dev/models"
)

// score ranks a path, the smallest is the best. Each byte holds one rule, the first rule in
// the highest: see the constants below.
type score uint64

const unreached = ^score(0)

// The rules, as the number of their byte from the highest.
const (
	preferClient   = iota // the configuration, for the client
	preferEndpoint        // the configuration, for the endpoint
	preferTunnel          // the configuration, for the tunnel
	reach                 // policy direct, then the client's shared memory that is not shared
	clientOrder           // the client's preference
	sameType              // two types, then the endpoint's shared memory that is not shared
	endpointOrder         // the endpoint's preference
	tunnelOrder           // the order of tunnels
)

func compare(a, b score) int { return cmp.Compare(a, b) }

// rule says which rule made b worse than a.
func rule(a, b score) int { return bits.LeadingZeros64(uint64(a^b)) / 8 }

// path is one way to connect the two ends.
type path struct {
	client, endpoint, tunnel *entry // no tunnel on one node
	direct                   bool
	score                    score
}

// negotiation is the whole question as tables, with the best answer found.
type negotiation struct {
	request          *Request
	oneNode          bool
	client, endpoint side
	tunnels          side
	best             path
}

// search finds the best path and, for every entry, the score of the best path with it.
func search(r Request) (*negotiation, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	n := &negotiation{
		request:  &r,
		oneNode:  r.Client.Node.GetNode() == r.Endpoint.Node.GetNode(),
		client:   newEnd(client, r.Client, &r),
		endpoint: newEnd(endpoint, r.Endpoint, &r),
		best:     path{score: unreached},
	}
	if !n.oneNode {
		n.tunnels = newTunnels(&r)
	}
	for i := range n.client.entries {
		for j := range n.endpoint.entries {
			if c, e := &n.client.entries[i], &n.endpoint.entries[j]; c.why == "" && e.why == "" {
				n.connect(c, e)
			}
		}
	}
	if n.best.score == unreached {
		return nil, n.none()
	}
	return n, nil
}

// connect tries every path between two mechanisms.
func (n *negotiation) connect(c, e *entry) {
	if n.oneNode {
		switch direct := n.direct(c, e); {
		case direct, joins(c.offer, e.offer):
			n.try(path{client: c, endpoint: e, direct: direct})
		}
		return
	}
	for k := range n.tunnels.entries {
		if t := &n.tunnels.entries[k]; t.why == "" && joins(c.offer, t.offer) && joins(t.far, e.offer) {
			n.try(path{client: c, endpoint: e, tunnel: t})
		}
	}
}

// direct says whether two ends on one node need no forwarder and may have none.
func (n *negotiation) direct(c, e *entry) bool {
	if n.request.Forwarder && joins(c.offer, e.offer) {
		return false
	}
	return c.name == e.name && c.offer.GetDirect() && (n.request.Direct || !c.offer.GetSharedMemory())
}

// joins says whether a node's dataplane can cross-connect two of its offers.
func joins(a, b *models.Offer) bool {
	return a.GetJoins() && b.GetJoins() && a.GetDataplane() == b.GetDataplane()
}

func (n *negotiation) try(p path) {
	p.score = n.score(p)
	entries := []*entry{p.client, p.endpoint, p.tunnel}
	if n.oneNode {
		entries = entries[:2]
	}
	for _, x := range entries {
		x.best = min(x.best, p.score)
	}
	if p.score < n.best.score {
		n.best = p
	}
}

// score applies the rules to a path.
func (n *negotiation) score(p path) score {
	shares := func(own, other *entry) bool {
		return !own.offer.GetSharedMemory() || n.oneNode && other.offer.GetSharedMemory()
	}
	var s [8]uint8
	s[preferClient], s[preferEndpoint] = p.client.pref, p.endpoint.pref
	s[reach] = bit(n.request.Direct && !p.direct)<<1 | bit(!shares(p.client, p.endpoint))
	s[clientOrder] = p.client.index
	s[sameType] = bit(p.client.name != p.endpoint.name)<<1 | bit(!shares(p.endpoint, p.client))
	s[endpointOrder] = p.endpoint.index
	if p.tunnel != nil {
		s[preferTunnel], s[tunnelOrder] = p.tunnel.pref, p.tunnel.index
	}
	var out score
	for _, b := range s {
		out = out<<8 | score(b)
	}
	return out
}

func bit(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}
