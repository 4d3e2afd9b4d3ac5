package workload

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"github.com/networkservicemesh/api/pkg/api/networkservice/mechanisms/common"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"go.patchbay.dev/agent/cmd/patchbay/endpoint"
	"go.patchbay.dev/plugins/fdpass"
)

// patience is how long a test waits for what should come at once or soon.
const patience = 20 * time.Second

// agent stands for the agent: an endpoint speaks the same API. It counts the requests.
type agent struct {
	networkservice.UnimplementedNetworkServiceServer
	networkservice.UnimplementedMonitorConnectionServer
	*endpoint.Server
	refuse    func(*networkservice.NetworkServiceRequest) error
	requests  chan *networkservice.NetworkServiceRequest
	extra     chan *networkservice.ConnectionEvent // said to monitors beside the endpoint's own
	monitored chan struct{}                        // somebody has heard what there was at first
	grpc      *grpc.Server
	once      sync.Once
}

func (a *agent) Request(ctx context.Context, in *networkservice.NetworkServiceRequest) (*networkservice.Connection, error) {
	a.requests <- in
	if a.refuse != nil {
		if err := a.refuse(in); err != nil {
			return nil, err
		}
	}
	return a.Server.Request(ctx, in)
}

func (a *agent) Close(ctx context.Context, in *networkservice.Connection) (*emptypb.Empty, error) {
	return a.Server.Close(ctx, in)
}

func (a *agent) MonitorConnections(in *networkservice.MonitorScopeSelector, out networkservice.MonitorConnection_MonitorConnectionsServer) error {
	return a.Server.MonitorConnections(in, &monitorStream{MonitorConnection_MonitorConnectionsServer: out, a: a})
}

// monitorStream says the extra events after the initial ones.
type monitorStream struct {
	networkservice.MonitorConnection_MonitorConnectionsServer
	a    *agent
	once sync.Once
	mu   sync.Mutex
}

func (s *monitorStream) Send(e *networkservice.ConnectionEvent) error {
	err := s.send(e)
	s.once.Do(func() {
		s.a.monitored <- struct{}{}
		go func() {
			for {
				select {
				case e := <-s.a.extra:
					s.send(e)
				case <-s.Context().Done():
					return
				}
			}
		}()
	})
	return err
}

func (s *monitorStream) send(e *networkservice.ConnectionEvent) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.MonitorConnection_MonitorConnectionsServer.Send(e)
}

