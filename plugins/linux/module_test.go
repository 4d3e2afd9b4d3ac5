package linux

import (
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"go.patchbay.dev/plugins/linux/nstest"
)

// What is said of a kind is true: it can be made, or cannot for want of a module.
// PATCHBAY_TEST_LACKS names the kinds that are known to be absent.
func TestWhatTheKernelSupports(t *testing.T) {
	path := nstest.New(t)
	n := newNamespaces(t)
	ns, err := n.Open(path)
	check(t, err)
	defer func() { check(t, ns.Close()) }()
	before := nstest.Run(t, path, "ip", "-o", "link", "show")
	l4, r4, l6, r6 := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2"), netip.IPv6Loopback(), netip.MustParseAddr("2001:db8::1")
	for _, d := range []Device{
		VXLAN{Local: l4, Remote: r4, VNI: 1<<24 - 1, Port: 47890}, GENEVE{Local: l4, Remote: r4, VNI: 1, Port: 47891},
		GRE{Local: l4, Remote: r4}, GRE{Local: l4, Remote: r4, Ethernet: true}, GRE{Local: l6, Remote: r6}, GRE{Local: l6, Remote: r6, Ethernet: true},
		IPIP{l4, r4}, IPIP{l6, r6}, WireGuard{Peer: netip.AddrPortFrom(r4, 1)},
	} {
		kind := d.DeviceKind()
		missing := n.Supports(kind)
		t.Logf("%s: %q", kind, missing)
		if n.Supports(kind) != missing {
			t.Errorf("%s: another answer", kind)
		}
		lacks := strings.Contains(" "+os.Getenv("PATCHBAY_TEST_LACKS")+" ", " "+kind+" ")
		switch {
		case missing != "" && !strings.Contains(missing, "needs the kernel module "+modules[kind]+"; load it with: modprobe "+modules[kind]):
			t.Errorf("%s: %q", kind, missing)
		case lacks && missing == "":
			t.Errorf("%s: is not there, but nothing is said to be missing", kind)
		case lacks:
			err := n.CreateDevice(End{ns, "passing0", MAC{2}, 1400}, d)
			if !errors.Is(err, unix.EOPNOTSUPP) || !strings.Contains(err.Error(), missing) {
				t.Errorf("%s: %v", kind, err)
			}
		}
	}
	if missing := n.Supports("nonsense"); missing == "" {
		t.Error("nonsense is said to be supported")
	}
	if after := nstest.Run(t, path, "ip", "-o", "link", "show"); after != before {
		t.Errorf("asking has left: %s", after)
	}
}

func TestModulesThatAreListed(t *testing.T) {
	list := "kernel/net/ipv4/ip_gre.ko.xz: kernel/net/ipv4/gre.ko.xz\nkernel/drivers/net/wireguard/wireguard.ko:\nextra/ip6-gre.ko.zst: x\n"
	for module, want := range map[string]bool{"ip_gre": true, "wireguard": true, "ip6_gre": true, "gre": false, "vxlan": false} {
		if got := hasModule(list, module); got != want {
			t.Errorf("%s: %v", module, got)
		}
	}
}

func TestTheAddressesOfTheNode(t *testing.T) {
	role := nstest.Role(t, new(string))
	if role == "" {
		u := nstest.NewUnderlay(t, false)
		node := u.Nodes[0]
		nstest.Run(t, node, "ip", "link", "set", "lo", "up")
		nstest.Run(t, node, "ip", "address", "add", "198.51.100.1/32", "dev", "lo")
		nstest.Run(t, node, "ip", "link", "add", "big", "mtu", "9000", "type", "veth", "peer", "name", "big2", "mtu", "9000")
		nstest.Run(t, node, "ip", "address", "add", "203.0.113.1/24", "dev", "big")
		nstest.Run(t, node, "ip", "link", "set", "big", "up")
		nstest.Start(t, node, "ask", "").End()
		return
	}
	n := newNamespaces(t)
	for text, want := range map[string]int{"192.0.2.1": 1500, "2001:db8::1": 1500, "203.0.113.1": 9000, "198.51.100.1": 1500, "192.0.2.2": 0} {
		if mtu, ok := n.Address(netip.MustParseAddr(text)); mtu != want || ok != (want > 0) {
			t.Errorf("%s: %d, %v", text, mtu, ok)
		}
	}
}
