package lab

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"github.com/networkservicemesh/api/pkg/api/registry"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"go.patchbay.dev/plugins/fdpass"
)

// Endpoint answers connections to a network service with kernel interfaces in its
// namespace and addresses out of 10.0.0.0/8 and fd00::/8, one pair per connection.
type Endpoint struct {
	networkservice.UnimplementedNetworkServiceServer
	networkservice.UnimplementedMonitorConnectionServer
	Name   string
	Net    *Namespace
	t      testing.TB
	socket string
	server *grpc.Server
	mu     sync.Mutex
	hook   Hook
	live   map[string]int // number of the connection by its id here
	next   int
	accept string      // mechanism type that it takes where it is offered; empty: KERNEL
	Closed chan string // ids of connections closed
}

// Hook is called with a request before the endpoint answers it; what it returns other
// than nil, nil is the answer.
type Hook func(ctx context.Context, in *networkservice.NetworkServiceRequest) (*networkservice.Connection, error)

// Intercept has the endpoint call hook with each request from now on; nil: no more.
func (e *Endpoint) Intercept(hook Hook) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.hook = hook
}

// From has the endpoint hand out addresses from the n-th on, so that several endpoints can
// serve one client.
func (e *Endpoint) From(n int) *Endpoint {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.next = n
	return e
}

// Accept has the endpoint take a mechanism other than KERNEL, with the parameters that it
// is offered.
func (e *Endpoint) Accept(mechanism string) *Endpoint {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.accept = mechanism
	return e
}

// offered is the mechanism that the endpoint takes, if it was offered.
func (e *Endpoint) offered(in *networkservice.NetworkServiceRequest) *networkservice.Mechanism {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, m := range append(in.MechanismPreferences, in.GetConnection().GetMechanism()) {
		if e.accept != "" && m.GetType() == e.accept {
			return m.Clone()
		}
	}
	return nil
}

// NewEndpoint serves an endpoint beside an agent; it is not registered yet.
func NewEndpoint(t testing.TB, a *Agent, name string) *Endpoint {
	t.Helper()
	e := &Endpoint{Name: name, Net: NewNamespace(t), t: t, live: map[string]int{}, Closed: make(chan string, 4096),
		socket: filepath.Join(a.Dir, name+".sock")}
	e.Serve()
	t.Cleanup(e.Kill)
	return e
}

// Socket is where the endpoint listens.
func (e *Endpoint) Socket() string { return e.socket }

// Serve listens on the endpoint's socket, again after Kill.
func (e *Endpoint) Serve() {
	e.t.Helper()
	os.Remove(e.socket)
	l, err := net.Listen("unix", e.socket)
	if err != nil {
		e.t.Fatal(err)
	}
	e.server = grpc.NewServer(grpc.Creds(fdpass.Credentials()))
	networkservice.RegisterNetworkServiceServer(e.server, e)
	networkservice.RegisterMonitorConnectionServer(e.server, e)
	go e.server.Serve(l)
}

// Kill ends the server as a crash would: it forgets its connections.
func (e *Endpoint) Kill() {
	e.server.Stop()
	e.mu.Lock()
	defer e.mu.Unlock()
	clear(e.live)
}

// Register registers the endpoint for services, for an hour.
func (e *Endpoint) Register(c *grpc.ClientConn, services ...string) {
	e.t.Helper()
	e.RegisterWith(c, &registry.NetworkServiceEndpoint{NetworkServiceNames: services})
}

// RegisterWith registers the endpoint as in says; name and URL are filled in.
func (e *Endpoint) RegisterWith(c *grpc.ClientConn, in *registry.NetworkServiceEndpoint) *registry.NetworkServiceEndpoint {
	e.t.Helper()
	in.Name, in.Url = e.Name, "unix://"+e.socket
	if in.ExpirationTime == nil {
		in.ExpirationTime = timestamppb.New(time.Now().Add(time.Hour))
	}
	out, err := registry.NewNetworkServiceEndpointRegistryClient(c).Register(context.Background(), in)
	if err != nil {
		e.t.Fatalf("register %s: %v", e.Name, err)
	}
	return out
}

