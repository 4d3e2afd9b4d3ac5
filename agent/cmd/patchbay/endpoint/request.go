package endpoint

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"github.com/networkservicemesh/api/pkg/api/networkservice/mechanisms/cls"
	"github.com/networkservicemesh/api/pkg/api/networkservice/mechanisms/common"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"go.patchbay.dev/plugins/fdpass"
)

// Request accepts a connection, or refreshes one: the same caller keeps its interface
// name and addresses. The namespace's descriptor goes out with the reply.
func (s *Server) Request(ctx context.Context, in *networkservice.NetworkServiceRequest) (*networkservice.Connection, error) {
	conn := in.GetConnection().Clone()
	caller, err := callerOf(conn)
	if err != nil {
		return nil, err
	}
	if conn.NetworkService != s.Service {
		return nil, status.Errorf(codes.NotFound, "this endpoint serves network service %q, not %q", s.Service, conn.NetworkService)
	}
	mechanism, err := s.mechanism(conn.Mechanism, in.MechanismPreferences)
	if err != nil {
		return nil, err
	}
	if !outside[mechanism.Type] {
		url, err := s.passNetns(ctx)
		if err != nil {
			return nil, err
		}
		mechanism.Parameters[common.InodeURL] = url
	}
	if caller.Expires == nil {
		caller.Expires = timestamppb.New(time.Now().Add(lifetime))
	}
	if time.Until(caller.Expires.AsTime()) <= 0 {
		return nil, status.Errorf(codes.InvalidArgument, "connection.path segment %d expired at %s", conn.Path.Index, caller.Expires.AsTime().Format(time.RFC3339))
	}
	return s.admit(ctx, conn, caller, mechanism)
}

// outside are the mechanisms that are no interface of the kernel in a namespace: a socket, or
// nothing at all.
var outside = map[string]bool{"MEMIF": true, "VHOST_USER": true, "NOOP": true}

// callerOf is the path segment of the one who calls.
func callerOf(conn *networkservice.Connection) (*networkservice.PathSegment, error) {
	caller := conn.GetCurrentPathSegment()
	switch {
	case caller.GetId() == "":
		return nil, status.Error(codes.InvalidArgument, "connection.path has no segment of its caller with an id")
	case conn.Id != "" && conn.Id != caller.Id:
		return nil, status.Errorf(codes.InvalidArgument, "connection.id %q differs from the id %q of its path segment %d", conn.Id, caller.Id, conn.Path.Index)
	}
	return caller, nil
}

// mechanism takes the one that is settled already, else the first that is accepted.
func (s *Server) mechanism(settled *networkservice.Mechanism, preferences []*networkservice.Mechanism) (*networkservice.Mechanism, error) {
	if settled != nil {
		preferences = []*networkservice.Mechanism{settled}
	}
	var asked []string
	for _, m := range preferences {
		if !slices.Contains(s.Mechanisms, m.GetType()) {
			asked = append(asked, m.GetType())
			continue
		}
		out := &networkservice.Mechanism{Cls: m.Cls, Type: m.Type, Parameters: maps.Clone(m.Parameters)}
		if out.Cls == "" {
			out.Cls = cls.LOCAL
		}
		if out.Parameters == nil {
			out.Parameters = map[string]string{}
		}
		for key, value := range map[string]string{"pool": s.Pool, common.DeviceTokenIDKey: s.Token} {
			if value != "" {
				out.Parameters[key] = value
			}
		}
		return out, nil
	}
	return nil, status.Errorf(codes.FailedPrecondition, "no mechanism in common: this endpoint accepts %v, asked were %v", s.Mechanisms, asked)
}

// passNetns sends the namespace's descriptor ahead of the reply and gives its URL.
func (s *Server) passNetns(ctx context.Context) (string, error) {
	c, ok := fdpass.FromContext(ctx)
	if !ok {
		return "", status.Error(codes.Unauthenticated, "the caller is not on this endpoint's unix socket")
	}
	url, err := fdpass.URL(s.Netns)
	if err == nil {
		err = c.Send(s.Netns)
	}
	if err != nil {
		return "", status.Errorf(codes.Internal, "pass the network namespace: %v", err)
	}
	return url, nil
}