func own(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Open("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// start serves an agent on a socket until stop or the end of the test.
func start(t *testing.T, socket string, refuse func(*networkservice.NetworkServiceRequest) error) *agent {
	t.Helper()
	s, err := endpoint.New(endpoint.Options{
		Name: "fw", Service: "firewall", Netns: own(t), Mechanisms: []string{"KERNEL"}, Interface: "nsm%d",
		Prefixes: []netip.Prefix{netip.MustParsePrefix("10.60.0.0/24")}, Changed: func(endpoint.Event) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{Server: s, refuse: refuse, requests: make(chan *networkservice.NetworkServiceRequest, 1000),
		extra: make(chan *networkservice.ConnectionEvent), monitored: make(chan struct{}, 100), grpc: grpc.NewServer(grpc.Creds(fdpass.Credentials()))}
	networkservice.RegisterNetworkServiceServer(a.grpc, a)
	networkservice.RegisterMonitorConnectionServer(a.grpc, a)
	go a.grpc.Serve(l)
	t.Cleanup(a.stop)
	return a
}

func (a *agent) stop() { a.once.Do(func() { a.Server.Stop(); a.grpc.Stop() }) }

func dial(t *testing.T, socket string, o ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient("unix://"+socket, append([]grpc.DialOption{grpc.WithTransportCredentials(fdpass.Credentials())}, o...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return cc
}

func making(t *testing.T, socket string, lifetime time.Duration) (*Workload, chan Event) {
	t.Helper()
	events := make(chan Event, 100)
	return New(Options{
		Agent: dial(t, socket), Service: "firewall", ID: "c1", Name: "client", Netns: own(t), Interface: "nsm0",
		Mechanisms: []string{"MEMIF", "KERNEL", "VXLAN"}, Payload: "IP", Labels: map[string]string{"app": "web"},
		Lifetime: lifetime, Timeout: patience, Changed: func(e Event) { events <- e },
	}), events
}

func connect(t *testing.T, w *Workload) *networkservice.Connection {
	t.Helper()
	conn, err := w.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// keep runs Keep until the end of the test.
func keep(t *testing.T, w *Workload) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.Keep(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
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

func expect(t *testing.T, events <-chan Event, want Kind) Event {
	t.Helper()
	e := next(t, events, "an event")
	if e.What != want {
		t.Fatalf("event %d (%v), want %d", e.What, e.Err, want)
	}
	return e
}

func TestConnectAsksWithEverything(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "a.sock")
	a := start(t, socket, nil)
	w, _ := making(t, socket, time.Minute)
	conn := connect(t, w)
	in := next(t, a.requests, "a request")
	c := in.Connection
	if c.Id != "c1" || c.NetworkService != "firewall" || c.Payload != "IP" || c.Labels["app"] != "web" || c.Mechanism != nil {
		t.Errorf("connection %v", c)
	}
	if s := c.Path.PathSegments; len(s) != 1 || s[0].Name != "client" || s[0].Id != "c1" || s[0].Expires == nil {
		t.Errorf("path %v", c.Path)
	}
	url, _ := fdpass.URL(w.Netns)
	if len(in.MechanismPreferences) != 3 {
		t.Fatalf("mechanisms %v", in.MechanismPreferences)
	}
	for i, want := range []struct{ cls, typ, inode, name string }{{"LOCAL", "MEMIF", "", ""}, {"LOCAL", "KERNEL", url, "nsm0"}, {"REMOTE", "VXLAN", "", ""}} {
		m := in.MechanismPreferences[i]
		if m.Cls != want.cls || m.Type != want.typ || m.Parameters[common.InodeURL] != want.inode || m.Parameters[common.InterfaceNameKey] != want.name {
			t.Errorf("mechanism %d is %v, want %v", i, m, want)
		}
	}
	if conn.Id != "c1" || conn.Path.Index != 0 || w.Connection() != conn {
		t.Errorf("reply %v", conn)
	}
	if err := w.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestKeepRefreshesInTimeWhatWasReplied(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "a.sock")
	a := start(t, socket, nil)
	w, events := making(t, socket, 9*minRefresh)
	conn := connect(t, w)
	next(t, a.requests, "the first request")
	keep(t, w)
	for range 7 { // twice its lifetime
		in := next(t, a.requests, "a refresh")
		if in.Connection.Mechanism.GetParameters()[common.InterfaceNameKey] != conn.Mechanism.Parameters[common.InterfaceNameKey] ||
			len(in.Connection.Path.PathSegments) != 2 || in.Connection.State != networkservice.State_UP {
			t.Errorf("the refresh is not what was replied: %v", in.Connection)
		}
	}
	select {
	case e := <-events:
		t.Errorf("a refresh was told: %v", e)
	default:
	}
}

func TestKeepAsksAgainWhenTheAgentComesBack(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "a.sock")
	first := start(t, socket, nil)
	w, events := making(t, socket, time.Hour)
	conn := connect(t, w)
	keep(t, w)
	next(t, first.monitored, "the monitor")
	first.stop()
	expect(t, events, Away)
	second := start(t, socket, nil)
	in := next(t, second.requests, "a request to the new agent")
	if in.Connection.Id != "c1" || in.Connection.State == networkservice.State_RESELECT_REQUESTED ||
		in.Connection.Context.IpContext.SrcIpAddrs[0] != conn.Context.IpContext.SrcIpAddrs[0] {
		t.Errorf("the request forgot what it had: %v", in.Connection)
	}
	expect(t, events, Up)
}

func TestKeepAsksForAnotherEndpointWhenItsOwnIsGone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		typ  networkservice.ConnectionEventType
		want Kind
	}{
		{"down", networkservice.ConnectionEventType_UPDATE, Down},
		{"closed", networkservice.ConnectionEventType_DELETE, Closed},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			socket := filepath.Join(t.TempDir(), "a.sock")
			a := start(t, socket, nil)
			w, events := making(t, socket, time.Hour)
			conn := connect(t, w)
			next(t, a.requests, "the first request")
			keep(t, w)
			down := conn.Clone()
			down.State = networkservice.State_DOWN
			a.extra <- &networkservice.ConnectionEvent{Type: c.typ, Connections: map[string]*networkservice.Connection{"c1": down}}
			expect(t, events, c.want)
			in := next(t, a.requests, "a request for another endpoint")
			if in.Connection.State != networkservice.State_RESELECT_REQUESTED || in.Connection.NetworkServiceEndpointName != "" || in.Connection.Mechanism != nil {
				t.Errorf("request %v", in.Connection)
			}
			expect(t, events, Up)
		})
	}
}

func TestKeepLetsAConnectionComeUpAgainByItself(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "a.sock")
	a := start(t, socket, nil)
	w, events := making(t, socket, time.Hour)
	conn := connect(t, w)
	next(t, a.requests, "the first request")
	keep(t, w)
	for _, state := range []networkservice.State{networkservice.State_DOWN, networkservice.State_UP} {
		now := conn.Clone()
		now.State = state
		if state == networkservice.State_UP { // the agent has healed it
			now.NetworkServiceEndpointName, now.Context.IpContext.SrcIpAddrs = "fw-2", []string{"10.61.0.1/32"}
		}
		a.extra <- &networkservice.ConnectionEvent{Type: networkservice.ConnectionEventType_UPDATE, Connections: map[string]*networkservice.Connection{"c1": now}}
	}
	expect(t, events, Down)
	up := expect(t, events, Up).Connection
	if up.NetworkServiceEndpointName != "fw-2" || up.Context.IpContext.SrcIpAddrs[0] != "10.61.0.1/32" || up.Id != "c1" || up.Path.Index != 0 {
		t.Errorf("told of what was before: %v", up)
	}
	select {
	case in := <-a.requests:
		t.Errorf("asked all the same: %v", in)
	case <-time.After(minPause + minPause/2):
	}
}

func TestKeepAsksAgainAnAgentThatHasForgotten(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "a.sock")
	first := start(t, socket, nil)
	w, _ := making(t, socket, time.Hour)
	connect(t, w)
	first.stop()
	second := start(t, socket, nil) // before anything monitors
	keep(t, w)
	if in := next(t, second.requests, "a request to the new agent"); in.Connection.Id != "c1" {
		t.Errorf("asked for %v", in.Connection)
	}
}

