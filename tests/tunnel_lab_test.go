package tests

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.patchbay.dev/tests/lab"
	"go.patchbay.dev/vppapi/vpptest"
)

// tunnelNode is a node with an agent and, where it has one, a VPP.
type tunnelNode struct {
	*lab.Agent
	vpp       *vpptest.VPP
	underlay  []string  // how VPP is told of it
	addresses [2]string // of the underlay, IPv4 and IPv6
}

var wires atomic.Int64

// wire is a veth pair, which carries 1500 bytes; the names of its ends.
func wire(t *testing.T) (near, far string, number int64) {
	t.Helper()
	lab.NeedRoot(t)
	number = wires.Add(1)
	near, far = fmt.Sprintf("pbw%d-%d", os.Getpid()%10000, number), fmt.Sprintf("pbx%d-%d", os.Getpid()%10000, number)
	lab.Run(t, "ip", "link", "add", near, "type", "veth", "peer", "name", far)
	t.Cleanup(func() { lab.Run(t, "ip", "link", "del", near) })
	for _, name := range []string{near, far} {
		lab.Run(t, "ip", "link", "set", name, "up")
	}
	return near, far, number
}

// onWire tells VPP to have two addresses on an end of a wire.
func onWire(name string, addresses [2]string) []string {
	return []string{
		"create host-interface name " + name,
		"set interface rx-mode host-" + name + " polling",
		"set interface mtu packet 1500 host-" + name,
		"set interface state host-" + name + " up",
		"set interface ip address host-" + name + " " + addresses[0] + "/24",
		"set interface ip address host-" + name + " " + addresses[1] + "/64",
	}
}

// twoVPPs are two nodes on one wire.
func twoVPPs(t *testing.T) (a, b *tunnelNode) {
	t.Helper()
	near, far, _ := wire(t)
	node := func(name, address string) *tunnelNode {
		addresses := [2]string{"10.77.0." + address, "fd77::" + address}
		return tunnelNodeOn(t, vpptest.Start(t, vpptest.Sleeping()), addresses, onWire(name, addresses)...)
	}
	a, b = node(near, "1"), node(far, "2")
	a.reaches(t, b)
	return a, b
}

// tunnelNodeOn starts an agent on a VPP that is linked with others.
func tunnelNodeOn(t *testing.T, v *vpptest.VPP, addresses [2]string, underlay ...string) *tunnelNode {
	t.Helper()
	n := &tunnelNode{vpp: v, underlay: underlay, addresses: addresses}
	n.link(t)
	n.Agent = lab.StartAgent(t, lab.OnVPP(v), lab.With("node.address", addresses[0]))
	return n
}

// link gives VPP its underlay.
func (n *tunnelNode) link(t *testing.T) {
	t.Helper()
	for _, c := range n.underlay {
		if out := n.vpp.CLI(c); strings.Contains(out, "error") || strings.Contains(out, "unknown") {
			t.Fatalf("%s: %s", c, out)
		}
	}
}

