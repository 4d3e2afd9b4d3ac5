package negotiation

import (
	"slices"
	"strings"

	"go.patchbay.dev/models"
)

// reasons says why what was taken was taken, then why each of the rest was not.
func (n *negotiation) reasons() []string {
	c, e, t := n.best.client, n.best.endpoint, n.best.tunnel
	told := teller{lines: make([]string, 0, len(n.client.entries)+len(n.tunnels.entries)+1)}
	at, to := nodeName(n.client.node), nodeName(n.endpoint.node)
	switch {
	case n.best.of.direct:
		told.tell(c.name, "both ends on "+at+", linked directly")
	case n.oneNode && c.name == e.name:
		told.tell(c.name, "both ends on "+at+plane(n.best.of.client))
	default:
		told.tell(c.name, "client on "+at+plane(n.best.of.client))
		told.tell(e.name, "endpoint on "+to+plane(n.best.of.endpoint))
	}
	switch {
	case t != nil && n.best.of.placed:
		told.tell(t.name, "tunnel between "+at+" and "+to+", itself the client's interface")
	case t != nil:
		told.tell(t.name, "tunnel between "+at+" and "+to)
	case n.best.of.placed:
		told.tell(c.name, "the tunnel is itself the workload's interface")
	}
	n.others(&told)
	return told.lines
}

func plane(o *models.Offer) string {
	if o.GetDataplane() == "" {
		return ""
	}
	return ", dataplane " + o.GetDataplane()
}

// others gives the reasons for all that was not taken: the client's, the endpoint's, the
// tunnels, each in its order.
func (n *negotiation) others(told *teller) {
	for i := range n.client.entries {
		if x := &n.client.entries[i]; !told.knows(x.name) {
			told.tell(x.name, n.whyNotClient(x))
		}
	}
	for i := range n.endpoint.entries {
		if x := &n.endpoint.entries[i]; !told.knows(x.name) {
			told.tell(x.name, n.whyNotEndpoint(x))
		}
	}
	for i := range n.tunnels.entries {
		if x := &n.tunnels.entries[i]; !told.knows(x.name) {
			told.tell(x.name, n.whyNotTunnel(x))
		}
	}
}

func (n *negotiation) whyNotClient(x *entry) string {
	switch {
	case x.why != "":
		return x.why
	case x.best == unreached:
		return n.unjoined(x, &n.client, &n.endpoint)
	}
	switch r := rule(x.best, n.best.score); r {
	case preferClient, preferEndpoint, preferTunnel:
		return n.preferred(r)
	case reach:
		switch {
		case n.bestIsDirect(x):
			return "policy path direct takes " + n.best.client.name + ", which needs no forwarder"
		case !n.oneNode:
			return "no memory is shared between " + nodeName(n.client.node) + " and " + nodeName(n.endpoint.node)
		}
		return n.endpoint.lacks()
	}
	return n.client.first(n.best.client)
}

// whyNotEndpoint is for what the client does not name.
func (n *negotiation) whyNotEndpoint(x *entry) string {
	switch {
	case x.why != "":
		return x.why
	case x.best == unreached:
		return n.unjoined(x, &n.endpoint, &n.client)
	}
	switch r := rule(x.best, n.best.score); r {
	case preferClient, preferEndpoint, preferTunnel:
		return n.preferred(r)
	case endpointOrder:
		return n.endpoint.first(n.best.endpoint)
	}
	return n.client.lacks()
}

func (n *negotiation) whyNotTunnel(x *entry) string {
	switch {
	case x.why != "":
		return x.why
	case n.client.usable() == "":
		return "client has nothing usable to join it with"
	case n.endpoint.usable() == "":
		return "endpoint has nothing usable to join it with"
	case x.best == unreached:
		return "it cannot be joined with a mechanism at each end"
	}
	switch rule(x.best, n.best.score) {
	case preferTunnel:
		return n.preferred(preferTunnel)
	case reach:
		if n.bestIsDirect(x) {
			return "policy path direct takes " + n.best.tunnel.name + ", which needs no forwarder"
		}
	}
	return n.tunnels.first(n.best.tunnel)
}

