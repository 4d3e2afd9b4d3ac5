package tests

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"github.com/networkservicemesh/api/pkg/api/registry"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"go.patchbay.dev/tests/lab"
)

// switched is an agent in a namespace of its own, which goes with all that is bridged there,
// and a client of it.
type switched struct {
	node   *lab.Namespace
	agent  *lab.Agent
	client *lab.Client
}

func newSwitched(t *testing.T, options ...lab.Option) *switched {
	t.Helper()
	node := lab.NewNamespace(t)
	node.Run(t, "ip", "address", "add", "10.99.0.1/24", "dev", "lo")
	a := lab.StartAgent(t, append(options, lab.In(node))...)
	return &switched{node, a, lab.NewClient(t, a.Dial())}
}

// apply applies objects, which must be valid.
func (s *switched) apply(t *testing.T, yaml string) {
	t.Helper()
	if out, err := s.tryApply(t, yaml); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func (s *switched) tryApply(t *testing.T, yaml string) (string, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "objects.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	return s.agent.TryPatchbay("apply", "-f", file)
}

// addressesOf are a connection's own, without the lengths of their prefixes.
func addressesOf(c *networkservice.Connection) (all []string) {
	for _, s := range c.GetContext().GetIpContext().GetSrcIpAddrs() {
		all = append(all, netip.MustParsePrefix(s).Addr().String())
	}
	return all
}

// taken are the addresses in etcd of the members of lan1.
func (s *switched) taken() []string {
	const prefix = "/patchbay/v1/addresses/lan1/"
	keys := strings.Fields(s.agent.Etcdctl("get", "--prefix", "--keys-only", prefix))
	for i, k := range keys {
		keys[i] = strings.TrimPrefix(k, prefix)
	}
	return keys
}

const lan1 = `{kind: Bridge, name: lan1, service: lan1, subnets: [10.60.0.0/24, "fd60::/64"], gateways: [10.60.0.1/24]}`

// A bridge answers its network service itself: clients get addresses, keep them across
// refresh and restart, and give them back; no endpoint is there.
func TestABridgeAnswersItsNetworkService(t *testing.T) {
	s := newSwitched(t)
	s.apply(t, lan1)
	a, b := lab.NewNamespace(t), lab.NewNamespace(t)
	first, second := s.client.Connect("c1", "lan1", a, "nsm0"), s.client.Connect("c2", "lan1", b, "nsm0")
	if first.NetworkServiceEndpointName != "bridge/lan1" || first.Payload != "ETHERNET" || len(addressesOf(first)) != 2 || first.Context.MTU != 1500 {
		t.Errorf("the reply is %v", first)
	}
	for _, address := range append(addressesOf(second), "10.60.0.1") {
		a.Ping(t, address)
	}
	s.isFound(t)
	before := ifindex(t, a, "nsm0")
	f := startFlow(t, a, addressesOf(second)[0])
	for _, end := range []func(){s.agent.Stop, s.agent.Kill} {
		end()
		s.agent.Start()
		s.agent.WaitReady()
	}
	again := s.client.Connect("c1", "lan1", a, "nsm0") // as a client does whose monitor broke
	now, operations := ifindex(t, a, "nsm0"), mutating(s.agent)
	if !slices.Equal(addressesOf(again), addressesOf(first)) || now != before || operations != 0 {
		t.Errorf("after a restart it has %v on interface %q, had %v on %q; %d operations", addressesOf(again), now, addressesOf(first), before, operations)
	}
	f.end(t)
	if got := len(s.taken()); got != 6 {
		t.Errorf("two members take %v", s.taken())
	}
	s.client.Disconnect(again)
	if got := s.taken(); len(got) != 3 || slices.Contains(got, addressesOf(first)[0]) {
		t.Errorf("after a close there is %v", got)
	}
	s.client.Disconnect(second)
	if err := none(append(append(a.Interfaces(t), b.Interfaces(t)...), s.taken()...)); err != nil {
		t.Error(err)
	}
}

// isFound looks for the bridge where endpoints are looked for.
func (s *switched) isFound(t *testing.T) {
	t.Helper()
	for kind, want := range map[string]string{"services": "lan1   ETHERNET", "endpoints": "bridge/lan1   lan1 "} {
		if out := s.agent.Patchbay("get", kind); !strings.Contains(out, want) {
			t.Errorf("no %s in the %s:\n%s", want, kind, out)
		}
	}
	conn := s.agent.Dial()
	services, err := registry.NewNetworkServiceRegistryClient(conn).Find(t.Context(), &registry.NetworkServiceQuery{NetworkService: &registry.NetworkService{Name: "lan1"}})
	if err != nil {
		t.Fatal(err)
	}
	if found, err := services.Recv(); err != nil || found.NetworkService.Payload != "ETHERNET" {
		t.Errorf("the network service is found as %v, %v", found, err)
	}
	endpoints, err := registry.NewNetworkServiceEndpointRegistryClient(conn).Find(t.Context(),
		&registry.NetworkServiceEndpointQuery{NetworkServiceEndpoint: &registry.NetworkServiceEndpoint{NetworkServiceNames: []string{"lan1"}}})
	if err != nil {
		t.Fatal(err)
	}
	if found, err := endpoints.Recv(); err != nil || found.NetworkServiceEndpoint.Name != "bridge/lan1" {
		t.Errorf("the endpoint is found as %v, %v", found, err)
	}
}

// What a client does not refresh expires, and a durable request is kept.
func TestABridgesMembersExpireOrAreDurable(t *testing.T) {
	s := newSwitched(t)
	a, b := lab.NewNamespace(t), lab.NewNamespace(t)
	s.agent.Etcdctl("put", "/patchbay/v1/nodes/n1/connections/d1", durable(a, "lan1"))
	awaitDurable(t, s.agent, `network service \"lan1\" is not known`)
	s.apply(t, lan1)
	awaitDurable(t, s.agent, `"state":"UP"`)
	in := lab.NewRequest(t, "c1", "lan1", b, "nsm0")
	in.Connection.Path.PathSegments[0].Expires = timestamppb.New(time.Now().Add(2 * time.Second))
	conn, err := s.client.Pass(t.Context(), in, b)
	if err != nil {
		t.Fatal(err)
	}
	a.Ping(t, addressesOf(conn)[0])
	lab.Eventually(t, 10*time.Second, "the connection to expire", func() error { return none(b.Interfaces(t)) })
	lab.Eventually(t, 5*time.Second, "its addresses to be given back", func() error {
		if got := s.taken(); len(got) != 3 {
			return fmt.Errorf("there is %v", got)
		}
		return nil
	})
	s.agent.Etcdctl("del", "/patchbay/v1/nodes/n1/connections/d1")
	lab.Eventually(t, 10*time.Second, "the durable one to go", func() error { return none(append(a.Interfaces(t), s.taken()...)) })
}

// A bridge with members is deleted by force only, or in etcd: they go down with the reason,
// their clients are told, and they are back with it.
func TestABridgeIsDeletedUnderItsMembers(t *testing.T) {
	s := newSwitched(t)
	s.apply(t, lan1)
	a, b := lab.NewNamespace(t), lab.NewNamespace(t)
	conn := s.client.Connect("c1", "lan1", a, "nsm0")
	put(s.agent, "x1", `{"id": "x1", "client": {"mechanism": {"type": "KERNEL", "parameters": {"netns": "`+b.Path+`", "name": "nsm0"}}, "addresses": ["10.60.0.200/24"]},
		"endpoint": {"mechanism": {"type": "BRIDGE", "parameters": {"bridge": "lan1"}}}}`)
	awaitStatus(t, s.agent, "x1", "UP")
	a.Ping(t, "10.60.0.200")
	out, err := s.agent.TryPatchbay("delete", "bridge", "lan1")
	if err == nil || !strings.Contains(out, `bridge "lan1" has 2 members on n1; delete them first, or use --force, and they go down`) {
		t.Errorf("deleted: %v, %s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	events, err := s.client.Monitor.MonitorConnections(ctx, &networkservice.MonitorScopeSelector{PathSegments: []*networkservice.PathSegment{{Id: conn.Id}}})
	if err != nil {
		t.Fatal(err)
	}
	told := func(want networkservice.State) {
		t.Helper()
		for {
			e, err := events.Recv()
			if err != nil {
				t.Fatalf("no event says %s: %v", want, err)
			}
			for _, c := range e.Connections {
				if c.GetPath().GetPathSegments()[0].GetId() == "c1" && c.State == want {
					return
				}
			}
		}
	}
	told(networkservice.State_UP)
	watch := s.node.Start(t, lab.Binary(t), "--agent", "unix://"+s.agent.Socket, "get", "bridges", "-w")
	watch.Await(t, "lan1   lan1      10.60.0.0/24,fd60::/64   n1      2         UP")
	s.agent.Patchbay("delete", "bridge", "lan1", "--force")
	watch.Await(t, "DOWN   it was deleted under its members")
	told(networkservice.State_DOWN)
	for _, id := range []string{"c1", "x1"} {
		if st := awaitStatus(t, s.agent, id, "DOWN"); !strings.Contains(fmt.Sprint(st["reason"]), "its bridge lan1 was deleted: apply it again, or delete this") {
			t.Errorf("%s: %v", id, st)
		}
	}
	s.apply(t, lan1)
	told(networkservice.State_UP)
	awaitStatus(t, s.agent, "x1", "UP")
	a.Ping(t, "10.60.0.200")
	s.agent.Etcdctl("del", "/patchbay/v1/bridges/lan1")
	told(networkservice.State_DOWN)
	awaitStatus(t, s.agent, "x1", "DOWN")
}

// What cannot be is said to the one who asks for it.
func TestWhatABridgeRefuses(t *testing.T) {
	s := newSwitched(t, lab.With("node.address", "10.99.0.1"))
	s.apply(t, `{kind: Bridge, name: lan1, service: lan1, subnets: [10.60.0.0/30]}`)
	for _, c := range []struct{ bridge, want string }{
		{"subnets: [10.60.0.0/16]", `subnets[0]: 10.60.0.0/16 overlaps 10.60.0.0/30 of bridge "lan1"; use another prefix`},
		{"subnets: [10.99.0.128/25]", "subnets[0]: 10.99.0.128/25 overlaps 10.99.0.1/24 of node n1; use another prefix"},
		{"service: lan1", `service: "lan1" is answered by bridge "lan1"; choose another name`},
		{"vni: 7", "vni: 7 is out of range"},
		{"macAge: 61", "macAge: 61 is not possible; use whole minutes"},
		{"colour: blue", "colour: is not known; remove it or correct its name"},
	} {
		if out, err := s.tryApply(t, "{kind: Bridge, name: lan2, "+c.bridge+"}"); err == nil || !strings.Contains(out, c.want) {
			t.Errorf("%s: %v, %s", c.bridge, err, out)
		}
	}
	a := lab.NewNamespace(t)
	first := s.client.Connect("c1", "lan1", a, "nsm0")
	second := s.client.Connect("c2", "lan1", a, "nsm1")
	_, err := s.client.Pass(t.Context(), lab.NewRequest(t, "c3", "lan1", a, "nsm2"), a)
	if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "subnet 10.60.0.0/30 of bridge lan1 is full: every address is taken") {
		t.Errorf("a full subnet: %v", err)
	}
	s.client.Disconnect(first)
	in := lab.NewRequest(t, "c3", "lan1", a, "nsm2")
	in.Connection.Context = &networkservice.ConnectionContext{IpContext: &networkservice.IPContext{SrcIpAddrs: second.Context.IpContext.SrcIpAddrs}}
	if _, err := s.client.Pass(t.Context(), in, a); err == nil || !strings.Contains(err.Error(), `is that of connection "c2" on node n1 in bridge lan1`) {
		t.Errorf("another's address: %v", err)
	}
	s.apply(t, "{kind: Bridge, name: wan, interconnect: external, uplink: out}")
	for id, c := range map[string]struct{ client, bridge, want string }{
		"mac":    {`{"type":"KERNEL","parameters":{"netns":"` + a.Path + `","name":"nsm5"}},"mac":"` + second.Context.EthernetContext.SrcMac + `"`, "lan1", `is that of connection "c2" on node n1`},
		"loop":   {`{"type":"BRIDGE","parameters":{"bridge":"lan1"}}`, "lan1", "two that a record joined would make a loop"},
		"tunnel": {`{"type":"VXLAN","parameters":{"src_ip":"10.99.0.2","dst_ip":"10.99.0.1","vni":"5"}}`, "lan1", "VXLAN leads to another node, and so does the mesh of bridge lan1"},
		"out":    {`{"type":"VXLAN","parameters":{"src_ip":"10.99.0.2","dst_ip":"10.99.0.1","vni":"5"}}`, "wan", "VXLAN ends in VPP, which this node does not have"},
		"none":   {`{"type":"KERNEL","parameters":{"netns":"` + a.Path + `","name":"nsm6"}}`, "lan9", "waits for the bridge lan9"},
	} {
		put(s.agent, id, `{"client":{"mechanism":`+c.client+`},"endpoint":{"mechanism":{"type":"BRIDGE","parameters":{"bridge":"`+c.bridge+`"}}}}`)
		state := "FAILED"
		if id == "none" {
			state = "PENDING"
		}
		if st := awaitStatus(t, s.agent, id, state); !strings.Contains(fmt.Sprint(st["reason"]), c.want) {
			t.Errorf("%s: %v", id, st)
		}
	}
}

// A pod can be in several bridges, and a bridge can itself be a workload.
func TestAPodInTwoBridgesAndABridgeThatIsAWorkload(t *testing.T) {
	s := newSwitched(t)
	s.apply(t, lan1+"\n---\n{kind: Bridge, name: lan2, service: lan2, subnets: [10.62.0.0/24]}")
	cnf, a, b, c := lab.NewNamespace(t), lab.NewNamespace(t), lab.NewNamespace(t), lab.NewNamespace(t)
	cnf.Start(t, lab.Binary(t), "--agent", "unix://"+s.agent.Socket, "serve", "cnf", "--bridge", "--cidr", "10.70.0.0/24").Await(t, "serving ")
	ab := s.client.Connect("ab", "lan1", b, "lan1")
	bc := s.client.Connect("bc", "lan2", b, "lan2")
	a.Ping(t, addressesOf(s.client.Connect("a1", "lan1", a, "lan1"))[0]) // itself
	a.Ping(t, addressesOf(ab)[0])
	c2 := s.client.Connect("c2", "lan2", c, "lan2")
	c.Ping(t, addressesOf(bc)[0])
	b.Ping(t, addressesOf(c2)[0])
	if _, err := a.Try("ping", "-c", "1", "-W", "1", addressesOf(bc)[0]); err == nil {
		t.Error("one bridge leads to the other")
	}
	for id, ns := range map[string]*lab.Namespace{"ca": a, "cb": b, "cc": c} {
		s.client.Connect(id, "cnf", ns, "cnf")
	}
	for i := range 3 {
		address := fmt.Sprintf("10.70.0.%d", i+1)
		for _, ns := range []*lab.Namespace{a, b, c} {
			awaitPing(t, ns, address)
		}
	}
}
