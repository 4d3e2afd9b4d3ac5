package tests

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	nodes "go.patchbay.dev/agent/lab"
	"go.patchbay.dev/tests/lab"
)

// ownBridge is the end of a cross-connect that is a bridge.
func ownBridge(name string) end {
	return end{mechanism: "BRIDGE", parameters: map[string]string{"bridge": name}}
}

// alone is a segment of one agent.
func alone(t *testing.T, a *lab.Agent) *segment {
	return &segment{t: t, Nodes: &lab.Nodes{List: []*lab.Node{{Agent: a, Host: &nodes.Node{Name: "n1"}}}}}
}

// One node with many members, one of which is in another bridge as well; with a gateway; with
// options that change under the members.
func TestBridgesOfOneNode(t *testing.T) {
	for _, c := range []struct {
		name  string
		start func(*testing.T) *lab.Agent
	}{
		{"kernel", func(t *testing.T) *lab.Agent { return lab.StartAgent(t, lab.In(lab.NewNamespace(t))) }}, // which goes with the bridges
		{"VPP", func(t *testing.T) *lab.Agent { a, _ := lab.StartOnVPP(t); return a }},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := c.start(t)
			s := alone(t, a)
			lan := map[string]any{"name": "lan", "gateways": []string{"10.60.0.254/24", "fd60::fe/64"}}
			s.bridge(lan)
			s.bridge(map[string]any{"name": "other"})
			for range 24 {
				s.add(s.List[0])
			}
			s.up(s.members...)
			s.listen()
			first := s.members[0]
			for _, m := range s.members[1:] {
				m.ns.Ping(t, first.address)
			}
			s.eachOnce()
			for _, m := range s.members[:3] {
				m.ns.Ping(t, "10.60.0.254")
			}
			first.ns.Run(t, "ip", "address", "add", "fd60::1/64", "dev", "nsm0", "nodad")
			first.ns.Ping(t, "fd60::fe")
			s.inAnother(first)

			index := ifindex(t, first.ns, "nsm0")
			lan["flooding"], lan["gateways"] = false, []string{"10.60.0.253/24"}
			s.bridge(lan)
			lab.Eventually(t, 10*time.Second, "nothing to be flooded", func() error {
				n := s.number()
				first.frames.Send(first.frames.MAC, lab.Broadcast, n)
				if heard := s.members[1].frames.Heard(50 * time.Millisecond); heard[n] > 0 {
					return fmt.Errorf("%d are", heard[n])
				}
				return nil
			})
			lan["flooding"] = true
			s.bridge(lan)
			awaitPing(t, first.ns, "10.60.0.253")
			s.heard(quiet)
			s.eachOnce()
			if ifindex(t, first.ns, "nsm0") != index {
				t.Error("a member was made anew")
			}
		})
	}
}

// inAnother makes a member one of a second bridge, too: neither hears of the other.
func (s *segment) inAnother(m *member) {
	s.t.Helper()
	beside := lab.NewNamespace(s.t)
	for id, ns := range map[string]*lab.Namespace{"o1": m.ns, "o2": beside} {
		m.node.Etcdctl("put", "/patchbay/v1/nodes/n1/crossconnects/"+id, bridged(id, "other", ns.Path, "nsm1", "10.61.0."+id[1:]+"/24"))
	}
	awaitAt(s.t, m.node, "o1", "UP")
	awaitAt(s.t, m.node, "o2", "UP")
	m.ns.Ping(s.t, "10.61.0.2")
	m.ns.Ping(s.t, s.members[1].address)
	theirs := beside.Frames(s.t, "nsm1")
	n := s.number()
	m.frames.Send(m.frames.MAC, lab.Broadcast, n)
	theirs.Send(theirs.MAC, lab.Broadcast, n+1)
	s.number()
	if heard := theirs.Heard(quiet); heard[n] > 0 {
		s.t.Error("one bridge hears the other")
	}
	for m, heard := range s.heard(quiet) {
		if heard[n+1] > 0 {
			s.t.Errorf("%s hears another bridge", m.id)
		}
	}
}

// Workloads of every kind are on one bridge of VPP's, and are again after VPP was restarted.
func TestBridgeOfManyKinds(t *testing.T) {
	a, v := lab.StartOnVPP(t)
	s := alone(t, a)
	kinds := []struct{ id, mechanism, address, mac string }{
		{"c2", "MEMIF", "10.60.0.2", "02:00:00:00:60:02"},
		{"c3", "VHOST_USER", "10.60.0.3", "02:00:00:00:60:03"},
	}
	// Either would answer, with the other's MAC, what is flooded before anybody was seen.
	var fixed []map[string]string
	for _, k := range kinds {
		fixed = append(fixed, map[string]string{"mac": k.mac, "connection": k.id})
	}
	s.bridge(map[string]any{"name": "lan", "staticMacs": fixed})
	client := kernelEnd(t, "nsm0", "10.60.0.1/24")
	connectEnds(t, a, "c1", "ETHERNET", 0, client, ownBridge("lan"))
	up := func(s linkStatus) bool { return s.State == "UP" }
	start := func(id, mechanism, mac string) *lab.Testpmd {
		socket, _ := readStatus(a, id)
		device := lab.MemifDevice
		if mechanism == "VHOST_USER" {
			device = lab.VirtioDevice
		}
		w := lab.StartTestpmd(t, device(socket.Client.Parameters["socketfile"], "mac="+mac), "icmpecho")
		awaitState(t, a, id, up)
		return w
	}
	var workloads []*lab.Testpmd
	for _, k := range kinds {
		connectEnds(t, a, k.id, "ETHERNET", 0, end{mechanism: k.mechanism}, ownBridge("lan"))
		workloads = append(workloads, start(k.id, k.mechanism, k.mac))
	}
	all := func() {
		t.Helper()
		for i, k := range kinds {
			// Both answer for any address: it is the MAC that chooses.
			client.ns.Run(t, "ip", "neigh", "replace", k.address, "lladdr", k.mac, "dev", "nsm0")
			answers(t, client.ns, workloads[i], k.address)
		}
	}
	all()
	number := strings.Fields(v.CLI("show bridge-domain"))[13]
	if out := v.CLI("show bridge-domain " + number + " bd-tag"); !strings.Contains(out, "patchbay:lan") {
		t.Errorf("VPP shows no bridge domain of that tag: %s", out)
	}
	described := a.Patchbay("describe", "bridge", "lan")
	for _, want := range []string{kinds[0].mac, kinds[1].mac, "c2", "c3"} {
		if !strings.Contains(described, want) {
			t.Errorf("%s is not in: %s", want, described)
		}
	}
	for i, k := range kinds {
		workloads[i].Kill()
		awaitState(t, a, k.id, func(s linkStatus) bool { return s.State == "DOWN" })
	}
	v.Restart()
	for i, k := range kinds {
		lab.Eventually(t, 20*time.Second, "somebody to listen for "+k.id, func() error {
			socket, err := readStatus(a, k.id)
			network := map[string]string{"MEMIF": "unixpacket", "VHOST_USER": "unix"}[k.mechanism]
			if err == nil {
				var conn net.Conn
				if conn, err = net.Dial(network, socket.Client.Parameters["socketfile"]); err == nil {
					err = conn.Close()
				}
			}
			return err
		})
		workloads[i] = start(k.id, k.mechanism, k.mac)
	}
	all()
}
