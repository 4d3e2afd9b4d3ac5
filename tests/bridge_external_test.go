package tests

import (
	"errors"
	"strings"
	"testing"
	"time"

	nodes "go.patchbay.dev/agent/lab"
	"go.patchbay.dev/tests/lab"
)

// Two nodes whose bridge is connected by an SDN, here a bridge in a namespace: the agents make
// no tunnels, and each node's uplink leads there.
func TestABridgeWhoseNodesAnSDNConnects(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		vpp  func(node int) bool
	}{
		{"kernel", nil},
		{"VPP and kernel", func(node int) bool { return node == 1 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &segment{Nodes: lab.StartNodes(t, nodes.Options{Nodes: 2, VPP: c.vpp}), t: t}
			s.bridge(map[string]any{"name": "lan", "interconnect": "external", "uplink": "up"})
			for range 2 {
				for _, n := range s.List {
					s.add(n)
				}
			}
			s.up(s.members...)
			for i, n := range s.List {
				s.everyPair(s.on(i)...)
				s.bridgeSays(n, "DOWN", `its uplink "up" is no member on node `+n.Host.Name+": write that cross-connect")
			}
			if reaches(s.members[0].ns, s.members[1].address) == nil {
				t.Error("the nodes are connected without an uplink")
			}

			sdn := s.sdn()
			s.listen()
			s.everyPair(s.members...)
			s.eachOnce()
			fullSize(t, s.members[0].ns, s.members[1].address, 1500)
			for _, n := range s.List {
				s.bridgeSays(n, "Interconnect:   external", "Uplink:         up")
				if err := errors.Join(tunnelsTo(n, s.List[0]), tunnelsTo(n, s.List[1])); err != nil {
					t.Errorf("node %s has a tunnel: %v", n.Host.Name, err)
				}
			}
			if out := s.List[0].Etcdctl("get", "--prefix", "--keys-only", "/patchbay/v1/vnis/"); out != "" {
				t.Errorf("there are VNIs: %s", out)
			}

			sdn.Delete(t) // with what is in it
			s.everyPair(s.on(0)...)
			s.bridgeSays(s.List[0], "DOWN", `its uplink "up"`)
			sdn.Make(t)
			s.join(sdn)
			s.everyPair(s.members...)
		})
	}
}

// sdn makes the uplinks of all nodes, and what connects them.
func (s *segment) sdn() *lab.Namespace {
	s.t.Helper()
	sdn := lab.NewNamespace(s.t)
	for _, n := range s.List {
		n.Etcdctl("put", "/patchbay/v1/nodes/"+n.Host.Name+"/crossconnects/up",
			strings.Replace(bridged("up", "lan", sdn.Path, n.Host.Name, ""), `,"addresses":[""]`, "", 1))
	}
	s.join(sdn)
	return sdn
}

// join has an SDN connect the uplinks.
func (s *segment) join(sdn *lab.Namespace) {
	s.t.Helper()
	sdn.Run(s.t, "ip", "link", "add", "fabric", "up", "type", "bridge")
	for _, n := range s.List {
		awaitAt(s.t, n, "up", "UP")
		sdn.Run(s.t, "ip", "link", "set", n.Host.Name, "master", "fabric")
	}
}

// bridgeSays waits until the bridge is described so on its own node.
func (s *segment) bridgeSays(n *lab.Node, texts ...string) {
	s.t.Helper()
	lab.Eventually(s.t, 10*time.Second, "the bridge to be described", func() error {
		out := n.Patchbay("describe", "bridge", "lan")
		for _, text := range texts {
			if !strings.Contains(out, text) {
				return errors.New("no " + text + " in " + out)
			}
		}
		return nil
	})
}
