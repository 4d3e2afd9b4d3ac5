package manager

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"google.golang.org/grpc/metadata"

	"go.patchbay.dev/models"
)

func segments(c *networkservice.Connection) (names []string) {
	for _, s := range c.GetPath().GetPathSegments() {
		names = append(names, s.Name)
	}
	return names
}

func TestARequestGoesToTheAgentOfTheEndpointsNode(t *testing.T) {
	l := newLab(t)
	a, b := l.start("a"), l.start("b")
	e := b.serve("fw-1", "fw")
	c := a.connect("c1", "fw")
	if got := segments(c); !slices.Equal(got, []string{"client", "a", "b", "fw-1"}) || c.Path.Index != 0 || c.Id != "c1" {
		t.Errorf("path %v, index %d, id %s", got, c.Path.Index, c.Id)
	}
	if c.Mechanism.Type != "KERNEL" || c.NetworkServiceEndpointName != "fw-1" || c.Context.MTU != 1450 {
		t.Errorf("mechanism %s, endpoint %s, MTU %d", c.Mechanism.Type, c.NetworkServiceEndpointName, c.Context.MTU)
	}
	near, _, _ := a.m.known("c1")
	far, _, _ := b.m.known(c.Path.PathSegments[1].Id)
	if near.GetEndpoint().GetMechanism().GetParameters()["vni"] == "" || !protoEqual(near.Endpoint.Mechanism, far.GetClient().GetMechanism()) {
		t.Errorf("the tunnel is %v on a, %v on b", near.GetEndpoint().GetMechanism(), far.GetClient().GetMechanism())
	}
	if near.Request.EndpointUrl != "node://b" || far.Request.Owner != "node=a" || near.Mtu != 1450 || far.Mtu != 1450 {
		t.Errorf("a: %v, %d; b: %v, %d", near.Request.EndpointUrl, near.Mtu, far.Request.Owner, far.Mtu)
	}
	if !slices.Contains(near.Decision, "VXLAN: tunnel between node a and node b") {
		t.Errorf("decision %q", near.Decision)
	}
	before := a.plane.keys()
	again, err := a.request(&networkservice.NetworkServiceRequest{Connection: c})
	if err != nil {
		t.Fatal(err)
	}
	if got := segments(again); !slices.Equal(got, segments(c)) || again.Path.PathSegments[2].Id != c.Path.PathSegments[2].Id || !slices.Equal(before, a.plane.keys()) {
		t.Errorf("a refresh gave %v", again)
	}
	if n := e.requests(); n != 2 {
		t.Errorf("the endpoint was asked %d times, want 2", n)
	}
	a.close(c)
	for _, n := range []*node{a, b} {
		eventually(t, 5*time.Second, "nothing to be left", n.empty)
	}
	e.idle()
}

// TestBothNodesAreLeftAsTheyWere when either fails after the other has done its part.
func TestBothNodesAreLeftAsTheyWere(t *testing.T) {
	broken := errors.New("cannot be programmed")
	for _, c := range []struct {
		name   string
		break_ func(a, b *node, e *endpoint)
		want   string
	}{
		{"the endpoint refuses", func(_, _ *node, e *endpoint) { e.refuse = errors.New("no more room") }, "no more room"},
		{"the endpoint's node cannot program it", func(_, b *node, _ *endpoint) { b.plane.break_(broken) }, "the dataplane of node b could not be programmed: create plug"},
		{"the client's node cannot program it", func(a, _ *node, _ *endpoint) { a.plane.break_(broken) }, "the dataplane of node a could not be programmed: create plug"},
		{"the endpoint's node cannot take the tunnel", func(_, b *node, _ *endpoint) { b.vnis.refuse = errors.New("tunnel address 10.0.0.1 is not ours") }, "node b takes none of the tunnels proposed: VXLAN: tunnel address 10.0.0.1 is not ours"},
		{"the client's node has no tunnel left", func(a, _ *node, _ *endpoint) { a.vnis.most = 0 }, "no tunnel to node b: every VNI is taken"},
		{"the endpoint's node is cut off from etcd", func(_, b *node, _ *endpoint) { b.etcd.cut(true) }, "etcd is unavailable"},
		{"the nodes do not understand each other", func(a, b *node, _ *endpoint) {
			b.offers[1].Version = 7
			b.publish()
			eventually(a.t, 5*time.Second, "a to hear of it", func() error {
				if v := a.m.nodes.get("b").Offers[1].Version; v != 7 {
					return fmt.Errorf("version %d", v)
				}
				return nil
			})
		}, "VXLAN: node a has version 0 of it, node b version 7"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t)
			a, b := l.start("a"), l.start("b")
			e := b.serve("fw-1", "fw")
			c.break_(a, b, e)
			_, err := a.request(ask("c1", "fw"))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			if n := strings.Count(err.Error(), "endpoint fw-1: "); n > 1 {
				t.Errorf("the endpoint is named %d times: %v", n, err)
			}
			for _, n := range []*node{a, b} {
				n.plane.break_(nil)
				eventually(t, 10*time.Second, "nothing to be left", n.empty)
			}
			e.idle()
		})
	}
}

