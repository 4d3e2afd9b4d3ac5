package kernel_test

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/bridge"
	"go.patchbay.dev/plugins/bridge/kernel"
	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/linux/nstest"
	veth "go.patchbay.dev/plugins/mechanism/kernel"
	"go.patchbay.dev/plugins/reconcile"
)

// place is what a copy of a test needs to know: it runs in the first node, and beside it the
// other has an address on the same segment, by hand.
type place struct {
	Underlay nstest.Underlay
	Work     []string
	Instance string
}

const far = "10.60.0.100"

func newPlace(t *testing.T, workloads int) place {
	p := place{Underlay: nstest.NewUnderlay(t, false), Instance: nstest.Instance(t)}
	for range workloads {
		p.Work = append(p.Work, nstest.New(t))
	}
	u := p.Underlay
	nstest.Run(t, u.Nodes[1], "ip", "link", "add", "vx0", "type", "vxlan", "id", "8388608", "local", u.Addresses[1], "remote", u.Addresses[0], "dstport", "4789")
	nstest.Run(t, u.Nodes[1], "ip", "address", "add", far+"/24", "dev", "vx0")
	nstest.Run(t, u.Nodes[1], "ip", "link", "set", "vx0", "up")
	return p
}

// node is an agent's part that makes bridges and pairs.
type node struct {
	t       *testing.T
	p       place
	ns      *linux.Namespaces
	pairs   *veth.Mechanism
	bridges *kernel.Dataplane
	engine  *reconcile.Engine
	calls   atomic.Int64 // that change something
}

var lan = bridge.Domain{Name: "lan", VNI: 1 << 23, Learn: true, Flood: true, UnknownUnicast: true, MACAge: 5 * time.Minute, MTU: 1450,
	GatewayMAC: models.DerivedMAC("gateway lan")}

// start begins with what record wants.
func start(t *testing.T, p place, record func(*node)) (n *node, stop func()) {
	t.Helper()
	ns, err := linux.New(linux.Options{Instance: p.Instance})
	check(t, err)
	n = &node{t: t, p: p, ns: ns, pairs: veth.New(ns, nil), bridges: kernel.New(ns)}
	n.engine = reconcile.New(reconcile.Options{MinBackoff: 10 * time.Millisecond, MaxBackoff: 100 * time.Millisecond, OnCall: func(reconcile.Call) { n.calls.Add(1) }})
	n.pairs.Register(n.engine, func(string) {})
	n.bridges.Ports(veth.KindVeth)
	n.bridges.Register(n.engine)
	check(t, ns.Start())
	record(n)
	check(t, n.engine.Start(context.Background()))
	n.settle()
	return n, func() {
		n.engine.Stop()
		check(t, ns.Close())
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (n *node) settle() {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	check(n.t, n.engine.Settle(ctx))
}

// domain wants a bridge, with a tunnel to the other node.
func (n *node) domain(d bridge.Domain, peers ...string) {
	n.t.Helper()
	values, err := n.bridges.Domain(d)
	check(n.t, err)
	var to []netip.Addr
	for _, p := range peers {
		to = append(to, netip.MustParseAddr(p))
	}
	mesh, err := n.bridges.Mesh(d, netip.MustParseAddr(n.p.Underlay.Addresses[0]), to)
	check(n.t, err)
	n.engine.Apply(reconcile.Change{Group: "bridge/" + d.Name, Revision: 1, Values: append(values, mesh...)})
}

// member wants the i-th workload to be a member.
func (n *node) member(i int, d bridge.Domain) {
	n.t.Helper()
	id := fmt.Sprint("m", i)
	x := &models.CrossConnect{Id: id, Payload: models.Ethernet, Mtu: uint32(d.MTU),
		Client:   &models.Attachment{Addresses: []string{address(i) + "/24"}, Mechanism: &models.Mechanism{Type: "KERNEL", Parameters: map[string]string{"netns": n.p.Work[i], "name": "nsm0"}}},
		Endpoint: &models.Attachment{Mechanism: &models.Mechanism{Type: models.BridgeMechanism, Parameters: map[string]string{models.ParamBridge: d.Name}}}}
	port, values, err := n.pairs.Attach(x, models.ClientSide)
	check(n.t, err)
	more, err := n.bridges.Member(id, d, port)
	check(n.t, err)
	n.engine.Apply(reconcile.Change{Group: id, Revision: 1, Values: append(values, more...)})
}

func address(i int) string { return fmt.Sprintf("10.60.0.%d", i+1) }

// macOf is what the i-th member has.
func macOf(i int) linux.MAC { return linux.Tag{ID: fmt.Sprint("m", i), Side: linux.Client}.MAC() }

// reaches wants one workload's ping to be answered.
func (n *node) reaches(from int, to string) {
	n.t.Helper()
	nstest.Run(n.t, n.p.Work[from], "ping", "-c", "1", "-w", "10", "-M", "do", "-s", "1422", to)
}

// until waits for what somebody else does.
func (n *node) until(what string, is func() bool) {
	n.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			n.t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// ip runs ip in the agent's own namespace, which is the copy's.
func (n *node) ip(args ...string) string {
	n.t.Helper()
	return nstest.Run(n.t, "/proc/self/ns/net", append([]string{"ip"}, args...)...)
}
