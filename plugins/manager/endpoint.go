package manager

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"github.com/networkservicemesh/api/pkg/api/networkservice/mechanisms/cls"
	"github.com/networkservicemesh/api/pkg/api/networkservice/mechanisms/memif"
	"google.golang.org/grpc"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"go.patchbay.dev/models"
	"go.patchbay.dev/negotiation"
	"go.patchbay.dev/plugins/fdpass"
)

// closeTimeout bounds how long an endpoint is given to take note of a close.
const closeTimeout = 5 * time.Second

// answer is what an endpoint replied.
type answer struct {
	conn *networkservice.Connection
	peer peer // the endpoint itself, for the descriptors that it passed
}

// ask requests the connection from the next hop.
func (m *Manager) ask(ctx context.Context, cc *grpc.ClientConn, r *request, next *hop) (*answer, error) {
	if next.node != nil {
		return m.askAgent(ctx, cc, r, next)
	}
	if bridge := next.bridge(); bridge != "" {
		return m.askBridge(ctx, bridge, r, next)
	}
	return m.askEndpoint(ctx, cc, r, next)
}

// askEndpoint offers an endpoint the mechanisms that negotiation allows, in order.
func (m *Manager) askEndpoint(ctx context.Context, cc *grpc.ClientConn, r *request, next *hop) (*answer, error) {
	var known *networkservice.Mechanism
	if r.record.GetRequest().GetEndpointUrl() == next.url && slices.Contains(next.offers, r.record.Endpoint.Mechanism.Type) {
		// A refresh names the mechanism, else endpoints choose a new interface name.
		known = mechanismToNSM(r.record.Endpoint.Mechanism)
	}
	var preferences []*networkservice.Mechanism
	for _, t := range next.offers {
		preferences = append(preferences, &networkservice.Mechanism{Cls: cls.LOCAL, Type: t, Parameters: m.hints(r, t)})
	}
	return m.call(ctx, cc, r, next, known, preferences)
}

// call makes the request of the next hop, with a mechanism that there is or preferences.
func (m *Manager) call(ctx context.Context, cc *grpc.ClientConn, r *request, next *hop, known *networkservice.Mechanism,
	preferences []*networkservice.Mechanism, options ...grpc.CallOption) (*answer, error) {
	conn := r.conn.Clone()
	conn.NetworkServiceEndpointName = next.endpoint.Name
	conn.State = networkservice.State_UP
	conn.Mechanism = known
	in := &networkservice.NetworkServiceRequest{Connection: conn, MechanismPreferences: preferences}
	var from grpcpeer.Peer
	out, err := networkservice.NewNetworkServiceClient(cc).Request(ctx, in, append(options, grpc.Peer(&from))...)
	if err != nil {
		return nil, err
	}
	a := &answer{conn: out}
	if c, ok := from.AuthInfo.(*fdpass.Conn); ok {
		a.peer = peer{conn: c, Peer: c.Peer()}
	}
	if len(out.GetPath().GetPathSegments()) < len(conn.Path.PathSegments[:conn.Path.Index+1]) {
		return nil, fmt.Errorf("its reply lost the path of the connection")
	}
	return a, nil
}

// compose makes the record of a connection, and the connection as it is replied, from what the client wants and the
// endpoint answered. Neither is to be changed afterwards.
func (m *Manager) compose(ctx context.Context, r *request, next *hop, a *answer) (x *models.CrossConnect, out *networkservice.Connection, err error) {
	mine, decision, err := m.decide(r, next, a.conn.GetMechanism())
	if err != nil {
		return nil, nil, unfit(err)
	}
	theirs, err := m.theirs(ctx, r, next, a)
	if err != nil {
		return nil, nil, unfit(err)
	}
	out = m.reply(r, next.endpoint, a.conn, mine.nsm)
	packed, err := anypb.New(out)
	if err != nil {
		return nil, nil, err
	}
	x = attachments(out.GetContext())
	x.Id, x.NetworkService, x.Payload, x.Decision = r.id, out.NetworkService, out.Payload, decision.Reasons
	x.Path = pathOf(decision, m.path(r))
	x.Client.Mechanism, x.Endpoint.Mechanism = proto.CloneOf(mine.record), theirs
	if err := m.settleDevices(ctx, r, x, a.peer); err != nil {
		return nil, nil, err
	}
	x.Request = &models.Request{
		Connection:  packed,
		Expires:     out.Path.PathSegments[r.index].Expires,
		Owner:       r.peer.owner(),
		EndpointUrl: next.url,
		Revision:    r.revision,
	}
	if r.told != next.endpoint.Name {
		x.Request.Told = r.told
	}
	if r.record != nil {
		x.Request.Owner = r.record.Request.Owner // root may refresh without taking it over
	}
	return x, out, nil
}

