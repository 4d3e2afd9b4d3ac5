package linux

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"go.patchbay.dev/plugins/linux/nstest"
)

// A tunnelTest is what a copy of the test needs to know.
type tunnelTest struct {
	End        int // 0 or 1
	Underlay   nstest.Underlay
	Workload   string
	Instance   string
	PrivateKey [32]byte // WireGuard's; as bytes, since it does not show
	PeerKey    [32]byte
}

// deviceKinds are all that can be made, each by what it takes to make one end.
var deviceKinds = []struct {
	name   string
	ipv6   bool // underlay
	device func(x tunnelTest, local, remote netip.Addr) Device
}{
	{"VXLAN", false, vxlanTest},
	{"VXLAN over IPv6", true, vxlanTest},
	{"GENEVE", false, geneveTest},
	{"GENEVE over IPv6", true, geneveTest},
	{"GRE for Ethernet", false, greTest(GRE{Ethernet: true})},
	{"GRE for Ethernet over IPv6", true, greTest(GRE{Ethernet: true})},
	{"GRE", false, greTest(GRE{})},
	{"GRE over IPv6", true, greTest(GRE{})},
	{"GRE with a key", false, greTest(GRE{Ethernet: true, Keyed: true, Key: 0xfffffffe})},
	{"GRE with a key over IPv6", true, greTest(GRE{Keyed: true, Key: 7})},
	{"IP in IP", false, func(_ tunnelTest, l, r netip.Addr) Device { return IPIP{Local: l, Remote: r} }},
	{"IP in IPv6", true, func(_ tunnelTest, l, r netip.Addr) Device { return IPIP{Local: l, Remote: r} }},
	{"WireGuard", false, wireGuardTest},
	{"WireGuard over IPv6", true, wireGuardTest},
}

func vxlanTest(_ tunnelTest, l, r netip.Addr) Device {
	return VXLAN{Local: l, Remote: r, VNI: 0xfffffe, Port: 4789}
}

func geneveTest(_ tunnelTest, l, r netip.Addr) Device {
	return GENEVE{Local: l, Remote: r, VNI: 0xfffffe, Port: 6081}
}

func greTest(g GRE) func(tunnelTest, netip.Addr, netip.Addr) Device {
	return func(_ tunnelTest, l, r netip.Addr) Device {
		g.Local, g.Remote = l, r
		return g
	}
}

func wireGuardTest(x tunnelTest, _, r netip.Addr) Device {
	return WireGuard{PrivateKey: x.PrivateKey, Port: 51820, PeerKey: x.PeerKey, Peer: netip.AddrPortFrom(r, 51820)}
}

// Each kind carries packets of the full size between two workloads on two nodes, is
// recognised and goes without a trace.
func TestTunnelsBetweenTwoNodes(t *testing.T) {
	for _, c := range deviceKinds {
		t.Run(c.name, func(t *testing.T) {
			var x tunnelTest
			if role := nstest.Role(t, &x); role != "" {
				x.play(t, role, c.device)
				return
			}
			a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
			if c.ipv6 {
				a, b = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
			}
			d := c.device(tunnelTest{}, a, b)
			nstest.NeedDevices(t, d.DeviceKind(), newNamespaces(t).Supports(d.DeviceKind()))
			u := nstest.NewUnderlay(t, c.ipv6)
			keys := wireGuardKeys()
			var ends [2]tunnelTest
			for i := range ends {
				ends[i] = tunnelTest{i, u, nstest.New(t), instance(t), keys[i].private, keys[1-i].public}
				// A name that is taken in the agent's namespace is free in a workload's.
				nstest.Run(t, u.Nodes[i], "ip", "link", "add", "nsm0", "type", "veth", "peer", "name", "other")
				nstest.Start(t, u.Nodes[i], "make", ends[i]).End()
			}
			size := 1500 - d.Overhead()
			for _, p := range []struct {
				from, to string
				head     int
			}{{ends[0].Workload, "10.60.0.2", 28}, {ends[1].Workload, "10.60.0.1", 28}, {ends[0].Workload, "fd60::2", 48}, {ends[1].Workload, "fd60::1", 48}} {
				nstest.Run(t, p.from, "ping", "-c", "1", "-w", "10", "-M", "do", "-s", fmt.Sprint(size-p.head), p.to)
			}
			nstest.Start(t, u.Nodes[0], "find and delete", ends[0]).End()
			left := nstest.Run(t, ends[0].Workload, "ip", "-o", "link", "show")
			if strings.Contains(left, "nsm0") {
				t.Errorf("left over: %s", left)
			}
			// What it took is free again.
			nstest.Start(t, u.Nodes[0], "make", ends[0]).End()
			nstest.Run(t, ends[0].Workload, "ping", "-c", "1", "-w", "10", "10.60.0.2")
		})
	}
}

