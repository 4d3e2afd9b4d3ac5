package manager

import (
	"errors"
	"fmt"
	"slices"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.patchbay.dev/models"
	"go.patchbay.dev/negotiation"
)

// question is what a request asks of package negotiation. The endpoint is on this node,
// unless next is the agent of another.
func (m *Manager) question(r *request, next *hop) negotiation.Request {
	node := m.Agent()
	path := m.path(r)
	q := negotiation.Request{
		Client:   negotiation.End{Node: node},
		Endpoint: negotiation.End{Node: node},
		Payload:  r.conn.Payload,
		Prefer:   m.Prefer,
		Direct:   path == models.DirectPath, Forwarder: path == models.ForwarderPath,
	}
	q.Client.Workload, q.Endpoint.Workload = r.peer.agent == nil, true
	if next != nil && next.node != nil {
		q.Endpoint.Node = next.node
	}
	if next != nil && next.bridge() != "" {
		q.Endpoint.Speaks, q.Endpoint.Workload = []string{models.BridgeMechanism}, false
	}
	for _, w := range r.wants {
		q.Client.Speaks = append(q.Client.Speaks, w.record.Type)
		if m.Devices != nil && m.Devices.Asks(w.record, r.conn.NetworkService) {
			q.Client.Devices = append(q.Client.Devices, w.record.Type)
		}
	}
	if r.insist {
		q.Client.Only = r.wants[0].record.Type
	}
	return q
}

// path is the policy for a connection: its network service's or else the node's.
func (m *Manager) path(r *request) string {
	if s, _ := m.registry.service(r.conn.NetworkService); s.GetPath() != "" {
		return s.Path
	}
	return m.Path
}

// offersFor gives the mechanism types to offer the next hop, in order: tunnels to an agent.
func (m *Manager) offersFor(r *request, next *hop) ([]string, error) {
	asks, err := negotiation.Ask(m.question(r, next))
	if err != nil {
		return nil, m.notNegotiated(err)
	}
	types := make([]string, len(asks))
	for i, o := range asks {
		types[i] = o.Type
	}
	return types, nil
}

// decide settles the mechanisms once the next hop has answered with one.
func (m *Manager) decide(r *request, next *hop, answered *networkservice.Mechanism) (*want, *negotiation.Decision, error) {
	if answered.GetType() == "" {
		return nil, nil, errors.New("the endpoint answered with no mechanism")
	}
	q := m.question(r, next)
	if next.node != nil {
		q.Tunnel = answered.Type
	} else {
		q.Endpoint.Only = answered.Type
		if m.Devices != nil && m.Devices.Asks(&models.Mechanism{Type: answered.Type, Parameters: answered.Parameters}, r.conn.NetworkService) {
			q.Endpoint.Devices = []string{answered.Type}
		}
	}
	d, err := negotiation.Decide(q)
	if err != nil {
		return nil, nil, m.notNegotiated(err)
	}
	m.Observer.Negotiation(d.Client.Type, "agreed")
	i := slices.IndexFunc(r.wants, func(w want) bool { return w.record.Type == d.Client.Type })
	return &r.wants[i], d, nil
}

// notNegotiated gives a negotiation's error its gRPC code.
func (m *Manager) notNegotiated(err error) error {
	var none *negotiation.NoneError
	if !errors.As(err, &none) {
		return status.Error(codes.InvalidArgument, fmt.Sprintf("mechanism_preferences: %v", err))
	}
	for _, t := range none.Client.Mechanisms {
		m.Observer.Negotiation(m.counted(t), "none in common")
	}
	return status.Error(codes.FailedPrecondition, err.Error())
}

// counted bounds what becomes a metric's label to the types that this node knows.
func (m *Manager) counted(mechanism string) string {
	if slices.ContainsFunc(m.Agent().GetOffers(), func(o *models.Offer) bool { return o.Type == mechanism }) {
		return mechanism
	}
	return "other"
}