func TestKeepTriesAgainWhatFailed(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "a.sock")
	n := 0
	a := start(t, socket, func(*networkservice.NetworkServiceRequest) error {
		if n++; n == 2 {
			return status.Error(codes.Unavailable, "etcd is away")
		}
		return nil
	})
	w, events := making(t, socket, 9*minRefresh)
	connect(t, w)
	next(t, a.requests, "the first request")
	keep(t, w)
	if e := expect(t, events, Trouble); status.Convert(e.Err).Message() != "etcd is away" {
		t.Errorf("error %v", e.Err)
	}
	next(t, a.requests, "the refresh that fails")
	if in := next(t, a.requests, "another attempt"); in.Connection.State != networkservice.State_RESELECT_REQUESTED {
		t.Errorf("the second attempt insists on what failed: %v", in.Connection)
	}
}

func TestConnectFailsWithTheAgentsReason(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "a.sock")
	start(t, socket, func(*networkservice.NetworkServiceRequest) error {
		return status.Error(codes.NotFound, "no such service")
	})
	w, _ := making(t, socket, time.Minute)
	if _, err := w.Connect(t.Context()); status.Code(err) != codes.NotFound {
		t.Errorf("error %v", err)
	}
	if err := w.Close(t.Context()); err != nil {
		t.Errorf("close of nothing: %v", err)
	}
	w.Agent = dial(t, socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if _, err := w.Connect(t.Context()); err == nil {
		t.Error("a namespace was passed over a connection that cannot")
	}
}
