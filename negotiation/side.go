package negotiation

import (
	"fmt"
	"slices"

	"go.patchbay.dev/models"
)

const (
	client   = "client"
	endpoint = "endpoint"
)

// entry is one mechanism in one place: at an end or as the tunnel.
type entry struct {
	name   string
	offers []*models.Offer // of the end's node, one for each dataplane; of a tunnel: of the client's node
	far    []*models.Offer // of a tunnel: of the endpoint's node
	why    string          // why it cannot be used here; empty: it can
	pref   uint8           // place in the configuration's preferences
	index  uint8           // place among the entries
	best   score           // of the best path that takes it here
}

// side is all that is in play in one place, best first.
type side struct {
	who     string
	node    *models.Agent
	named   bool   // the order is the end's own, not its node's
	only    string // see End.Only
	entries []entry
}

// newEnd lists what is in play at an end and says what of it can be used.
func newEnd(who string, e End, r *Request) side {
	s := side{who: who, node: e.Node, named: len(e.Speaks) > 0, only: e.Only}
	names := e.Speaks
	if e.Only != "" && !slices.Contains(names, e.Only) {
		names = append(slices.Clip(names), e.Only)
	}
	if len(names) == 0 {
		for _, o := range e.Node.GetOffers() {
			if local(o) {
				names = append(names, o.GetType())
			}
		}
	}
	s.add(names, r)
	for i := range s.entries {
		x := &s.entries[i]
		x.offers, x.why = usable(e.Node, x.name, r.Payload)
		if x.why == "" && (who == client || e.Only != "") {
			x.offers, x.why = served(x.offers, slices.Contains(e.Devices, x.name), e.Node)
		}
		switch {
		case s.only != "" && x.name != s.only:
			x.why = s.decided()
		case e.Workload && x.why == "" && !local(x.offers[0]):
			x.why = "it is of class " + x.offers[0].GetClass() + "; a workload uses a mechanism of class " + Local
		}
	}
	return s
}

func local(o *models.Offer) bool { return o.GetClass() == Local || o.GetClass() == "" }

// newTunnels lists what is in play between two nodes.
func newTunnels(r *Request) side {
	near, far := r.Client.Node, r.Endpoint.Node
	s := side{node: near, named: len(r.Tunnels) > 0}
	names := r.Tunnels
	if len(names) == 0 {
		for _, o := range slices.Concat(near.GetOffers(), far.GetOffers()) {
			if o.GetClass() == Remote {
				names = append(names, o.GetType())
			}
		}
	}
	if r.Tunnel != "" && !slices.Contains(names, r.Tunnel) {
		names = append(slices.Clip(names), r.Tunnel)
	}
	s.add(names, r)
	for i := range s.entries {
		x := &s.entries[i]
		if x.offers, x.why = usable(near, x.name, r.Payload); x.why == "" {
			x.far, x.why = usable(far, x.name, r.Payload)
		}
		if x.why == "" {
			x.why = understood(x.offers[0], x.far[0], near, far)
		}
		if x.why == "" && r.Tunnel != "" && x.name != r.Tunnel {
			x.why = nodeName(far) + " took " + r.Tunnel
			if taken := s.find(r.Tunnel); taken.index < x.index {
				x.why = nodeName(near) + " offers " + r.Tunnel + " first"
			}
		}
	}
	return s
}

// add makes an entry of each name, the first of equals.
func (s *side) add(names []string, r *Request) {
	s.entries = make([]entry, 0, len(names))
	for _, name := range names {
		if s.find(name) == nil {
			s.entries = append(s.entries, entry{name: name, best: unreached,
				pref: place(r.Prefer, name), index: small(len(s.entries))})
		}
	}
}

func (s *side) find(name string) *entry {
	for i := range s.entries {
		if s.entries[i].name == name {
			return &s.entries[i]
		}
	}
	return nil
}

// usable finds a node's offers for an end, or says why there is none: those of one type
// differ by their dataplane.
func usable(node *models.Agent, name, payload string) (offers []*models.Offer, why string) {
	why = nodeName(node) + " does not offer it"
	for _, o := range node.GetOffers() {
		switch {
		case o.GetType() != name:
		case o.GetMissing() != "":
			why = nodeName(node) + " " + o.GetMissing()
		case payload != "" && len(o.GetPayloads()) > 0 && !slices.Contains(o.GetPayloads(), payload):
			why = "it does not carry " + payload + " on " + nodeName(node)
		default:
			offers = append(offers, o)
		}
	}
	if len(offers) > 0 {
		why = ""
	}
	return offers, why
}

// served keeps the offers by which an end can have a device of a card, or can have none.
func served(offers []*models.Offer, device bool, node *models.Agent) (kept []*models.Offer, why string) {
	for _, o := range offers {
		if (o.GetDataplane() == models.CardDataplane) == device {
			kept = append(kept, o)
		}
	}
	switch {
	case len(kept) > 0:
		return kept, ""
	case device:
		return nil, nodeName(node) + " has no devices for it"
	}
	return nil, "it needs a device; name a pool, or pass on the device plugin's token"
}

// understood says why two nodes cannot use what both offer as a tunnel between them.
func understood(a, b *models.Offer, near, far *models.Agent) string {
	switch {
	case a.GetClass() != Remote || b.GetClass() != Remote:
		return "it does not reach from node to node"
	case a.GetVersion() != b.GetVersion():
		return fmt.Sprintf("%s has version %d of it, %s version %d", nodeName(near), a.GetVersion(), nodeName(far), b.GetVersion())
	}
	return ""
}

func nodeName(n *models.Agent) string {
	if n.GetNode() == "" {
		return "the node"
	}
	return "node " + n.GetNode()
}

// place is where name stands in a list, or behind all that stand in it.
func place(list []string, name string) uint8 {
	if i := slices.Index(list, name); i >= 0 {
		return small(i)
	}
	return small(len(list))
}

func small(i int) uint8 { return uint8(min(i, 255)) }