// unfit is why what an endpoint has answered cannot be taken.
func unfit(err error) error { return fmt.Errorf("its answer does not fit: %w", err) }

// theirs is the next hop's mechanism as a record has it.
func (m *Manager) theirs(ctx context.Context, r *request, next *hop, a *answer) (*models.Mechanism, error) {
	if next.node != nil {
		return m.agreed(r, next, a)
	}
	if next.bridge() != "" {
		return &models.Mechanism{Type: a.conn.Mechanism.Type, Parameters: a.conn.Mechanism.Parameters}, nil
	}
	if err := m.ownSocket(r, a.conn.Mechanism); err != nil {
		return nil, err
	}
	out, url, err := m.mechanismFromNSM(a.peer, a.conn.Mechanism)
	if err == nil && url != "" {
		out.Parameters[paramNetns], err = m.namespace(ctx, a.peer, url)
	}
	if err != nil {
		return nil, fmt.Errorf("mechanism %s: %w", a.conn.Mechanism.Type, err)
	}
	return out, nil
}

// pathOf is the path that goes on record: what the policy asks for, as far as the
// decision follows it. A tunnel that is placed is a direct path, by whatever policy.
func pathOf(d *negotiation.Decision, policy string) string {
	if d.Placed {
		return models.DirectPath
	}
	if policy == models.DirectPath && !d.Direct || policy == models.ForwarderPath && d.Direct {
		return ""
	}
	return policy
}

// ownSocket refuses an endpoint that listens on a socket of its own: VPP is the server, on
// sockets that the agent owns, for a server with a full backlog would hold up all of VPP.
func (m *Manager) ownSocket(r *request, answered *networkservice.Mechanism) error {
	socket := answered.GetParameters()[memif.SocketFilename]
	if socket == "" {
		return nil
	}
	if here := m.hints(r, answered.GetType())[memif.SocketFilename]; here != "" && socket != here {
		return fmt.Errorf("it listens on %s %q itself; an endpoint must connect to %q, which it was offered", memif.SocketFilename, socket, here)
	}
	return nil
}

// hints are the parameters that an endpoint is offered with a mechanism: what the node
// settles by itself, such as where its socket will be.
func (m *Manager) hints(r *request, mechanism string) map[string]string {
	path := func() string {
		q := m.question(r, nil)
		q.Endpoint.Only = mechanism
		d, err := negotiation.Decide(q)
		if err != nil {
			return ""
		}
		return pathOf(d, m.path(r))
	}
	if h := m.Records.Hint(mechanism, r.id, models.EndpointSide, path); h != nil {
		return h
	}
	return map[string]string{}
}

// reply is the connection as the client gets it: what the endpoint answered, in the
// caller's place on the path and with the client's own mechanism.
func (m *Manager) reply(r *request, e *models.Endpoint, answered *networkservice.Connection, mine *networkservice.Mechanism) *networkservice.Connection {
	out := r.conn.Clone()
	out.Context = answered.GetContext()
	if out.Context == nil {
		out.Context = &networkservice.ConnectionContext{}
	}
	if len(answered.GetLabels()) > 0 {
		out.Labels = answered.Labels
	}
	out.State = networkservice.State_UP
	out.NetworkServiceEndpointName = e.Name
	out.Mechanism = mine
	upTo := r.index + 2
	out.Path.PathSegments = append(slices.Clone(out.Path.PathSegments[:upTo]), answered.Path.PathSegments[upTo:]...)
	for _, s := range out.Path.PathSegments {
		if s.Expires == nil {
			// A segment without expiry makes NSM's clients refresh in a hot loop.
			s.Expires = out.Path.PathSegments[r.index].Expires
		}
	}
	leave(out, r.index)
	return out
}

