package endpoint

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/networkservicemesh/api/pkg/api/registry"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// registries is the agent's side: it knows network services and tells of every call.
type registries struct {
	registry.UnimplementedNetworkServiceRegistryServer
	services map[string]*registry.NetworkService
}

func (r *registries) Register(_ context.Context, in *registry.NetworkService) (*registry.NetworkService, error) {
	r.services[in.Name] = in
	return in, nil
}

func (r *registries) Find(q *registry.NetworkServiceQuery, out registry.NetworkServiceRegistry_FindServer) error {
	if s := r.services[q.NetworkService.Name]; s != nil {
		return out.Send(&registry.NetworkServiceResponse{NetworkService: s})
	}
	return nil
}

type endpoints struct {
	registry.UnimplementedNetworkServiceEndpointRegistryServer
	registered, unregistered chan *registry.NetworkServiceEndpoint
	lasts                    time.Duration
	fail                     chan error
}

func (e *endpoints) Register(_ context.Context, in *registry.NetworkServiceEndpoint) (*registry.NetworkServiceEndpoint, error) {
	select {
	case err := <-e.fail:
		return nil, err
	default:
	}
	e.registered <- in
	in.ExpirationTime = timestamppb.New(time.Now().Add(e.lasts))
	return in, nil
}

func (e *endpoints) Unregister(_ context.Context, in *registry.NetworkServiceEndpoint) (*emptypb.Empty, error) {
	e.unregistered <- in
	return &emptypb.Empty{}, nil
}

func (e *endpoints) serve(t *testing.T, socket string, services *registries) *grpc.Server {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	registry.RegisterNetworkServiceRegistryServer(g, services)
	registry.RegisterNetworkServiceEndpointRegistryServer(g, e)
	go g.Serve(l)
	t.Cleanup(g.Stop)
	return g
}

func next[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case x := <-c:
		return x
	case <-time.After(patience):
		t.Fatal("in vain waited for " + what)
		panic("unreachable")
	}
}

func TestAnEndpointKeepsItselfRegistered(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "a.sock")
	services := &registries{services: map[string]*registry.NetworkService{}}
	e := &endpoints{registered: make(chan *registry.NetworkServiceEndpoint, 100), unregistered: make(chan *registry.NetworkServiceEndpoint, 1),
		lasts: time.Hour, fail: make(chan error, 1)}
	g := e.serve(t, socket, services)
	cc, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	problems := make(chan error, 100)
	r := &Registration{Agent: cc, Name: "fw", Service: "firewall", Payload: "IP", Labels: map[string]string{"zone": "a"},
		URL: "unix:///run/fw.sock", Lifetime: time.Hour, Timeout: patience, Problem: func(err error) { problems <- err }}

	lasts, err := r.Register(t.Context())
	if err != nil || lasts < 59*time.Minute {
		t.Fatalf("lasts %s, %v", lasts, err)
	}
	in := next(t, e.registered, "the registration")
	if in.Name != "fw" || in.Url != r.URL || in.NetworkServiceNames[0] != "firewall" || in.NetworkServiceLabels["firewall"].Labels["zone"] != "a" {
		t.Errorf("registered as %v", in)
	}
	if s := services.services["firewall"]; s == nil || s.Payload != "IP" {
		t.Errorf("network service %v", s)
	}

	// A network service that is known stays as it is.
	services.services["firewall"] = &registry.NetworkService{Name: "firewall", Matches: []*registry.Match{{}}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.Keep(ctx, 3*time.Millisecond) }()
	next(t, e.registered, "a renewal in time")
	if err := next(t, problems, "word of it"); err != nil {
		t.Error(err)
	}
	if len(services.services["firewall"].Matches) != 1 {
		t.Error("the network service was overwritten")
	}

	// The next renewal is due in 20 minutes: an agent that restarts hears of it at once,
	// and what fails is tried again.
	g.Stop()
	e.fail <- errors.New("etcd is away")
	e.serve(t, socket, services)
	if err := next(t, problems, "the failure"); err == nil {
		t.Error("no failure was told")
	}
	next(t, e.registered, "the renewal with the new agent")
	if err := next(t, problems, "word of it"); err != nil {
		t.Error(err)
	}
	cancel()
	<-done
	if err := r.Unregister(t.Context()); err != nil || next(t, e.unregistered, "the end").Name != "fw" {
		t.Errorf("unregister: %v", err)
	}
}
