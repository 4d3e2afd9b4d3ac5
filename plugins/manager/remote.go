package manager

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"github.com/networkservicemesh/api/pkg/api/networkservice/mechanisms/cls"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"go.patchbay.dev/models"
	"go.patchbay.dev/negotiation"
)

// RegisterPeers adds what agents of other nodes are served to a gRPC server: connections,
// their monitoring, and health. Registries are in etcd, which every agent reads itself.
func (m *Manager) RegisterPeers(s *grpc.Server) {
	networkservice.RegisterNetworkServiceServer(s, m)
	networkservice.RegisterMonitorConnectionServer(s, m)
	healthpb.RegisterHealthServer(s, peerHealth{m.health, m})
}

// identify settles for which node an agent speaks: the caller's path segment has its name,
// and its certificate must have it, too.
func (p *peer) identify(conn *networkservice.Connection, index int) error {
	if p.agent == nil {
		return nil
	}
	if p.node = conn.Path.PathSegments[index].GetName(); !p.agent.Is(p.node) {
		return status.Errorf(codes.PermissionDenied, "connection.path segment %d is of node %q, but the caller's certificate names %v; an agent asks in its own name only", index, p.node, p.agent.Names)
	}
	return nil
}

// enterAgent takes a connection over from the agent of another node: who it is, that the
// request does not go in a circle, and the times on its path by this node's clock.
func (m *Manager) enterAgent(ctx context.Context, r *request) error {
	if err := r.peer.identify(r.conn, r.index); err != nil || r.peer.agent == nil {
		return err
	}
	segments := r.conn.Path.PathSegments
	if i := slices.IndexFunc(segments[:r.index+1], func(s *networkservice.PathSegment) bool { return s.Name == m.Keys.Node }); i >= 0 {
		return status.Errorf(codes.FailedPrecondition, "the request goes in a circle: it has passed node %s already, at connection.path segment %d", m.Keys.Node, i)
	}
	var err error
	if r.skew, err = skewOf(ctx); err != nil {
		return err
	}
	shift(r.conn.Path, r.skew)
	return nil
}

// asked is the one endpoint that an agent may ask for: of this node, since nothing is
// passed on to a third.
func (m *Manager) asked(r *request) ([]*models.Endpoint, error) {
	name := r.conn.NetworkServiceEndpointName
	e := m.registry.endpoint(name)
	switch {
	case name == "":
		return nil, status.Error(codes.InvalidArgument, "connection.network_service_endpoint_name is missing; an agent names the endpoint that it has chosen")
	case e == nil:
		return nil, status.Errorf(codes.Unavailable, "endpoint %s is not registered", name)
	case !m.here(e):
		return nil, status.Errorf(codes.FailedPrecondition, "endpoint %s is on node %s, not on node %s; ask the agent of its node", name, e.Node, m.Keys.Node)
	case !slices.Contains(e.Services, r.conn.NetworkService):
		return nil, status.Errorf(codes.FailedPrecondition, "endpoint %s does not serve network service %q", name, r.conn.NetworkService)
	}
	return []*models.Endpoint{e}, nil
}

// readTunnels settles the tunnel with the agent that calls: the first of its preferences
// that this node can end and can lead on to the endpoint. What a packet in it may measure
// is then known, and the endpoint is told.
func (m *Manager) readTunnels(ctx context.Context, r *request, preferences []*networkservice.Mechanism) error {
	from := m.nodes.await(ctx, r.peer.node)
	switch {
	case from == nil:
		return status.Errorf(codes.Unavailable, "node %s is not known here: its agent does not hold its key in etcd", r.peer.node)
	case m.Tunnels == nil:
		return status.Errorf(codes.FailedPrecondition, "node %s ends no tunnels", m.Keys.Node)
	}
	list := preferences
	if r.conn.Mechanism != nil {
		list, r.insist = []*networkservice.Mechanism{r.conn.Mechanism}, true
	}
	if err := m.settlePayload(r); err != nil {
		return err
	}
	var refused []error
	for i, in := range list {
		if in.GetCls() != cls.REMOTE || in.GetType() == "" {
			return status.Errorf(codes.InvalidArgument, "mechanism_preferences[%d] is %q of class %q; an agent proposes tunnels, of class %s", i, in.GetType(), in.GetCls(), cls.REMOTE)
		}
		w, err := m.accept(r, in, from)
		if err == nil {
			r.wants = []want{*w}
			m.settleMTU(r, from)
			return nil
		}
		if !slices.ContainsFunc(refused, func(e error) bool { return e.Error() == err.Error() }) {
			refused = append(refused, err)
		}
	}
	if len(list) == 0 {
		return status.Error(codes.InvalidArgument, "mechanism_preferences is empty; an agent proposes tunnels")
	}
	return status.Errorf(codes.FailedPrecondition, "node %s takes none of the tunnels proposed: %v", m.Keys.Node, oneLine(refused))
}

// accept takes one proposal if a connection of this node can have it.
func (m *Manager) accept(r *request, in *networkservice.Mechanism, from *models.Agent) (*want, error) {
	r.wants = []want{{nsm: in, record: &models.Mechanism{Type: in.Type, Parameters: maps.Clone(in.Parameters)}}}
	if _, err := negotiation.Ask(m.question(r, nil)); err != nil {
		return nil, err
	}
	taken, err := m.Tunnels.Accept(r.id, r.wants[0].record, from, r.conn.Payload)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", in.Type, err)
	}
	return &want{nsm: remoteToNSM(taken), record: taken}, nil
}

// settleMTU lowers the connection's MTU to what the tunnel leaves of the underlay's.
func (m *Manager) settleMTU(r *request, other *models.Agent) {
	underlay := m.underlay(other)
	if underlay == 0 {
		return
	}
	most := m.Tunnels.MTU(r.wants[0].record, r.conn.Payload, underlay)
	if r.conn.Context == nil {
		r.conn.Context = &networkservice.ConnectionContext{}
	}
	if r.conn.Context.MTU == 0 || r.conn.Context.MTU > most {
		r.conn.Context.MTU = most
	}
}

// releaseHeld gives back what a request has held and not put on record.
func (m *Manager) releaseHeld(id string) {
	if m.Tunnels != nil {
		m.Tunnels.Release(id)
	}
	if m.Devices != nil {
		m.Devices.Release(id)
	}
}

// oneLine joins errors as errors.Join does, on one line.
func oneLine(errs []error) error {
	var text string
	for i, err := range errs {
		if i > 0 {
			text += "; "
		}
		text += clean(err)
	}
	return errors.New(text)
}
