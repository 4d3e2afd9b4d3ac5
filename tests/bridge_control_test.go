package tests

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"

	nodes "go.patchbay.dev/agent/lab"
	"go.patchbay.dev/tests/lab"
	"go.patchbay.dev/vppapi/vpptest"
)

// With dataplane auto, bridges are the kernel's until VPP answers. Then they are VPP's, and
// stay there while it is away.
func TestBridgesMoveToVPPWhenItComes(t *testing.T) {
	v := vpptest.Start(t)
	v.Kill()
	a := lab.StartAgent(t, lab.OnVPP(v), lab.With("dataplane", "auto"))
	s := &switched{agent: a, client: lab.NewClient(t, a.Dial())}
	s.apply(t, strings.ReplaceAll(lan1, "10.60.", "10.77.")) // this machine is the node, and others may be at work on it
	one, two := lab.NewNamespace(t), lab.NewNamespace(t)
	first, second := s.client.Connect("c1", "lan1", one, "nsm0"), s.client.Connect("c2", "lan1", two, "nsm0")
	one.Ping(t, addressesOf(second)[0])
	kernel := func() string { return lab.Run(t, "ip", "-d", "link", "show", "type", "bridge") }
	if !strings.Contains(kernel(), "alias patchbay:lan1:bridge") {
		t.Errorf("the kernel has no bridge:\n%s", kernel())
	}
	v.Restart()
	lab.Eventually(t, 20*time.Second, "the bridge to be VPP's", func() error {
		if out := a.Patchbay("describe", "bridge", "lan1"); !strings.Contains(out, "member c1   host-") && !strings.Contains(out, "member c1   tap") {
			return errors.New(out)
		}
		return nil
	})
	awaitPing(t, one, addressesOf(second)[0])
	awaitPing(t, one, "10.77.0.1")
	if strings.Contains(kernel(), "patchbay:lan1:bridge") {
		t.Errorf("the kernel still has a bridge:\n%s", kernel())
	}
	v.Kill()
	v.Restart()
	awaitPing(t, one, addressesOf(second)[0])

	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	memif, err := s.client.Request(ctx, lab.MemifRequest("c3", "lan1"))
	if err != nil || memif.Mechanism.Type != "MEMIF" || len(addressesOf(memif)) != 2 {
		t.Fatalf("by memif: %v, %v", memif, err)
	}
	if out := a.Patchbay("explain", "--service", "lan1", "--client", "MEMIF,VHOST_USER"); !strings.Contains(out, "BRIDGE: endpoint on node n1, dataplane vpp") {
		t.Errorf("explained: %s", out)
	}
	for _, c := range []*networkservice.Connection{first, second, memif} {
		s.client.Disconnect(c)
	}
	lab.Eventually(t, 10*time.Second, "nothing to be left in VPP", func() error {
		if out := v.CLI("show bridge-domain"); !strings.Contains(out, "no bridge-domains in use") {
			return errors.New(out)
		}
		return nil
	})
}

// Addresses are unique on all nodes, also of connections with one id, and a node that has no
// tunnel address says whom it does not reach.
func TestABridgesServiceOnTwoNodes(t *testing.T) {
	t.Parallel()
	l := lab.StartNodes(t, nodes.Options{Nodes: 2})
	n1, n2 := l.List[0], l.List[1]
	(&switched{agent: n1.Agent}).apply(t, lan1)
	lab.Eventually(t, 10*time.Second, "the other node to know it", func() error {
		_, err := n2.TryPatchbay("explain", "--service", "lan1")
		return err
	})
	var all []*networkservice.Connection
	var pods []*lab.Namespace
	for _, n := range []*lab.Node{n1, n2} {
		for _, id := range []string{"c1", "c2"} {
			pods = append(pods, lab.NewNamespace(t))
			all = append(all, lab.NewClient(t, n.Dial()).Connect(id, "lan1", pods[len(pods)-1], "nsm0"))
		}
	}
	var seen []string
	for i, c := range all {
		has := append(addressesOf(c), c.Context.EthernetContext.SrcMac)
		for _, s := range has {
			if slices.Contains(seen, s) {
				t.Errorf("%s is had twice", s)
			}
		}
		seen = append(seen, has...)
		for _, from := range pods {
			awaitPing(t, from, addressesOf(all[i])[0])
		}
	}
	if out := n2.Patchbay("describe", "bridge", "lan1"); strings.Count(out, "  UP ") < 6 { // two nodes, four members
		t.Errorf("described:\n%s", out)
	}
	aTunnelOfItsNumber(t, n1, n2)
	f := startFlow(t, pods[0], addressesOf(all[1])[0])
	n2.Restart(map[string]string{"node.address": `""`, "node.address6": `""`})
	says := func(n *lab.Node, text string) {
		t.Helper()
		lab.Eventually(t, 20*time.Second, "the status to say "+text, func() error {
			out := n1.Etcdctl("get", "--print-value-only", "/patchbay/v1/status/"+n.Host.Name+"/bridges/lan1")
			if !strings.Contains(out, text) {
				return fmt.Errorf("it says %s", out)
			}
			return nil
		})
	}
	says(n2, "node n2 has no tunnel address that serves, so that its members do not reach those of n1: set node.address")
	says(n1, "the members of n2 are not reached")
	pods[2].Ping(t, addressesOf(all[3])[0])
	if reaches(pods[0], addressesOf(all[2])[0]) == nil {
		t.Error("the other node is reached all the same")
	}
	n2.Restart(nil)
	says(n1, `"UP"`)
	awaitPing(t, pods[0], addressesOf(all[2])[0])
	f.end(t)
}

