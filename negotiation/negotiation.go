package negotiation

import (
	"fmt"
	"slices"

	"go.patchbay.dev/models"
)

// Classes of mechanisms, as Network Service Mesh spells them (package
// api/pkg/api/networkservice/mechanisms/cls) and [models.Offer] repeats them.
const (
	Local  = "LOCAL"  // between a workload and its node
	Remote = "REMOTE" // between nodes, or spoken by an end that is itself a tunnel device
	Bridge = "BRIDGE" // ours: an end that is no workload, but a bridge of the node
)

// Bounds of what one end may name, against requests that would stall a node.
const (
	MaxMechanisms = 64 // names in one list
	MaxName       = 63 // bytes of a name, which are printable ASCII without spaces
)

// End is one end of a connection, the client or the endpoint.
type End struct {
	// Node is what the end's node offers. Ends whose nodes have the same name share a node.
	Node *models.Agent
	// Speaks names the mechanism types that the end can use, best first. Empty: every LOCAL
	// one that its node offers, in the node's order; that is also how to say that an
	// endpoint has not been asked yet. A REMOTE one counts only when it is named here.
	Speaks []string
	// Only, if set, is the one type that the client insists on, or that the endpoint has
	// answered with. The rest of Speaks is then kept for the reasons.
	Only string
	// Devices names the types with which the end has a device of a card, or asks for one: these
	// are served by dataplane [models.CardDataplane], and the others are not. What an endpoint will
	// answer is not known, and may be either, until Only is set.
	Devices []string
	// Workload: the end is a process on its node, for which only LOCAL mechanisms are any: a
	// tunnel is made between agents, who know each other, and leads where they agree.
	Workload bool
}

// Request is the question.
type Request struct {
	Client, Endpoint End
	// Tunnels between two nodes, best first. Empty: every REMOTE one that the nodes offer, in
	// the order of the client's node.
	Tunnels []string
	// Tunnel, if set, is the one type that the other node has answered with. The rest is then
	// kept for the reasons.
	Tunnel string
	// Payload as in package models. Empty: any will do.
	Payload string
	// Prefer is the configuration's mechanisms.prefer: these types come before all others,
	// in this order. What an end does not speak it does not get by being here.
	Prefer []string
	// Direct is the policy "path: direct": what needs no forwarder comes first, also a tunnel
	// that is itself the workload's interface, and two ends that share memory may do so with
	// nothing in between. Without it, only those link directly that share none, and tunnels
	// are placed only where there is no forwarder, so that it sees and counts their packets.
	Direct bool
	// Forwarder is the policy "path: forwarder": no two ends are linked directly that a
	// forwarder could join.
	Forwarder bool
}

// Decision is the answer.
type Decision struct {
	// Client, Endpoint and Tunnel are the mechanisms taken, as the end's node offers them
	// (Tunnel: the client's node). Tunnel is nil when both ends are on one node.
	Client, Endpoint, Tunnel *models.Offer
	// Direct says that the ends are linked with no forwarder in between: one veth pair, one
	// shared memory socket.
	Direct bool
	// Placed says that a tunnel is itself the workload's interface on the client's node, also
	// with no forwarder in between.
	Placed bool
	// Reasons has a line "TYPE: why" for every mechanism that was in play, each once, those
	// taken first. In play is what an end or Tunnels names, or would by being empty.
	Reasons []string
}

// Decide answers the request. The error is a [*NoneError] when nothing fits; every other
// error says what is wrong with the request itself.
func Decide(r Request) (*Decision, error) {
	n, err := search(r)
	if err != nil {
		return nil, err
	}
	b := n.best
	return &Decision{Client: b.of.client, Endpoint: b.of.endpoint, Tunnel: b.of.tunnel,
		Direct: b.of.direct, Placed: b.of.placed, Reasons: n.reasons()}, nil
}

// Ask returns what to send to the next hop as mechanism preferences, best first: those that
// can be joined with one that the client speaks. The next hop is the endpoint when both ends
// are on one node, else the endpoint's node, which is sent tunnels. What it answers goes
// into Endpoint.Only or Tunnel of the request to [Decide], which then succeeds. Errors are
// those of Decide.
func Ask(r Request) ([]*models.Offer, error) {
	n, err := search(r)
	if err != nil {
		return nil, err
	}
	next := n.endpoint.entries
	if !n.oneNode {
		next = n.tunnels.entries
	}
	reached := slices.DeleteFunc(slices.Clone(next), func(e entry) bool { return e.best == unreached })
	slices.SortStableFunc(reached, func(a, b entry) int { return compare(a.best, b.best) })
	offers := make([]*models.Offer, len(reached))
	for i, e := range reached {
		offers[i] = e.offers[0]
	}
	return offers, nil
}

// check refuses lists that no honest end sends, and names that would garble a reason.
func (r *Request) check() error {
	for _, l := range []struct {
		who   string
		names []string
	}{
		{client, r.Client.Speaks}, {client, only(r.Client.Only)},
		{endpoint, r.Endpoint.Speaks}, {endpoint, only(r.Endpoint.Only)},
		{"tunnels", r.Tunnels}, {"tunnels", only(r.Tunnel)}, {"payload", only(r.Payload)},
	} {
		if len(l.names) > MaxMechanisms {
			return fmt.Errorf("%s: %d mechanisms are named; at most %d", l.who, len(l.names), MaxMechanisms)
		}
		for _, name := range l.names {
			if !validName(name) {
				return fmt.Errorf("%s: %.70q is not a name; write 1–%d printable characters without spaces, like KERNEL", l.who, name, MaxName)
			}
		}
	}
	return nil
}

// only is a list of the one name, if there is one.
func only(name string) []string {
	if name == "" {
		return nil
	}
	return []string{name}
}

func validName(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return s != "" && len(s) <= MaxName
}