// admit records the connection and composes the reply.
func (s *Server) admit(ctx context.Context, conn *networkservice.Connection, caller *networkservice.PathSegment, mechanism *networkservice.Mechanism) (*networkservice.Connection, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, status.FromContextError(err).Err() // its close may have overtaken it
	}
	c := s.connections[caller.Id]
	if c == nil {
		var err error
		if c, err = s.newConnection(conn, mechanism); err != nil {
			return nil, status.Error(codes.ResourceExhausted, err.Error())
		}
		c.expiry = time.AfterFunc(time.Until(caller.Expires.AsTime()), func() { s.expire(caller.Id, c) })
		s.connections[caller.Id] = c
	}
	c.until = caller.Expires.AsTime()
	c.expiry.Reset(time.Until(c.until))

	if !outside[mechanism.Type] {
		mechanism.Parameters[common.InterfaceNameKey] = c.name
	}
	conn.Mechanism = mechanism
	conn.NetworkServiceEndpointName = s.Name
	conn.State = networkservice.State_UP
	c.fill(conn, s.pools)
	index := conn.Path.Index
	conn.Path.PathSegments = append(conn.Path.PathSegments[:index+1],
		&networkservice.PathSegment{Name: s.Name, Id: c.id, Expires: proto.CloneOf(caller.Expires)})
	conn.Id = caller.Id

	ours := conn.Clone()
	ours.Path.Index, ours.Id = index+1, c.id
	s.tell(c, ours)
	return conn, nil
}

// newConnection gives a connection what it keeps. s.mu is held.
func (s *Server) newConnection(conn *networkservice.Connection, mechanism *networkservice.Mechanism) (*connection, error) {
	ip := conn.GetContext().GetIpContext()
	client, endpoint := prefixes(ip.GetSrcIpAddrs()), prefixes(ip.GetDstIpAddrs())
	if s.Shared {
		endpoint = client
	}
	had := interleave(client, endpoint)
	name, number, err := s.nameFor(mechanism.Parameters[common.InterfaceNameKey])
	if err != nil {
		return nil, err
	}
	pairs, err := s.pairsFor(had, prefixes(ip.GetExcludedPrefixes()))
	if err != nil {
		return nil, err
	}
	return &connection{id: uuid.NewString(), name: name, number: number, pairs: pairs}, nil
}

// prefixes reads addresses and prefixes; what is none cannot be in a pool.
func prefixes(list []string) (out []netip.Prefix) {
	for _, s := range list {
		if p, err := netip.ParsePrefix(s); err == nil {
			out = append(out, p)
		} else if a, err := netip.ParseAddr(s); err == nil {
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	return out
}

// interleave pairs the client's addresses with the endpoint's, in their order.
func interleave(client, endpoint []netip.Prefix) (out []netip.Prefix) {
	for i := range min(len(client), len(endpoint)) {
		out = append(out, client[i], endpoint[i])
	}
	return out
}

// fill sets both ends' addresses, and the route from each to the other, since they share
// no prefix; on a shared link they do. Without pools the context stays as the client wishes.
func (c *connection) fill(conn *networkservice.Connection, pools []*pool) {
	if len(c.pairs) == 0 {
		return
	}
	if conn.Context == nil {
		conn.Context = &networkservice.ConnectionContext{}
	}
	if conn.Context.IpContext == nil {
		conn.Context.IpContext = &networkservice.IPContext{}
	}
	ip := conn.Context.IpContext
	ip.SrcIpAddrs, ip.DstIpAddrs, ip.SrcRoutes, ip.DstRoutes = nil, nil, nil, nil
	for i, p := range c.pairs {
		if pools[i].shared {
			ip.SrcIpAddrs = append(ip.SrcIpAddrs, netip.PrefixFrom(p.client, pools[i].prefix.Bits()).String())
			continue
		}
		client, endpoint := whole(p.client), whole(p.endpoint)
		ip.SrcIpAddrs = append(ip.SrcIpAddrs, client)
		ip.DstIpAddrs = append(ip.DstIpAddrs, endpoint)
		ip.SrcRoutes = append(ip.SrcRoutes, &networkservice.Route{Prefix: endpoint})
		ip.DstRoutes = append(ip.DstRoutes, &networkservice.Route{Prefix: client})
	}
}

// whole is an address as a prefix of its full length.
func whole(a netip.Addr) string { return netip.PrefixFrom(a, a.BitLen()).String() }

// Close ends a connection; one that is not known is closed already.
func (s *Server) Close(_ context.Context, conn *networkservice.Connection) (*emptypb.Empty, error) {
	caller, err := callerOf(conn)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.connections[caller.Id]; c != nil {
		s.remove(caller.Id, c, "closed")
	}
	return &emptypb.Empty{}, nil
}

// expire ends a connection that was not refreshed in time.
func (s *Server) expire(id string, c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.connections[id] == c && time.Until(c.until) <= 0 {
		s.remove(id, c, "expired")
	}
}

// remove gives back what a connection had. s.mu is held.
func (s *Server) remove(id string, c *connection, why string) {
	c.expiry.Stop()
	delete(s.connections, id)
	s.giveBack(c.pairs)
	s.gone(c, why)
}