// aTunnelOfItsNumber is refused by the kernel, which has each once, and the bridge goes on.
func aTunnelOfItsNumber(t *testing.T, from, to *lab.Node) {
	t.Helper()
	var mesh struct{ Vni int }
	do(t, json.Unmarshal([]byte(from.Etcdctl("get", "--print-value-only", "/patchbay/v1/mesh/lan1/vni")), &mesh))
	key := "/patchbay/v1/nodes/" + from.Host.Name + "/crossconnects/x1"
	from.Etcdctl("put", key, fmt.Sprintf(`{"client":{"mechanism":{"type":"KERNEL","parameters":{"netns":%q,"name":"nsm0"}}},
		"endpoint":{"mechanism":{"type":"VXLAN","parameters":{"src_ip":%q,"dst_ip":%q,"vni":"%d"}}}}`,
		lab.NewNamespace(t).Path, from.Host.Tunnel[0], to.Host.Tunnel[0], mesh.Vni))
	awaitAt(t, from, "x1", "FAILED")
	if s, err := statusAt(from, "x1"); err != nil || !strings.Contains(s.Reason, `the mesh of bridge "lan1"; give one of the two another number`) {
		t.Errorf("it is %+v, %v", s, err)
	}
	from.Etcdctl("del", key)
}

// A gateway moves within the subnet, whose addresses the node then has for a moment itself.
func TestAGatewayMoves(t *testing.T) {
	s := newSwitched(t)
	s.apply(t, lan1)
	pod := lab.NewNamespace(t)
	s.client.Connect("c1", "lan1", pod, "nsm0")
	awaitPing(t, pod, "10.60.0.1")
	for _, gateway := range []string{"10.60.0.254", "10.60.0.253", "10.60.0.1"} {
		s.apply(t, strings.Replace(lan1, "10.60.0.1/24", gateway+"/24", 1))
		awaitPing(t, pod, gateway)
	}
}

// A record that is wrong is answered although no node has a member; the others go on.
func TestBridgeThatIsWrongInEtcd(t *testing.T) {
	a := lab.StartAgent(t)
	for _, c := range []struct{ record, reason string }{
		{`{"name":"lan9","subnets":["x"]}`, `subnets[0]: "x" is`},
		{`{"name":"lan9","subnets":["x"],"mtu":5}`, "fd60::/64; mtu: 5"},
		{`{"name":"lan9","colour":"red"}`, "colour"},
		{`{"name":"lan8"}`, `name: "lan8" differs`},
		{`{"name":"lan9","subnets":["10.60.0.0/24"]}`, ""},
	} {
		a.Etcdctl("put", "/patchbay/v1/bridges/lan9", c.record)
		lab.Eventually(t, 10*time.Second, "it to be answered", func() error {
			list, whole := a.Patchbay("get", "bridges"), a.Patchbay("describe", "bridge", "lan9")
			if strings.Contains(list, "FAILED") != (c.reason != "") || !strings.Contains(list, c.reason) || !strings.Contains(whole, c.reason) {
				return fmt.Errorf("%s:\n%s\n%s", c.record, list, whole)
			}
			return nil
		})
	}
}
