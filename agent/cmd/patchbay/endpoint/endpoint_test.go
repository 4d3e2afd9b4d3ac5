package endpoint

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"github.com/networkservicemesh/api/pkg/api/networkservice/mechanisms/common"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"go.patchbay.dev/plugins/fdpass"
)

// patience is how long a test waits for what should come at once or soon.
const patience = 20 * time.Second

type client struct {
	networkservice.NetworkServiceClient
	monitor networkservice.MonitorConnectionClient
	cc      *grpc.ClientConn
	server  *Server
	events  chan Event
	netns   *os.File
}

// serve runs an endpoint for network service firewall with a few addresses.
func serve(t *testing.T, change func(*Options)) *client {
	t.Helper()
	netns, err := os.Open("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	c := &client{events: make(chan Event, 100), netns: netns}
	o := Options{
		Name: "fw", Service: "firewall", Netns: netns, Mechanisms: []string{"KERNEL"}, Interface: "nsm%d",
		Prefixes: []netip.Prefix{netip.MustParsePrefix("10.60.0.0/29"), netip.MustParsePrefix("fd00::/64")},
		Changed:  func(e Event) { c.events <- e },
	}
	if change != nil {
		change(&o)
	}
	if c.server, err = New(o); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "e.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(grpc.Creds(fdpass.Credentials()))
	c.server.Register(g)
	go g.Serve(l)
	c.cc, err = grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(fdpass.Credentials()))
	if err != nil {
		t.Fatal(err)
	}
	c.NetworkServiceClient = networkservice.NewNetworkServiceClient(c.cc)
	c.monitor = networkservice.NewMonitorConnectionClient(c.cc)
	t.Cleanup(func() { c.cc.Close(); c.server.Stop(); g.Stop(); netns.Close() })
	return c
}

// request is one as the agent sends it: id is that of the agent's own path segment.
func request(id string, lifetime time.Duration) *networkservice.NetworkServiceRequest {
	expires := timestamppb.New(time.Now().Add(lifetime))
	return &networkservice.NetworkServiceRequest{
		Connection: &networkservice.Connection{
			Id: id, NetworkService: "firewall",
			Path: &networkservice.Path{Index: 1, PathSegments: []*networkservice.PathSegment{
				{Name: "client", Id: "c-" + id, Expires: expires}, {Name: "node", Id: id, Expires: expires},
			}},
		},
		MechanismPreferences: []*networkservice.Mechanism{{Cls: "LOCAL", Type: "MEMIF"}, {Cls: "LOCAL", Type: "KERNEL"}},
	}
}

