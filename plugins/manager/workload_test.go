package manager

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"github.com/networkservicemesh/api/pkg/api/registry"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"go.patchbay.dev/plugins/fdpass"
)

// endpoint is an endpoint of a network service that takes whatever it is offered first.
type endpoint struct {
	networkservice.UnimplementedNetworkServiceServer
	networkservice.UnimplementedMonitorConnectionServer
	t      testing.TB
	name   string
	at     *node
	server *grpc.Server

	mu     sync.Mutex
	conns  map[string]*networkservice.Connection // by the id of its own segment
	asked  int
	refuse error
	parts  func() (parted func()) // if set, called before and after a close is carried out
	told   map[chan *networkservice.ConnectionEvent]bool
	ended  chan struct{}
}

// serve starts an endpoint on a node and registers it. When it returns, all nodes that run and reach etcd know of it.
func (n *node) serve(name, service string) *endpoint {
	n.t.Helper()
	e := &endpoint{t: n.t, name: name, at: n, conns: map[string]*networkservice.Connection{},
		told: map[chan *networkservice.ConnectionEvent]bool{}, ended: make(chan struct{})}
	socket := filepath.Join(n.dir, name+".sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		n.t.Fatal(err)
	}
	e.server = grpc.NewServer(grpc.Creds(fdpass.Credentials()))
	networkservice.RegisterNetworkServiceServer(e.server, e)
	networkservice.RegisterMonitorConnectionServer(e.server, e)
	go e.server.Serve(l)
	n.t.Cleanup(e.die)
	_, err = registry.NewNetworkServiceEndpointRegistryClient(n.dial()).Register(n.t.Context(),
		&registry.NetworkServiceEndpoint{Name: name, NetworkServiceNames: []string{service}, Url: "unix://" + socket})
	if err != nil {
		n.t.Fatal(err)
	}
	for _, other := range n.lab.nodes {
		if other.m.run.Err() == nil && other.etcd.Up() == nil {
			other.hears(e)
		}
	}
	return e
}

// hears waits until a node knows of an endpoint.
func (n *node) hears(e *endpoint) {
	n.t.Helper()
	eventually(n.t, 5*time.Second, n.name+" to hear of "+e.name, func() error {
		if n.m.registry.endpoint(e.name) == nil {
			return errors.New("it has not")
		}
		return nil
	})
}

// die ends the endpoint's process; its registration stays until its lease ends.
func (e *endpoint) die() {
	e.mu.Lock()
	select {
	case <-e.ended:
	default:
		close(e.ended)
	}
	e.mu.Unlock()
	e.server.Stop()
}

func (e *endpoint) Request(ctx context.Context, in *networkservice.NetworkServiceRequest) (*networkservice.Connection, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, status.FromContextError(err).Err() // its close may have overtaken it
	}
	e.asked++
	if e.refuse != nil {
		return nil, e.refuse
	}
	c := in.GetConnection().Clone()
	id := c.Id + "@" + e.name
	if len(c.Path.PathSegments) == int(c.Path.Index)+1 {
		c.Path.PathSegments = append(c.Path.PathSegments, &networkservice.PathSegment{})
	}
	own := c.Path.PathSegments[c.Path.Index+1]
	own.Name, own.Id, own.Expires = e.name, id, c.Path.PathSegments[c.Path.Index].Expires
	if c.Mechanism == nil {
		c.Mechanism = in.MechanismPreferences[0].Clone()
	}
	if c.Context == nil {
		c.Context = &networkservice.ConnectionContext{}
	}
	c.Context.IpContext = &networkservice.IPContext{SrcIpAddrs: []string{"10.9.0.1/24"}, DstIpAddrs: []string{"10.9.0.2/24"}}
	e.conns[id] = c.Clone()
	return c, nil
}

func (e *endpoint) Close(_ context.Context, c *networkservice.Connection) (*emptypb.Empty, error) {
	if e.parts != nil {
		defer e.parts()()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.conns, c.Id+"@"+e.name)
	return &emptypb.Empty{}, nil
}

func (e *endpoint) MonitorConnections(_ *networkservice.MonitorScopeSelector, out networkservice.MonitorConnection_MonitorConnectionsServer) error {
	e.mu.Lock()
	events := make(chan *networkservice.ConnectionEvent, 16)
	e.told[events] = true
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.told, events)
	}()
	initial := &networkservice.ConnectionEvent{Connections: map[string]*networkservice.Connection{}}
	for id, c := range e.conns {
		initial.Connections[id] = c.Clone()
	}
	e.mu.Unlock()
	if err := out.Send(initial); err != nil {
		return err
	}
	for {
		select {
		case ev := <-events:
			if err := out.Send(ev); err != nil {
				return err
			}
		case <-out.Context().Done():
			return nil
		case <-e.ended:
			return fmt.Errorf("endpoint %s ends", e.name)
		}
	}
}

// say tells the agents that watch of a new state of every connection.
func (e *endpoint) say(state networkservice.State) {
	e.mu.Lock()
	defer e.mu.Unlock()
	ev := &networkservice.ConnectionEvent{Type: networkservice.ConnectionEventType_UPDATE, Connections: map[string]*networkservice.Connection{}}
	for id, c := range e.conns {
		c.State = state
		ev.Connections[id] = c.Clone()
	}
	for w := range e.told {
		w <- ev
	}
}

// idle waits until the endpoint has no connection.
func (e *endpoint) idle() {
	e.t.Helper()
	eventually(e.t, 10*time.Second, "endpoint "+e.name+" to be told", func() error {
		e.mu.Lock()
		defer e.mu.Unlock()
		if n := len(e.conns); n != 0 {
			return fmt.Errorf("it has %d connections", n)
		}
		return nil
	})
}

// requests is how often it has been asked.
func (e *endpoint) requests() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.asked
}

// dial connects to the node's agent as a workload does.
func (n *node) dial() *grpc.ClientConn {
	n.t.Helper()
	cc, err := grpc.NewClient("unix://"+n.socket(), grpc.WithTransportCredentials(fdpass.Credentials()), grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { cc.Close() })
	return cc
}

func ask(id, service string) *networkservice.NetworkServiceRequest {
	return &networkservice.NetworkServiceRequest{
		Connection:           &networkservice.Connection{Id: id, NetworkService: service},
		MechanismPreferences: []*networkservice.Mechanism{{Cls: "LOCAL", Type: "KERNEL"}},
	}
}

// request asks the node's agent for a connection.
func (n *node) request(in *networkservice.NetworkServiceRequest) (*networkservice.Connection, error) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), 15*time.Second)
	defer cancel()
	return networkservice.NewNetworkServiceClient(n.dial()).Request(ctx, in)
}

func (n *node) connect(id, service string) *networkservice.Connection {
	n.t.Helper()
	c, err := n.request(ask(id, service))
	if err != nil {
		n.t.Fatal(err)
	}
	return c
}

func (n *node) close(c *networkservice.Connection) {
	n.t.Helper()
	if _, err := networkservice.NewNetworkServiceClient(n.dial()).Close(n.t.Context(), c); err != nil {
		n.t.Fatal(err)
	}
}

func protoEqual(a, b proto.Message) bool { return proto.Equal(a, b) }

// at is a time that far away.
func at(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(time.Now().Add(d)) }
