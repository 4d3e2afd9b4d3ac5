package manager

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"github.com/networkservicemesh/api/pkg/api/networkservice/mechanisms/cls"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"go.patchbay.dev/models"
)

// Identity makes the credentials by which the agent of another node is dialled.
type Identity interface {
	Client(node string) credentials.TransportCredentials
}

// hop is where a request goes next: to an endpoint on this node, or to the agent of the
// endpoint's node.
type hop struct {
	endpoint *models.Endpoint
	url      string        // of the endpoint, or nodeURL
	node     *models.Agent // of the other node; nil: the endpoint is here
	offers   []string      // mechanism types to offer it, best first
}

// bridge is the bridge of this node that it is; empty: it is none.
func (h *hop) bridge() string {
	if name, ok := bridgeOf(h.url); ok {
		return name
	}
	return ""
}

const nodeScheme = "node://"

// nodeURL stands for the agent of another node, wherever it is reached now.
func nodeURL(node string) string { return nodeScheme + node }

func nodeOf(url string) (node string, ok bool) { return strings.CutPrefix(url, nodeScheme) }

// hopTo is the next hop on the way to an endpoint. An agent that has a half of this
// connection is waited for: it may be restarting.
func (m *Manager) hopTo(ctx context.Context, r *request, e *models.Endpoint) (*hop, error) {
	if m.here(e) {
		return &hop{endpoint: e, url: e.Url}, nil
	}
	next := &hop{endpoint: e, url: nodeURL(e.Node), node: m.nodes.get(e.Node)}
	if why := m.links.lost(next.url); why != "" {
		return nil, status.Error(codes.Unavailable, why)
	}
	if next.node == nil && r.record.GetRequest().GetEndpointUrl() == next.url {
		next.node = m.nodes.await(ctx, e.Node)
	}
	if next.node == nil {
		return nil, status.Errorf(codes.Unavailable, "node %s is gone", e.Node)
	}
	if err := m.reach(next.node); err != nil {
		return nil, err
	}
	return next, nil
}

// Reach says what keeps this agent from asking that of another node for connections; nil:
// nothing that is known.
func (m *Manager) Reach(other *models.Agent) error {
	if why := m.links.lost(nodeURL(other.Node)); why != "" {
		return status.Error(codes.Unavailable, why)
	}
	return m.reach(other)
}

// reach is Reach as far as the configuration of both goes.
func (m *Manager) reach(other *models.Agent) error {
	switch {
	case m.Tunnels == nil || m.Identity == nil:
		return status.Errorf(codes.FailedPrecondition, "it is on node %s, and this node has no identity for other nodes: set grpc.tls here", other.Node)
	case other.Url == "":
		return status.Errorf(codes.FailedPrecondition, "node %s is reached by no other: set grpc.listen with tcp:// and grpc.tls there", other.Node)
	}
	return nil
}

// dialNode connects to the agent of another node, by the address that it publishes when
// it is dialled, and to no other agent than that.
func (m *Manager) dialNode(node string) (*grpc.ClientConn, error) {
	if m.Identity == nil {
		return nil, status.Errorf(codes.FailedPrecondition, "node %s cannot be reached without an identity: set grpc.tls", node)
	}
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		address, err := m.addressOf(node)
		if err != nil {
			return nil, err
		}
		return (&net.Dialer{}).DialContext(ctx, "tcp", address)
	}
	return grpc.NewClient("passthrough:///"+node, append(dialOptions(dialTimeout), grpc.WithTransportCredentials(m.Identity.Client(node)),
		grpc.WithContextDialer(dial), grpc.WithNoProxy())...)
}

// dialTimeout bounds how long a node that does not answer holds up a request that has
// other endpoints to go to.
const dialTimeout = 2 * time.Second

func (m *Manager) addressOf(node string) (string, error) {
	address, ok := strings.CutPrefix(m.nodes.url(node), "tcp://")
	if !ok {
		return "", fmt.Errorf("where node %s is reached is not known", node)
	}
	return address, nil
}

