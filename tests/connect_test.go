package tests

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"google.golang.org/protobuf/types/known/timestamppb"

	"go.patchbay.dev/tests/lab"
)

// setup is what most stories need: an agent, a client with a namespace, an endpoint that
// serves "fw".
type setup struct {
	agent    *lab.Agent
	client   *lab.Client
	ns       *lab.Namespace
	endpoint *lab.Endpoint
}

func newSetup(t *testing.T, options ...lab.Option) *setup {
	t.Helper()
	a := lab.StartAgent(t, options...)
	c := a.Dial()
	s := &setup{agent: a, client: lab.NewClient(t, c), ns: lab.NewNamespace(t), endpoint: lab.NewEndpoint(t, a, "fw-1")}
	s.endpoint.Register(c, "fw")
	return s
}

// A typing error among the preferences is said, and what the node has is not.
func TestPreferencesThatTheNodeDoesNotHave(t *testing.T) {
	a := lab.StartAgent(t, lab.With("mechanisms.prefer", "[KERNEL, VXLNA]"))
	var said []string
	for line := range strings.Lines(a.Log()) {
		if strings.Contains(line, "mechanisms.prefer") {
			said = append(said, line)
		}
	}
	if len(said) != 1 || !strings.Contains(said[0], "mechanism=VXLNA") || !strings.Contains(said[0], "KERNEL") {
		t.Errorf("said %q", said)
	}
}

func TestRequestMakesPacketsFlow(t *testing.T) {
	s := newSetup(t)
	conn := s.client.Connect("c1", "fw", s.ns, "nsm0")
	s.ns.Ping(t, "10.0.1.2")
	s.ns.Ping(t, "fd00:1::2")
	s.endpoint.Net.Ping(t, "10.0.1.1")

	if conn.Id != "c1" || conn.Path.Index != 0 || len(conn.Path.PathSegments) != 3 {
		t.Errorf("the reply is not the caller's view: id %q, path %v", conn.Id, conn.Path)
	}
	for i, p := range conn.Path.PathSegments {
		if p.Expires == nil || p.Id == "" || p.Name == "" {
			t.Errorf("path segment %d lacks something: %v", i, p)
		}
	}
	if m := conn.Mechanism; m.GetType() != "KERNEL" || m.Parameters["name"] != "nsm0" || !strings.HasPrefix(m.Parameters["inodeURL"], "inode://") {
		t.Errorf("mechanism %v", conn.Mechanism)
	}
	if got := s.ns.Interfaces(t); !slices.Equal(got, []string{"nsm0"}) {
		t.Errorf("interfaces of the client: %v", got)
	}

	s.client.Disconnect(conn)
	if got := append(s.ns.Interfaces(t), s.endpoint.Net.Interfaces(t)...); len(got) != 0 {
		t.Errorf("left over after close: %v", got)
	}
	select {
	case <-s.endpoint.Closed:
	case <-time.After(5 * time.Second):
		t.Error("the endpoint was not told of the close")
	}
	if left := s.agent.Etcdctl("get", "--prefix", "--keys-only", "/patchbay/v1/nodes/"); strings.TrimSpace(left) != "" {
		t.Errorf("left in etcd after close: %s", left)
	}
}

func TestContextIsSetOnTheInterfaces(t *testing.T) {
	s := newSetup(t)
	s.endpoint.Intercept(func(ctx context.Context, in *networkservice.NetworkServiceRequest) (*networkservice.Connection, error) {
		in = in.Clone()
		in.Connection.Context = &networkservice.ConnectionContext{
			MTU:             1400,
			EthernetContext: &networkservice.EthernetContext{SrcMac: "02:00:00:00:aa:01", DstMac: "02:00:00:00:aa:02"},
			IpContext: &networkservice.IPContext{
				SrcIpAddrs:  []string{"10.9.0.1/24", "fd09::1/64"},
				DstIpAddrs:  []string{"10.9.0.2/24", "fd09::2/64"},
				SrcRoutes:   []*networkservice.Route{{Prefix: "10.99.0.0/16"}, {Prefix: "fd99::/48", NextHop: "fd09::2"}},
				IpNeighbors: []*networkservice.IpNeighbor{{Ip: "10.9.0.77", HardwareAddress: "02:00:00:00:aa:77"}},
				Policies: []*networkservice.PolicyRoute{{From: "10.9.0.1", Proto: "6", DstPort: "8080",
					Routes: []*networkservice.Route{{Prefix: "10.98.0.0/16", NextHop: "10.9.0.2"}}}},
			},
		}
		return s.endpoint.Answer(ctx, in)
	})
	conn := s.client.Connect("c1", "fw", s.ns, "nsm0")
	for _, want := range []struct {
		in       *lab.Namespace
		command  string
		contains []string
	}{
		{s.ns, "ip -d link show nsm0", []string{"mtu 1400", "02:00:00:00:aa:01", "UP"}},
		{s.endpoint.Net, "ip -d link show e1", []string{"mtu 1400", "02:00:00:00:aa:02"}},
		{s.ns, "ip addr show nsm0", []string{"10.9.0.1/24", "fd09::1/64"}},
		{s.ns, "ip route", []string{"10.99.0.0/16 via 10.9.0.2 dev nsm0"}},
		{s.ns, "ip -6 route", []string{"fd99::/48 via fd09::2 dev nsm0"}},
		{s.ns, "ip neigh", []string{"10.9.0.77 dev nsm0 lladdr 02:00:00:00:aa:77 PERMANENT"}},
		{s.ns, "ip rule", []string{"from 10.9.0.1 ipproto tcp dport 8080"}},
		{s.ns, "ip route show table all", []string{"10.98.0.0/16 via 10.9.0.2 dev nsm0"}},
	} {
		out := want.in.Run(t, strings.Fields(want.command)...)
		for _, c := range want.contains {
			if !strings.Contains(out, c) {
				t.Errorf("%s lacks %q:\n%s", want.command, c, out)
			}
		}
	}
	s.ns.Ping(t, "10.9.0.2")
	s.ns.Ping(t, "fd09::2")
	s.client.Disconnect(conn)
	if out := s.ns.Run(t, "ip", "rule"); strings.Contains(out, "10.9.0.1") {
		t.Errorf("a policy rule is left over:\n%s", out)
	}
}