func TestTwoNodesThatStartAtOnceAgreeOnTunnels(t *testing.T) {
	l := newLab(t)
	a, b := l.start("a"), l.start("b")
	a.serve("fw-a", "fa")
	b.serve("fw-b", "fb")
	eventually(t, 5*time.Second, "both to know both services", func() error {
		if len(a.m.registry.all())+len(b.m.registry.all()) != 4 {
			return errors.New("they do not")
		}
		return nil
	})
	const each = 20
	errs := make(chan error, 2*each)
	for i := range each {
		go func() { _, err := a.request(ask(fmt.Sprint("a", i), "fb")); errs <- err }()
		go func() { _, err := b.request(ask(fmt.Sprint("b", i), "fa")); errs <- err }()
	}
	failed := 0
	for range 2 * each {
		if err := <-errs; err != nil {
			failed++
			if !strings.Contains(err.Error(), "is taken") {
				t.Error(err)
			}
		}
	}
	if failed > each {
		t.Errorf("%d of %d requests found no tunnel", failed, 2*each)
	}
	for _, n := range []*node{a, b} {
		if held, recorded := n.vnis.taken(); held != 0 || recorded != 2*each-failed {
			t.Errorf("node %s holds %d VNIs and has %d on record, want 0 and %d", n.name, held, recorded, 2*each-failed)
		}
	}
}

// peerRequest is what a calls b with when it misbehaves.
func peerRequest(change func(*networkservice.Connection)) *networkservice.NetworkServiceRequest {
	c := &networkservice.Connection{Id: "s1", NetworkService: "fw", Payload: "IP", NetworkServiceEndpointName: "fw-1",
		Path: &networkservice.Path{Index: 1, PathSegments: []*networkservice.PathSegment{{Name: "client", Id: "c1"}, {Name: "a", Id: "s1"}}}}
	change(c)
	return &networkservice.NetworkServiceRequest{Connection: c,
		MechanismPreferences: []*networkservice.Mechanism{{Cls: "REMOTE", Type: "VXLAN", Parameters: map[string]string{"vni": "1999", "src_ip": "a"}}}}
}