// Request answers a connection.
func (e *Endpoint) Request(ctx context.Context, in *networkservice.NetworkServiceRequest) (*networkservice.Connection, error) {
	e.mu.Lock()
	hook := e.hook
	e.mu.Unlock()
	if hook != nil {
		if out, err := hook(ctx, in); out != nil || err != nil {
			return out, err
		}
	}
	return e.Answer(ctx, in)
}

// Answer is what Request answers without a hook.
func (e *Endpoint) Answer(ctx context.Context, in *networkservice.NetworkServiceRequest) (*networkservice.Connection, error) {
	conn := in.Connection.Clone()
	index := conn.Path.Index
	if next := int(index) + 1; next >= len(conn.Path.PathSegments) {
		conn.Path.PathSegments = append(conn.Path.PathSegments, &networkservice.PathSegment{Name: e.Name, Id: "at-" + e.Name + "-" + conn.Id})
	}
	conn.Path.PathSegments[index+1].Expires = conn.Path.PathSegments[index].Expires
	e.mu.Lock()
	if err := ctx.Err(); err != nil {
		e.mu.Unlock()
		return nil, status.FromContextError(err).Err() // its close may have overtaken it
	}
	n, known := e.live[conn.Id]
	if !known {
		e.next++
		n = e.next
		e.live[conn.Id] = n
	}
	e.mu.Unlock()

	if conn.Mechanism = e.offered(in); conn.Mechanism == nil {
		var err error
		if conn.Mechanism, err = e.kernel(ctx, n); err != nil {
			return nil, err
		}
	}
	if conn.Context == nil {
		conn.Context = &networkservice.ConnectionContext{}
	}
	if ip := conn.Context.IpContext; len(ip.GetSrcIpAddrs()) == 0 {
		if ip == nil {
			ip = &networkservice.IPContext{}
			conn.Context.IpContext = ip
		}
		hi, lo := n>>8&0xff, n&0xff
		ip.SrcIpAddrs = []string{fmt.Sprintf("10.%d.%d.1/32", hi, lo), fmt.Sprintf("fd00:%x::1/128", n)}
		ip.DstIpAddrs = []string{fmt.Sprintf("10.%d.%d.2/32", hi, lo), fmt.Sprintf("fd00:%x::2/128", n)}
	}
	return conn, nil
}

// kernel is an interface in the endpoint's namespace, whose descriptor is sent ahead.
func (e *Endpoint) kernel(ctx context.Context, n int) (*networkservice.Mechanism, error) {
	f, err := os.Open(e.Net.Path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	url, err := fdpass.URL(f)
	if err != nil {
		return nil, err
	}
	if c, ok := fdpass.FromContext(ctx); ok {
		if err := c.Send(f); err != nil {
			return nil, err
		}
	}
	return &networkservice.Mechanism{Cls: "LOCAL", Type: "KERNEL",
		Parameters: map[string]string{"inodeURL": url, "name": fmt.Sprintf("e%d", n)}}, nil
}

// Close forgets a connection.
func (e *Endpoint) Close(_ context.Context, conn *networkservice.Connection) (*emptypb.Empty, error) {
	e.mu.Lock()
	delete(e.live, conn.Id)
	e.mu.Unlock()
	select {
	case e.Closed <- conn.Id:
	default:
	}
	return &emptypb.Empty{}, nil
}

// Live is how many connections the endpoint has.
func (e *Endpoint) Live() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.live)
}

// MonitorConnections says what is there and stays open.
func (e *Endpoint) MonitorConnections(_ *networkservice.MonitorScopeSelector, out networkservice.MonitorConnection_MonitorConnectionsServer) error {
	event := &networkservice.ConnectionEvent{Connections: map[string]*networkservice.Connection{}}
	e.mu.Lock()
	for id := range e.live {
		event.Connections[id] = &networkservice.Connection{Id: id, Path: &networkservice.Path{
			PathSegments: []*networkservice.PathSegment{{Name: "n1", Id: id}}}}
	}
	e.mu.Unlock()
	if err := out.Send(event); err != nil {
		return err
	}
	<-out.Context().Done()
	return out.Context().Err()
}