func (c *client) ask(t *testing.T, in *networkservice.NetworkServiceRequest) *networkservice.Connection {
	t.Helper()
	out, err := c.Request(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// link is what a connection got, in short.
func link(c *networkservice.Connection) string {
	ip := c.GetContext().GetIpContext()
	return c.Mechanism.Parameters[common.InterfaceNameKey] + " " + strings.Join(slices.Concat(ip.GetSrcIpAddrs(), ip.GetDstIpAddrs()), " ")
}

const (
	link0 = "nsm0 10.60.0.1/32 fd00::1/128 10.60.0.2/32 fd00::2/128"
	link1 = "nsm1 10.60.0.3/32 fd00::3/128 10.60.0.4/32 fd00::4/128"
)

func TestAReplyHasAllThatTheAgentNeeds(t *testing.T) {
	c := serve(t, nil)
	in := request("a", time.Minute)
	var from peer.Peer
	out, err := c.Request(t.Context(), in, grpc.Peer(&from))
	if err != nil {
		t.Fatal(err)
	}
	if link(out) != link0 || out.Mechanism.Type != "KERNEL" || out.Mechanism.Cls != "LOCAL" {
		t.Errorf("got %s by %v, want %s", link(out), out.Mechanism, link0)
	}
	ip := out.Context.IpContext
	for i, want := range []string{"10.60.0.2/32", "fd00::2/128"} {
		if ip.SrcRoutes[i].Prefix != want || ip.DstRoutes[i].Prefix != ip.SrcIpAddrs[i] {
			t.Errorf("routes %v and %v", ip.SrcRoutes, ip.DstRoutes)
		}
	}
	path := out.Path.PathSegments
	if out.Id != "a" || out.Path.Index != 1 || len(path) != 3 || path[2].Name != "fw" || path[2].Id == "" || path[2].Expires == nil {
		t.Errorf("id %s, path %v", out.Id, out.Path)
	}
	if out.NetworkServiceEndpointName != "fw" || out.State != networkservice.State_UP {
		t.Errorf("endpoint %s, state %s", out.NetworkServiceEndpointName, out.State)
	}
	dev, ino, err := fdpass.ParseURL(out.Mechanism.Parameters[common.InodeURL])
	if err != nil {
		t.Fatal(err)
	}
	passed, _ := fdpass.FromPeer(&from)
	f, err := passed.Receive(t.Context(), dev, ino)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if e := <-c.events; !e.Up || e.Connection.Path.Index != 2 {
		t.Errorf("told %+v", e)
	}
	h, err := healthpb.NewHealthClient(c.cc).Check(t.Context(), &healthpb.HealthCheckRequest{Service: "networkservice.NetworkService"})
	if err != nil || h.Status != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health %v, %v", h, err)
	}
}

func TestARefreshKeepsWhatAConnectionHas(t *testing.T) {
	c := serve(t, nil)
	first := c.ask(t, request("a", time.Minute))
	if got := link(c.ask(t, request("b", time.Minute))); got != link1 {
		t.Errorf("the second connection got %s, want %s", got, link1)
	}
	again := c.ask(t, request("a", time.Hour))
	if link(again) != link0 || again.Path.PathSegments[2].Id != first.Path.PathSegments[2].Id {
		t.Errorf("a client that forgot all got %s, want %s", link(again), link0)
	}
	if left := time.Until(again.Path.PathSegments[2].Expires.AsTime()); left < time.Minute*59 {
		t.Errorf("the refresh lasts %s", left)
	}
	again.Path.PathSegments[1].Expires = timestamppb.New(time.Now().Add(time.Hour))
	if out := c.ask(t, &networkservice.NetworkServiceRequest{Connection: again}); !proto.Equal(timeless(out), timeless(again)) {
		t.Errorf("refresh of what was replied differs:\n%v\n%v", out, again)
	}
	if n := len(c.events); n != 2 {
		t.Errorf("told %d times of two connections", n)
	}
}

func TestWhatIsClosedOrExpiresIsGivenBack(t *testing.T) {
	c := serve(t, nil)
	conn := c.ask(t, request("a", time.Minute))
	c.ask(t, request("b", time.Minute))
	for range 2 { // a second close is none
		if _, err := c.Close(t.Context(), conn); err != nil {
			t.Fatal(err)
		}
	}
	if got := link(c.ask(t, request("c", 300*time.Millisecond))); got != link0 {
		t.Errorf("after a close: %s, want %s", got, link0)
	}
	for _, want := range []string{"", "", "closed", "", "expired"} {
		select {
		case e := <-c.events:
			if e.Reason != want || e.Up != (want == "") {
				t.Fatalf("told %q of %s, want %q", e.Reason, e.Connection.Id, want)
			}
		case <-time.After(patience):
			t.Fatalf("in vain waited for %q", want)
		}
	}
	if got := link(c.ask(t, request("d", time.Minute))); got != link0 {
		t.Errorf("after an expiry: %s, want %s", got, link0)
	}
}

func TestARequestWhoseCallerHasGoneLeavesNothing(t *testing.T) {
	c := serve(t, func(o *Options) { o.Mechanisms = []string{"MEMIF"} })
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	// As a server comes to call it when the close of the request has overtaken it.
	if _, err := c.server.Request(gone, request("a", time.Minute)); status.Code(err) != codes.Canceled {
		t.Errorf("answer %v", err)
	}
	select {
	case e := <-c.events:
		t.Errorf("connection %s came up", e.Connection.Id)
	default:
	}
}

func TestAnEndpointThatRestartsTakesItsConnectionsUpAgain(t *testing.T) {
	before := serve(t, nil)
	before.ask(t, request("a", time.Minute))
	b := before.ask(t, request("b", time.Minute))
	after := serve(t, nil)
	if got := link(after.ask(t, &networkservice.NetworkServiceRequest{Connection: b})); got != link1 {
		t.Errorf("the second connection became %s, want %s", got, link1)
	}
	if got := link(after.ask(t, request("c", time.Minute))); got != link0 {
		t.Errorf("a new one got %s, want %s", got, link0)
	}
	b.Path.PathSegments[1].Id, b.Id = "x", "x"
	if got := link(after.ask(t, &networkservice.NetworkServiceRequest{Connection: b})); got == link1 {
		t.Errorf("two connections share %s", got)
	}
}

func TestRefusals(t *testing.T) {
	with := func(change func(*networkservice.NetworkServiceRequest)) *networkservice.NetworkServiceRequest {
		in := request("a", time.Minute)
		change(in)
		return in
	}
	for _, c := range []struct {
		name string
		in   *networkservice.NetworkServiceRequest
		code codes.Code
		want string
	}{
		{"another service", with(func(in *networkservice.NetworkServiceRequest) { in.Connection.NetworkService = "nat" }),
			codes.NotFound, `serves network service "firewall", not "nat"`},
		{"no mechanism in common", with(func(in *networkservice.NetworkServiceRequest) {
			in.MechanismPreferences = in.MechanismPreferences[:1]
		}), codes.FailedPrecondition, "accepts [KERNEL], asked were [MEMIF]"},
		{"a settled mechanism that is not accepted", with(func(in *networkservice.NetworkServiceRequest) {
			in.Connection.Mechanism = &networkservice.Mechanism{Type: "VXLAN"}
		}), codes.FailedPrecondition, "asked were [VXLAN]"},
		{"no connection", &networkservice.NetworkServiceRequest{}, codes.InvalidArgument, "connection.path"},
		{"a path index beyond the path", with(func(in *networkservice.NetworkServiceRequest) { in.Connection.Path.Index = 7 }),
			codes.InvalidArgument, "connection.path"},
		{"an id that is not the caller's", with(func(in *networkservice.NetworkServiceRequest) { in.Connection.Id = "z" }),
			codes.InvalidArgument, "connection.id"},
		{"a caller that has expired", request("a", -time.Second), codes.InvalidArgument, "expired"},
		{"no address is left", with(func(in *networkservice.NetworkServiceRequest) {
			in.Connection.Context = &networkservice.ConnectionContext{IpContext: &networkservice.IPContext{ExcludedPrefixes: []string{"10.0.0.0/8"}}}
		}), codes.ResourceExhausted, "10.60.0.0/29: no two addresses are free"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serve(t, nil)
			_, err := s.Request(t.Context(), c.in)
			if status.Code(err) != c.code || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %s: %s", err, c.code, c.want)
			}
			if got := link(s.ask(t, request("b", time.Minute))); got != link0 {
				t.Errorf("the refused request kept something: the next got %s", got)
			}
		})
	}
}

