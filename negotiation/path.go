package negotiation

import (
	"cmp"
	"math/bits"
	"slices"

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
	of                       taken
	score                    score
}

// taken are the offers of a path, and what is between them.
type taken struct {
	client, endpoint, tunnel *models.Offer
	direct                   bool // two ends of one mechanism are linked
	placed                   bool // a tunnel is itself the workload's interface on this node
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
		for _, of := range n.links(c.offers, e.offers, n.direct(c, e)) {
			n.try(path{client: c, endpoint: e, of: of})
		}
		return
	}
	for k := range n.tunnels.entries {
		t := &n.tunnels.entries[k]
		if t.why != "" {
			continue
		}
		far := n.links(t.far, e.offers, false)
		if len(far) == 0 {
			continue
		}
		for _, near := range n.links(c.offers, t.offers, false) {
			// What is between the endpoint and the tunnel is for its own node to say.
			of := taken{client: near.client, tunnel: near.endpoint, endpoint: far[0].endpoint, placed: near.placed}
			n.try(path{client: c, endpoint: e, tunnel: t, of: of})
		}
	}
}

// links are the ways between two mechanisms on one node, those with a forwarder before
// those that place a tunnel; with the policy for a forwarder, only the former if there are.
func (n *negotiation) links(as, bs []*models.Offer, direct bool) []taken {
	var joined, placed []taken
	for _, a := range as {
		for _, b := range bs {
			t := taken{client: a, endpoint: b, direct: direct && a == b && a.GetDirect()}
			switch {
			case t.direct, joins(a, b):
				joined = append(joined, t)
			case places(a, b):
				t.placed = true
				placed = append(placed, t)
			}
		}
	}
	if n.request.Forwarder && len(joined) > 0 {
		return joined
	}
	return append(joined, placed...)
}

// direct says whether two ends on one node need no forwarder and may have none.
func (n *negotiation) direct(c, e *entry) bool {
	if c.name != e.name || n.request.Forwarder && anyJoins(c.offers, e.offers) {
		return false
	}
	return slices.ContainsFunc(c.offers, func(o *models.Offer) bool {
		return o.GetDirect() && (n.request.Direct || !o.GetSharedMemory())
	})
}

// joins says whether a node's dataplane can cross-connect two of its offers, or put the one
// into the bridge that is the other.
func joins(a, b *models.Offer) bool {
	into := func(a, b *models.Offer) bool { return b.GetClass() == Bridge && a.GetBridges() }
	return (a.GetJoins() && b.GetJoins() || into(a, b) || into(b, a)) && a.GetDataplane() == b.GetDataplane()
}

func anyJoins(as, bs []*models.Offer) bool {
	return slices.ContainsFunc(as, func(a *models.Offer) bool {
		return slices.ContainsFunc(bs, func(b *models.Offer) bool { return joins(a, b) })
	})
}

// places says whether one of two offers of a node is a tunnel that can itself be the
// other's interface.
func places(a, b *models.Offer) bool {
	return a.GetPlaces() && b.GetPlaces() && a.GetDataplane() == b.GetDataplane() &&
		(a.GetClass() == Remote) != (b.GetClass() == Remote)
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
	shares := func(own, other *models.Offer) bool {
		return !own.GetSharedMemory() || n.oneNode && other.GetSharedMemory()
	}
	var s [8]uint8
	s[preferClient], s[preferEndpoint] = p.client.pref, p.endpoint.pref
	s[reach] = bit(n.request.Direct && !p.of.direct && !p.of.placed)<<1 | bit(!shares(p.of.client, p.of.endpoint))
	s[clientOrder] = p.client.index
	s[sameType] = bit(p.client.name != p.endpoint.name)<<1 | bit(!shares(p.of.endpoint, p.of.client))
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