// attachments reads what is to be set on the two interfaces from a connection's context.
func attachments(c *networkservice.ConnectionContext) *models.CrossConnect {
	ip, eth := c.GetIpContext(), c.GetEthernetContext()
	client := &models.Attachment{Addresses: ip.GetSrcIpAddrs(), Routes: routes(ip.GetSrcRoutes()), Mac: eth.GetSrcMac()}
	for _, n := range ip.GetIpNeighbors() {
		client.Neighbors = append(client.Neighbors, &models.Neighbor{Address: n.GetIp(), Mac: n.GetHardwareAddress()})
	}
	for _, p := range ip.GetPolicies() {
		client.Policies = append(client.Policies, &models.Policy{From: p.GetFrom(), Protocol: p.GetProto(),
			SourcePort: p.GetSrcPort(), DestinationPort: p.GetDstPort(), Routes: routes(p.GetRoutes())})
	}
	endpoint := &models.Attachment{Addresses: ip.GetDstIpAddrs(), Routes: routes(ip.GetDstRoutes()), Mac: eth.GetDstMac()}
	return &models.CrossConnect{Mtu: c.GetMTU(), Client: client, Endpoint: endpoint}
}

func routes(in []*networkservice.Route) (out []*models.Route) {
	for _, r := range in {
		out = append(out, &models.Route{Prefix: r.GetPrefix(), NextHop: r.GetNextHop()})
	}
	return out
}

// leaveEndpoint tells the endpoint of a record that its connection is closed; it does
// not wait.
func (m *Manager) leaveEndpoint(x *models.CrossConnect) {
	conn, err := replied(x)
	if _, bridge := bridgeOf(x.Request.EndpointUrl); err != nil || x.Request.EndpointUrl == "" || bridge {
		return // a bridge takes back what was on record as that goes
	}
	conn = ours(conn)
	if _, remote := nodeOf(x.Request.EndpointUrl); remote {
		conn.Mechanism = remoteToNSM(x.Endpoint.Mechanism)
	} else {
		conn.Mechanism = mechanismToNSM(x.Endpoint.Mechanism)
	}
	m.closeEndpoint(x.Id, conn, x.Request.EndpointUrl, x.Endpoint.Mechanism.Parameters[paramNetns])
}

// closeEndpoint closes the connection on record under id, as this agent's own path segment
// sees it, at an endpoint, beside the caller's work: an endpoint that hears nothing lets it expire. The
// endpoint gets the descriptor of its own namespace back, netns, without which NSM's
// recvfd waits for it in vain. What is asked of it for the connection afterwards waits.
func (m *Manager) closeEndpoint(id string, conn *networkservice.Connection, url, netns string) {
	if m.run.Err() != nil {
		return
	}
	if bridge, ok := bridgeOf(url); ok {
		m.Bridges.Release(bridge, id)
		return
	}
	end := m.farewells.begin(farewell{url, conn.Id})
	m.done.Go(func() {
		defer end()
		cc, release, err := m.links.use(url)
		if err != nil {
			return
		}
		defer release()
		ctx, cancel := context.WithTimeout(m.run, closeTimeout)
		defer cancel()
		var options []grpc.CallOption
		if _, remote := nodeOf(url); remote {
			options = append(options, grpc.WaitForReady(true)) // it may be restarting
		} else if f, err := m.Namespaces.File(netns); err == nil {
			defer f.Close()
			options = append(options, fdpass.Send(f))
		}
		if _, err := networkservice.NewNetworkServiceClient(cc).Close(ctx, conn, options...); err != nil {
			m.Log.Debug("endpoint did not take the close", "connection", conn.Id, "url", url, "err", clean(err))
		}
	})
}

// mechanismToNSM gives a record's mechanism its NSM form, without what is ours alone.
func mechanismToNSM(in *models.Mechanism) *networkservice.Mechanism {
	out := &networkservice.Mechanism{Cls: cls.LOCAL, Type: in.GetType(), Parameters: maps.Clone(in.GetParameters())}
	if out.Parameters == nil {
		out.Parameters = map[string]string{}
	}
	delete(out.Parameters, paramNetns)
	delete(out.Parameters, paramOwner)
	return out
}