func TestOneNameServesOneConnection(t *testing.T) {
	c := serve(t, func(o *Options) { o.Interface, o.Prefixes = "lan", nil })
	out := c.ask(t, request("a", time.Minute))
	if link(out) != "lan " {
		t.Errorf("got %s", link(out))
	}
	if _, err := c.Request(t.Context(), request("b", time.Minute)); status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "lan%d") {
		t.Errorf("error %v", err)
	}
	if _, err := c.Close(t.Context(), out); err != nil {
		t.Fatal(err)
	}
	c.ask(t, request("b", time.Minute))
}

func TestOptionsThatCannotBe(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"no interface": func(o *Options) { o.Interface = "" },
		"two numbers":  func(o *Options) { o.Interface = "a%db%d" },
		"another verb": func(o *Options) { o.Interface = "a%s" },
		"a slash":      func(o *Options) { o.Interface = "a/b" },
		"no mechanism": func(o *Options) { o.Mechanisms = nil },
		"one address":  func(o *Options) { o.Prefixes = []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")} },
		"overlap": func(o *Options) {
			o.Prefixes = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("10.1.0.0/16")}
		},
	} {
		o := Options{Interface: "nsm%d", Mechanisms: []string{"KERNEL"}}
		change(&o)
		if _, err := New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestMonitorsHearOfEveryChange(t *testing.T) {
	c := serve(t, nil)
	a := c.ask(t, request("a", time.Minute))
	stream, err := c.monitor.MonitorConnections(t.Context(), &networkservice.MonitorScopeSelector{
		PathSegments: []*networkservice.PathSegment{{Name: "node"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	other, err := c.monitor.MonitorConnections(t.Context(), &networkservice.MonitorScopeSelector{
		PathSegments: []*networkservice.PathSegment{{Name: "another-node"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if e, err := other.Recv(); err != nil || len(e.Connections) != 0 || e.Type != networkservice.ConnectionEventType_INITIAL_STATE_TRANSFER {
		t.Errorf("a monitor of another node hears %v, %v", e, err)
	}
	hear := func(typ networkservice.ConnectionEventType, id string, state networkservice.State) {
		t.Helper()
		e, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if len(e.Connections) != 1 || e.Type != typ {
			t.Fatalf("heard %v", e)
		}
		for key, conn := range e.Connections {
			if key != conn.Id || conn.Path.PathSegments[1].Id != id || conn.State != state || conn.Path.Index != 2 {
				t.Errorf("heard %v", conn)
			}
		}
	}
	hear(networkservice.ConnectionEventType_INITIAL_STATE_TRANSFER, "a", networkservice.State_UP)
	c.ask(t, request("a", time.Hour)) // changes nothing
	c.ask(t, request("b", time.Minute))
	hear(networkservice.ConnectionEventType_UPDATE, "b", networkservice.State_UP)
	if _, err := c.Close(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	hear(networkservice.ConnectionEventType_DELETE, "a", networkservice.State_DOWN)
}
