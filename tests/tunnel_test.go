package tests

import (
	"fmt"
	"strings"
	"testing"
)

// All kinds of tunnels between two nodes at the same time do not mix. An agent that is
// restarted changes nothing and loses nothing, and a VPP that is restarted has its tunnels again.
func TestTunnelsOutliveRestarts(t *testing.T) {
	a, b := twoVPPs(t)
	var clients []end
	pingAll := func(when string) {
		t.Helper()
		for i, client := range clients {
			if out, err := client.ns.Try("ping", "-c", "1", "-w", "15", fmt.Sprintf("10.60.%d.2", i)); err != nil {
				t.Errorf("%s: tunnel %d: %s", when, i, out)
			}
		}
	}
	for i, c := range tunnelCases() {
		if c.family == 1 {
			continue
		}
		net := fmt.Sprintf("10.60.%d.", i)
		client, endpoint := kernelEnd(t, "nsm0", net+"1/24"), kernelEnd(t, "nsm0", net+"2/24")
		c.connect(t, fmt.Sprint("c", i), a, b, client, endpoint)
		clients = append(clients, client)
	}
	pingAll("made")
	for _, n := range []*tunnelNode{a, b} {
		before := dumpTunnels(n)
		ping := clients[0].ns.Start(t, "ping", "-i", "0.01", "-c", "200", "-q", "10.60.0.2")
		n.Kill()
		n.Start()
		n.WaitReady()
		if line := ping.Await(t, "packets transmitted"); !strings.Contains(line, "200 received") {
			t.Errorf("packets were lost: %s", line)
		}
		if n := n.Operations(t); n != 0 {
			t.Errorf("%d operations changed the dataplane after the restart", n)
		}
		if after := dumpTunnels(n); after != before {
			t.Errorf("VPP has changed:\n%s\nand before:\n%s", after, before)
		}
	}
	for _, n := range []*tunnelNode{b, a} {
		n.vpp.Restart()
		n.link(t)
		a.reaches(t, b)
		for i := range clients {
			awaitState(t, n.Agent, fmt.Sprint("c", i), func(s linkStatus) bool { return s.State == "UP" })
		}
		pingAll("VPP restarted")
	}
}

// dumpTunnels is dumpVPP without what counts.
func dumpTunnels(n *tunnelNode) string {
	var lines []string
	for _, l := range strings.Split(dumpVPP(n.vpp), "\n") {
		switch f := strings.Fields(l); {
		case strings.Contains(l, "ring"), strings.Contains(l, "host-pbw"), strings.Contains(l, "host-pbx"): // the underlay
		case len(f) == 5 && f[2] == "SN":
			lines = append(lines, strings.Join(f[1:], " ")) // a neighbour, but not since when
		default:
			lines = append(lines, l)
		}
	}
	return strings.Join(lines, "\n")
}

// Records that cannot be say which field is wrong, or who has what they want.
func TestTunnelRecordsThatCannotBe(t *testing.T) {
	a, b := twoVPPs(t)
	c := tunnelCase{kind: "VXLAN", payload: "ETHERNET", parameters: map[string]string{"vni": "7"}}
	p := c.at(t, "c1", a, b)
	memif := end{mechanism: "MEMIF"}
	a.put(t, "c1", "ETHERNET", 0, memif, end{mechanism: "VXLAN", parameters: p})
	awaitState(t, a.Agent, "c1", func(s linkStatus) bool { return s.Endpoint.Interface == "vxlan_tunnel0" })
	a.put(t, "c2", "ETHERNET", 0, memif, end{mechanism: "VXLAN", parameters: p})
	awaitState(t, a.Agent, "c2", func(s linkStatus) bool {
		return s.State == "FAILED" && strings.Contains(s.Reason, `VNI 7 from 10.77.0.1 to 10.77.0.2, UDP port 4789 is taken by connection "c1"`)
	})
	a.Etcdctl("del", "/patchbay/v1/nodes/n1/crossconnects/c1")
	awaitState(t, a.Agent, "c2", func(s linkStatus) bool { return s.Endpoint.Interface != "" })

	foreign := c
	foreign.parameters = map[string]string{"vni": "8"}
	q := foreign.at(t, "c3", a, b)
	q["src_ip"] = "10.99.0.1"
	a.put(t, "c3", "ETHERNET", 0, memif, end{mechanism: "VXLAN", parameters: q})
	awaitState(t, a.Agent, "c3", func(s linkStatus) bool {
		return s.State == "FAILED" && strings.Contains(s.Reason, "has its tunnel address 10.99.0.1 on no interface of VPP")
	})
	a.put(t, "c4", "ETHERNET", 0, memif, end{mechanism: "VXLAN", parameters: map[string]string{"src_ip": "10.77.0.1", "dst_ip": "10.77.0.2", "vni": "0"}})
	awaitState(t, a.Agent, "c4", func(s linkStatus) bool {
		return s.State == "FAILED" && strings.Contains(s.Reason, `endpoint.mechanism.parameters.vni: "0" cannot be; use 1–16777215`)
	})
	a.put(t, "c5", "ETHERNET", 0, memif, end{mechanism: "IPIP", parameters: map[string]string{"src_ip": "10.77.0.1", "dst_ip": "10.77.0.2"}})
	awaitState(t, a.Agent, "c5", func(s linkStatus) bool {
		return s.State == "FAILED" && strings.Contains(s.Reason, "payload: ETHERNET cannot be carried by IPIP; use IP")
	})
}