// metaClock carries the caller's clock between agents, so that times on a path can be read
// by another: the two may be minutes apart.
const metaClock = "patchbay-clock"

// askAgent requests the connection from the agent of the endpoint's node. A refresh names
// the tunnel that there is; where that will not do any more, and for a new connection,
// what this node can do is proposed.
func (m *Manager) askAgent(ctx context.Context, cc *grpc.ClientConn, r *request, next *hop) (*answer, error) {
	ctx = metadata.AppendToOutgoingContext(ctx, metaClock, time.Now().Format(time.RFC3339Nano))
	known := r.record.GetEndpoint().GetMechanism()
	if r.record.GetRequest().GetEndpointUrl() == next.url && slices.Contains(next.offers, known.GetType()) {
		a, err := m.call(ctx, cc, r, next, remoteToNSM(known), nil, grpc.WaitForReady(true))
		if status.Code(err) == codes.Unavailable {
			// The connection to an agent that restarts ends while a request is in it.
			a, err = m.call(ctx, cc, r, next, remoteToNSM(known), nil, grpc.WaitForReady(true))
		}
		if status.Code(err) != codes.FailedPrecondition {
			return a, err
		}
	}
	proposed, err := m.Tunnels.Propose(r.id, next.offers, next.node, r.conn.Payload)
	if err != nil {
		return nil, status.Errorf(codes.FailedPrecondition, "no tunnel to node %s: %v", next.node.Node, err)
	}
	var preferences []*networkservice.Mechanism
	for _, p := range proposed {
		preferences = append(preferences, remoteToNSM(p))
	}
	return m.call(ctx, cc, r, next, nil, preferences)
}

// agreed gives the tunnel that the other agent has answered its form in a record.
func (m *Manager) agreed(r *request, next *hop, a *answer) (*models.Mechanism, error) {
	in := a.conn.GetMechanism()
	if in.GetCls() != cls.REMOTE {
		return nil, fmt.Errorf("node %s answered with mechanism %s of class %q, which reaches no other node", next.node.Node, in.GetType(), in.GetCls())
	}
	out := &models.Mechanism{Type: in.GetType(), Parameters: maps.Clone(in.GetParameters())}
	if r.record.GetRequest().GetEndpointUrl() == next.url && proto.Equal(out, r.record.Endpoint.Mechanism) {
		return out, nil
	}
	if err := m.Tunnels.Agreed(r.id, out, next.node); err != nil {
		return nil, fmt.Errorf("mechanism %s of node %s: %w", out.Type, next.node.Node, err)
	}
	return out, nil
}

// remoteToNSM is a tunnel's form on the wire.
func remoteToNSM(in *models.Mechanism) *networkservice.Mechanism {
	return &networkservice.Mechanism{Cls: cls.REMOTE, Type: in.GetType(), Parameters: maps.Clone(in.GetParameters())}
}

// skewOf is how much this node's clock is ahead of the calling agent's.
func skewOf(ctx context.Context) (time.Duration, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	t := md.Get(metaClock)
	if len(t) == 0 {
		return 0, nil
	}
	at, err := time.Parse(time.RFC3339Nano, t[0])
	if err != nil {
		return 0, status.Errorf(codes.InvalidArgument, "metadata %s %q is not a time as in RFC 3339", metaClock, t[0])
	}
	return time.Since(at), nil
}

// shift moves the times of a path from one clock to another.
func shift(p *networkservice.Path, by time.Duration) {
	for _, s := range p.GetPathSegments() {
		if s.GetExpires() != nil {
			s.Expires = timestamppb.New(s.Expires.AsTime().Add(by))
		}
	}
}

// underlay is the MTU of the path to another node, 0 if neither says one.
func (m *Manager) underlay(other *models.Agent) uint32 {
	own, theirs := m.Agent().GetMtu(), other.GetMtu()
	if own == 0 || theirs != 0 && theirs < own {
		return theirs
	}
	return own
}