// preferred names what the configuration takes instead, by one of the rules that are its.
func (n *negotiation) preferred(rule int) string {
	taken := n.best.client
	switch rule {
	case preferEndpoint:
		taken = n.best.endpoint
	case preferTunnel:
		taken = n.best.tunnel
	}
	return "the configuration prefers " + taken.name
}

// bestIsDirect says whether the policy for a direct path put what was taken before x.
func (n *negotiation) bestIsDirect(x *entry) bool {
	const shift = 8*(7-reach) + 1 // of the policy's bit in a score
	return n.request.Direct && x.best>>shift&1 == 1 && n.best.score>>shift&1 == 0
}

// unjoined says why what own could use was on no path: nothing that other could use joins it.
func (n *negotiation) unjoined(x *entry, own, other *side) string {
	names := other.usable()
	at, to := nodeName(n.client.node), nodeName(n.endpoint.node)
	switch {
	case names == "" && len(other.entries) == 0:
		return nodeName(other.node) + " offers nothing to the " + other.who
	case names == "":
		return other.who + " has nothing usable to join it with"
	case !n.oneNode && n.tunnels.usable() == "":
		return at + " and " + to + " have no tunnel in common"
	case !n.oneNode:
		return at + " and " + to + " cannot join it through " + n.tunnels.usable() + " with " + names
	}
	switch y := other.find(x.name); {
	case onCards(x.offers) && !other.onCards():
		return "its device leads to a card, and " + other.who + " has none"
	case !onCards(x.offers) && other.onCards():
		return other.who + " has a device, which leads to a card, and this has none"
	case y == nil || y.why != "":
		return other.lacks() + ", and " + at + " cannot join it with " + names
	case slices.ContainsFunc(x.offers, (*models.Offer).GetDirect):
		return at + " has no forwarder for it; policy path direct would link both ends directly"
	}
	return at + " cannot join two of it"
}

// onCards says whether all of an entry's offers are those of network cards.
func onCards(offers []*models.Offer) bool {
	return !slices.ContainsFunc(offers, func(o *models.Offer) bool { return o.GetDataplane() != models.CardDataplane })
}

// onCards says whether all that the side can use are devices of network cards.
func (s *side) onCards() bool {
	return !slices.ContainsFunc(s.entries, func(e entry) bool { return e.why == "" && !onCards(e.offers) })
}

// usable names what the side can use.
func (s *side) usable() string {
	var names []string
	for i := range s.entries {
		if s.entries[i].why == "" {
			names = append(names, s.entries[i].name)
		}
	}
	return strings.Join(names, ", ")
}

// decided says that the side has but one mechanism left.
func (s *side) decided() string {
	if s.who == client {
		return "client insists on " + s.only
	}
	return "endpoint chose " + s.only
}

// lacks says that the side does not have a mechanism that the other has.
func (s *side) lacks() string {
	switch {
	case s.only != "":
		return s.decided()
	case s.who == client:
		return "client does not ask for it"
	}
	return "endpoint does not offer it"
}

// first says that the side's order put another mechanism first.
func (s *side) first(taken *entry) string {
	switch {
	case !s.named:
		return nodeName(s.node) + " offers " + taken.name + " first"
	case s.who == "":
		return taken.name + " is preferred"
	}
	return s.who + " prefers " + taken.name
}

// teller collects one line for each mechanism.
type teller struct {
	lines []string
}

// tell adds a line, or to the line of a mechanism that is taken in two places.
func (t *teller) tell(name, why string) {
	if i := t.line(name); i >= 0 {
		t.lines[i] += "; " + why
		return
	}
	t.lines = append(t.lines, name+": "+why)
}

func (t *teller) knows(name string) bool { return t.line(name) >= 0 }

// line finds a mechanism's line. Names have no spaces, so no other name's begins like it.
func (t *teller) line(name string) int {
	return slices.IndexFunc(t.lines, func(l string) bool {
		rest, ok := strings.CutPrefix(l, name)
		return ok && strings.HasPrefix(rest, ": ")
	})
}