// play does what an agent does at one end.
func (x tunnelTest) play(t *testing.T, role string, device func(x tunnelTest, local, remote netip.Addr) Device) {
	n, err := New(Options{Instance: x.Instance})
	check(t, err)
	defer func() { check(t, n.Close()) }()
	ns, err := n.Open(x.Workload)
	check(t, err)
	defer func() { check(t, ns.Close()) }()
	_, err = ns.NSID()
	check(t, err)
	d := device(x, netip.MustParseAddr(x.Underlay.Addresses[x.End]), netip.MustParseAddr(x.Underlay.Addresses[1-x.End]))
	var mac MAC
	if d.Frames() {
		mac = MAC{2, 0, 0, 0, 0, byte(x.End + 1)}
	}
	before := n.Mutations()
	if role == "make" {
		check(t, n.CreateDevice(End{ns, "passing0", mac, 1500 - d.Overhead()}, d))
		if n.Mutations() == before {
			t.Error("changing calls were not counted")
		}
		l, err := ns.LinkByName("passing0")
		check(t, err)
		l, err = ns.SetLink(l.Index, Change{Name: "nsm0", Alias: "patchbay:c1:client", Up: true})
		check(t, err)
		check(t, ns.ConfigureNew(l.Index, Config{Addresses: []netip.Prefix{
			netip.MustParsePrefix(fmt.Sprintf("10.60.0.%d/24", x.End+1)), netip.MustParsePrefix(fmt.Sprintf("fd60::%d/64", x.End+1))}}))
	}
	l, err := ns.LinkByName("nsm0")
	check(t, err)
	found, err := ns.Device(l)
	check(t, err)
	if !l.Ours || l.Kind != d.DeviceKind() || !SameDevice(found, d) || l.MTU != 1500-d.Overhead() {
		t.Errorf("%+v is %+v, want %+v", l, found, d)
	}
	if l.MAC != mac {
		t.Errorf("its address is %s", l.MAC)
	}
	s, err := ns.Survey()
	check(t, err)
	if len(s.Links) != 1 || !SameDevice(s.Links[0].Device, d) || len(s.Configs[l.Index].Addresses) != 2 {
		t.Errorf("found %+v", s)
	}
	hidden, err := n.Links(none)
	check(t, err)
	if len(hidden) != 1 || hidden[0].Alias != "patchbay:c1:client" {
		t.Errorf("found without opening: %+v", hidden)
	}
	if role == "make" {
		err := n.CreateDevice(End{ns, "passing0", mac, 1400}, d)
		if _, wg := d.(WireGuard); wg { // a device by itself takes nothing
			check(t, err)
			l, err := ns.LinkByName("passing0")
			check(t, err)
			check(t, n.DeleteLink(l))
		} else if !errors.Is(err, ErrTunnelTaken) || !strings.Contains(err.Error(), `at the client of connection "c1"`) {
			t.Errorf("a second one: %v", err)
		}
		return
	}
	if n.Mutations() != before {
		t.Error("looking has changed something")
	}
	check(t, n.DeleteLink(l))
}