func TestRefreshTouchesNothingAndChangeTouchesOnlyWhatDiffers(t *testing.T) {
	s := newSetup(t)
	conn := s.client.Connect("c1", "fw", s.ns, "nsm0")
	before := ifindex(t, s.ns, "nsm0")

	again := refresh(t, s, conn)
	if ifindex(t, s.ns, "nsm0") != before || again.Path.PathSegments[1].Id != conn.Path.PathSegments[1].Id {
		t.Error("a refresh made another connection")
	}
	// A client that lost its path has the same connection, too.
	if c := s.client.Connect("c1", "fw", s.ns, "nsm0"); c.Path.PathSegments[1].Id != conn.Path.PathSegments[1].Id {
		t.Error("the same id gave another connection")
	}
	if calls := mutating(s.agent); calls != 3 {
		t.Errorf("one connection and two refreshes made %d dataplane operations, want 3 of the first", calls)
	}

	again.Context.MTU = 1300
	changed := refresh(t, s, again)
	if changed.Context.MTU != 1300 || !strings.Contains(s.ns.Run(t, "ip", "link", "show", "nsm0"), "mtu 1300") {
		t.Error("a changed MTU did not take effect")
	}
	if ifindex(t, s.ns, "nsm0") != before {
		t.Error("a changed MTU made a new interface")
	}
	s.ns.Ping(t, "10.0.1.2")
}

func refresh(t *testing.T, s *setup, conn *networkservice.Connection) *networkservice.Connection {
	t.Helper()
	in := &networkservice.NetworkServiceRequest{Connection: conn.Clone()}
	in.Connection.Path.PathSegments[0].Expires = timestamppb.New(time.Now().Add(time.Hour))
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := s.client.Pass(ctx, in, s.ns)
	if err != nil {
		t.Fatalf("refresh: %v", err)
	}
	return out
}

func ifindex(t *testing.T, ns *lab.Namespace, name string) string {
	t.Helper()
	index, _, _ := strings.Cut(ns.Run(t, "ip", "-o", "link", "show", name), ":")
	return index
}

func TestExpiryClosesAConnection(t *testing.T) {
	s := newSetup(t)
	in := lab.NewRequest(t, "c1", "fw", s.ns, "nsm0")
	in.Connection.Path.PathSegments[0].Expires = timestamppb.New(time.Now().Add(1500 * time.Millisecond))
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := s.client.Pass(ctx, in, s.ns); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.endpoint.Closed:
	case <-ctx.Done():
		t.Fatal("the endpoint was not told that the connection expired")
	}
	lab.Eventually(t, 5*time.Second, "the interface to go", func() error { return none(s.ns.Interfaces(t)) })
}

func TestMonitorTellsWhatHappens(t *testing.T) {
	s := newSetup(t)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	stream, err := s.client.Monitor.MonitorConnections(ctx, &networkservice.MonitorScopeSelector{
		PathSegments: []*networkservice.PathSegment{{Id: "c1", Name: "client"}}})
	if err != nil {
		t.Fatal(err)
	}
	next := func(wantType networkservice.ConnectionEventType) *networkservice.ConnectionEvent {
		t.Helper()
		e, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if e.Type != wantType {
			t.Fatalf("event %v, want %v", e, wantType)
		}
		return e
	}
	if e := next(networkservice.ConnectionEventType_INITIAL_STATE_TRANSFER); len(e.Connections) != 0 {
		t.Errorf("a monitor of nothing begins with %v", e)
	}
	conn := s.client.Connect("c1", "fw", s.ns, "nsm0")
	s.client.Connect("c2", "fw", s.ns, "nsm1") // not selected
	for {
		e := next(networkservice.ConnectionEventType_UPDATE)
		if c := e.Connections[conn.Path.PathSegments[1].Id]; c.GetState() == networkservice.State_UP && c.Path.PathSegments[0].Id == "c1" {
			break
		}
	}
	// The endpoint dies: the client hears of it and may choose another.
	s.endpoint.Kill()
	for {
		e := next(networkservice.ConnectionEventType_UPDATE)
		if e.Connections[conn.Path.PathSegments[1].Id].GetState() == networkservice.State_DOWN {
			break
		}
	}
	s.client.Disconnect(conn)
	next(networkservice.ConnectionEventType_DELETE)
}

func none(list []string) error {
	if len(list) > 0 {
		return &leftOver{list}
	}
	return nil
}

type leftOver struct{ list []string }

func (l *leftOver) Error() string { return "still there: " + strings.Join(l.list, ", ") }