// TestAgentsAreHeldToTheirPart: another agent may ask for an endpoint of this node in its
// own name, and nothing else.
func TestAgentsAreHeldToTheirPart(t *testing.T) {
	l := newLab(t)
	a, b := l.start("a"), l.start("b")
	e := b.serve("fw-1", "fw")
	a.serve("fw-a", "fw")
	cc, err := a.m.dialNode("b")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	client := networkservice.NewNetworkServiceClient(cc)
	for _, c := range []struct {
		name   string
		change func(*networkservice.NetworkServiceRequest)
		want   string
	}{
		{"in another's name", func(in *networkservice.NetworkServiceRequest) { in.Connection.Path.PathSegments[1].Name = "c" },
			`connection.path segment 1 is of node "c", but the caller's certificate names [a]`},
		{"in a circle", func(in *networkservice.NetworkServiceRequest) { in.Connection.Path.PathSegments[0].Name = "b" },
			"the request goes in a circle: it has passed node b already, at connection.path segment 0"},
		{"for an endpoint elsewhere", func(in *networkservice.NetworkServiceRequest) { in.Connection.NetworkServiceEndpointName = "fw-a" },
			"endpoint fw-a is on node a, not on node b"},
		{"for any endpoint", func(in *networkservice.NetworkServiceRequest) { in.Connection.NetworkServiceEndpointName = "" },
			"network_service_endpoint_name is missing"},
		{"for an endpoint of another service", func(in *networkservice.NetworkServiceRequest) { in.Connection.NetworkService = "dns" },
			`endpoint fw-1 does not serve network service "dns"`},
		{"with a mechanism that reaches no other node", func(in *networkservice.NetworkServiceRequest) {
			in.MechanismPreferences = []*networkservice.Mechanism{{Cls: "LOCAL", Type: "KERNEL", Parameters: map[string]string{"inodeURL": "inode://1/2"}}}
		}, `mechanism_preferences[0] is "KERNEL" of class "LOCAL"`},
		{"with a mechanism that this node cannot do", func(in *networkservice.NetworkServiceRequest) { in.MechanismPreferences[0].Type = "GENEVE" },
			"node b takes none of the tunnels proposed: no mechanism fits"},
		{"with a tunnel from an address that is not its own", func(in *networkservice.NetworkServiceRequest) { in.MechanismPreferences[0].Parameters["src_ip"] = "c" },
			"src_ip c is no address of node a"},
		{"with no tunnel", func(in *networkservice.NetworkServiceRequest) { in.MechanismPreferences = nil }, "mechanism_preferences is empty"},
		{"with a parameter that is not valid", func(in *networkservice.NetworkServiceRequest) { in.MechanismPreferences[0].Parameters["bad"] = "x" },
			"client.mechanism.parameters.bad: is not known"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := peerRequest(func(*networkservice.Connection) {})
			c.change(in)
			_, err := client.Request(t.Context(), in)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	if n := e.requests(); n != 0 {
		t.Errorf("the endpoint was asked %d times", n)
	}
	local := b.connect("c1", "fw")
	if _, err := client.Close(t.Context(), &networkservice.Connection{Id: "c1", Path: &networkservice.Path{PathSegments: []*networkservice.PathSegment{{Name: "a", Id: "c1"}}}}); err == nil || !strings.Contains(err.Error(), "belongs to another client") {
		t.Errorf("the close of another's connection: %v", err)
	}
	stream, err := networkservice.NewMonitorConnectionClient(cc).MonitorConnections(t.Context(), &networkservice.MonitorScopeSelector{})
	if err != nil {
		t.Fatal(err)
	}
	if initial, err := stream.Recv(); err != nil || len(initial.Connections) != 0 {
		t.Errorf("it sees %v, %v", initial, err)
	}
	if err := b.empty(); err == nil || len(b.records()) != 1 {
		t.Errorf("b has %v, want the local connection %s only", b.records(), local.Id)
	}
}

// TestClocksThatAreApart: the life of a connection is as long on a node whose clock is ten
// minutes ahead or behind.
func TestClocksThatAreApart(t *testing.T) {
	for _, apart := range []time.Duration{-10 * time.Minute, 10 * time.Minute} {
		p := &networkservice.Path{PathSegments: []*networkservice.PathSegment{{Expires: at(time.Minute + apart)}, {}}}
		sent := time.Now().Add(apart) // by the clock of the caller
		skew := time.Since(sent)
		shift(p, skew)
		if left := time.Until(p.PathSegments[0].Expires.AsTime()); left < 50*time.Second || left > 70*time.Second {
			t.Errorf("clocks %v apart: %v are left of a minute", apart, left)
		}
		shift(p, -skew)
		if left := p.PathSegments[0].Expires.AsTime().Sub(sent); left < 50*time.Second || left > 70*time.Second || p.PathSegments[1].Expires != nil {
			t.Errorf("clocks %v apart: back, %v are left of a minute", apart, left)
		}
	}
}

// TestACallerWhoseClockIsWrong gets a connection that lasts as long as it asks.
func TestACallerWhoseClockIsWrong(t *testing.T) {
	for _, apart := range []time.Duration{-10 * time.Minute, 10 * time.Minute} {
		t.Run(apart.String(), func(t *testing.T) {
			l := newLab(t)
			a, b := l.start("a"), l.start("b")
			b.serve("fw-1", "fw")
			cc, err := a.m.dialNode("b")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { cc.Close() })
			ctx := metadata.AppendToOutgoingContext(t.Context(), metaClock, time.Now().Add(apart).Format(time.RFC3339Nano))
			defer a.m.asks(nodeURL("b"), "s1")() // else b gives back at once what a does not know
			in := peerRequest(func(c *networkservice.Connection) { c.Path.PathSegments[1].Expires = at(apart + time.Minute) })
			out, err := networkservice.NewNetworkServiceClient(cc).Request(ctx, in)
			if err != nil {
				t.Fatal(err)
			}
			x, _, _ := b.m.known("s1")
			if left := time.Until(x.Request.Expires.AsTime()); left < 40*time.Second || left > 80*time.Second {
				t.Errorf("on b it lasts %v, want a minute", left)
			}
			for i, s := range out.Path.PathSegments[1:] {
				if left := time.Until(s.Expires.AsTime().Add(-apart)); left < 40*time.Second || left > 80*time.Second {
					t.Errorf("segment %d lasts %v by the caller's clock, want a minute", i+1, left)
				}
			}
		})
	}
}

func TestAnEndpointWithoutAWayToItSaysWhatToDo(t *testing.T) {
	l := newLab(t)
	a := l.start("a")
	put := func(node string, agent *models.Agent) {
		t.Helper()
		data, _ := models.Marshal(&models.Endpoint{Name: "fw-" + node, Services: []string{node}, Url: "unix:///x", Node: node})
		a.etcd.Put(t.Context(), a.keys.Endpoint("fw-"+node), data)
		if agent != nil {
			agent.Node = node
			data, _ = models.Marshal(agent)
			a.etcd.Put(t.Context(), models.NewKeys(a.keys.Prefix, node).Agent(), data)
		}
	}
	put("gone", nil)
	put("alone", &models.Agent{Offers: offersOf("KERNEL", "VXLAN")})
	for service, want := range map[string]string{
		"gone":  "those that match are on nodes that are gone",
		"alone": "node alone is reached by no other: set grpc.listen with tcp:// and grpc.tls there",
	} {
		eventually(t, 5*time.Second, "the answer", func() error {
			_, err := a.request(ask("c1", service))
			if err == nil || !strings.Contains(err.Error(), want) {
				return fmt.Errorf("got %v, want %q", err, want)
			}
			return nil
		})
	}
}