// reaches waits until the underlay carries packets.
func (n *tunnelNode) reaches(t *testing.T, other *tunnelNode) {
	t.Helper()
	lab.Eventually(t, 10*time.Second, "the underlay", func() error {
		if out := n.vpp.CLI("ping " + other.addresses[0] + " repeat 1 interval 0.1"); !strings.Contains(out, "1 received") {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
}

// tunnel is what a story connects two workloads by.
type tunnelCase struct {
	kind, payload string
	family        int // of the underlay: 0 IPv4, 1 IPv6
	parameters    map[string]string
	mtu           int
}

func (c tunnelCase) String() string {
	return fmt.Sprintf("%s %s over IPv%d", c.kind, c.payload, 4+2*c.family)
}

// tunnelCases is every kind with every payload over both families, over 1500 bytes.
func tunnelCases() (all []tunnelCase) {
	for family, outer := range []int{20, 40} {
		for _, c := range []tunnelCase{
			{kind: "VXLAN", payload: "ETHERNET", mtu: 30}, {kind: "VXLAN", payload: "IP", mtu: 30},
			{kind: "GENEVE", payload: "ETHERNET", mtu: 30}, {kind: "GENEVE", payload: "IP", mtu: 30},
			{kind: "GRE", payload: "ETHERNET", mtu: 22}, {kind: "GRE", payload: "IP", mtu: 8},
			{kind: "IPIP", payload: "IP"}, {kind: "WIREGUARD", payload: "IP", mtu: 40},
		} {
			c.family, c.mtu, c.parameters = family, 1500-outer-c.mtu, map[string]string{}
			number := fmt.Sprint(1000 + wires.Add(1))
			switch c.kind {
			case "VXLAN", "GENEVE":
				c.parameters["vni"] = number
			case "GRE":
				c.parameters["key"] = number
			case "WIREGUARD":
				c.parameters["src_port"], c.parameters["dst_port"] = "5"+number[:4], "4"+number[:4]
			}
			all = append(all, c)
		}
	}
	return all
}

// at are the parameters of the tunnel from a to b, for both records.
func (c tunnelCase) at(t *testing.T, id string, a, b *tunnelNode) map[string]string {
	p := maps.Clone(c.parameters)
	p["src_ip"], p["dst_ip"] = a.addresses[c.family], b.addresses[c.family]
	if c.kind == "WIREGUARD" {
		none := base64.StdEncoding.EncodeToString(make([]byte, 32))
		p["src_public_key"], p["dst_public_key"] = none, none
		p["src_public_key"], p["dst_public_key"] = a.publicKey(t, id, "endpoint", p), b.publicKey(t, id, "client", p)
	}
	return p
}

var ownKey = regexp.MustCompile(`which is ([A-Za-z0-9+/]{43}=)`)

// publicKey is what the node says that its key for a connection is, when it is given another.
func (n *tunnelNode) publicKey(t *testing.T, id, side string, p map[string]string) string {
	t.Helper()
	ends := map[string]end{"client": {mechanism: "MEMIF"}, "endpoint": {mechanism: "MEMIF"}}
	ends[side] = end{mechanism: "WIREGUARD", parameters: p}
	n.put(t, id, "IP", 0, ends["client"], ends["endpoint"])
	s := awaitState(t, n.Agent, id, func(s linkStatus) bool { return ownKey.MatchString(s.Reason) })
	n.Etcdctl("del", "/patchbay/v1/nodes/n1/crossconnects/"+id)
	return ownKey.FindStringSubmatch(s.Reason)[1]
}

func (n *tunnelNode) put(t *testing.T, id, payload string, mtu int, client, endpoint end) {
	t.Helper()
	side := func(e end) map[string]any {
		return map[string]any{"mechanism": map[string]any{"type": e.mechanism, "parameters": e.parameters}, "addresses": e.addresses}
	}
	data, err := json.Marshal(map[string]any{"id": id, "payload": payload, "mtu": mtu, "client": side(client), "endpoint": side(endpoint)})
	if err != nil {
		t.Fatal(err)
	}
	n.Etcdctl("put", "/patchbay/v1/nodes/n1/crossconnects/"+id, string(data))
}

// connect puts both records of a connection between two workloads, and waits until both are up.
func (c tunnelCase) connect(t *testing.T, id string, a, b *tunnelNode, client, endpoint end) {
	t.Helper()
	p := c.at(t, id, a, b)
	far := func(e end) end { return end{mechanism: c.kind, parameters: p, addresses: e.addresses} }
	b.put(t, id, c.payload, c.mtu, far(client), endpoint)
	a.put(t, id, c.payload, c.mtu, client, far(endpoint))
	for _, n := range []*tunnelNode{a, b} {
		awaitState(t, n.Agent, id, func(s linkStatus) bool { return s.State == "UP" })
	}
}
