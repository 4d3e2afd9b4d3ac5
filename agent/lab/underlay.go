package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"go.patchbay.dev/plugins/linux"
)

// The underlay is a bridge in a namespace of its own. A node has one port there for its
// kernel, its agent and its etcd, and one more that its VPP attaches.
const (
	bridge = "br0"
	// KernelLink and VPPLink are a node's ends of its ports, in its namespace.
	KernelLink = "eth0"
	VPPLink    = "vpp0"
)

// ErrNoNetem says that this kernel can neither delay nor lose packets.
var ErrNoNetem = errors.New("this kernel has no netem (CONFIG_NET_SCH_NETEM)")

// underlay is what the nodes are connected by.
type underlay struct {
	netns string
	mtu   int // bytes
}

func (u underlay) make() error {
	if err := ip("", "netns add "+u.netns); err != nil {
		return err
	}
	// All multicast goes everywhere, so that neighbours find each other at once.
	return ip(u.netns, "link add "+bridge+" type bridge mcast_snooping 0", fmt.Sprintf("link set %s mtu %d up", bridge, u.mtu))
}

// kind of a port: which MACs and addresses its node's end has.
type kind byte

const (
	kernelPort kind = iota
	vppPort
)

func (k kind) link() string {
	if k == vppPort {
		return VPPLink
	}
	return KernelLink
}

// port is the name of a node's port of the bridge.
func (k kind) port(n *Node) string {
	if k == vppPort {
		return n.Name + "-vpp"
	}
	return n.Name
}

// mac is that of a node's end: 02:70:62:00:<kind>:<node>.
func (k kind) mac(n *Node) string { return fmt.Sprintf("02:70:62:00:%02x:%02x", byte(k), n.index) }

// addresses are 10.99.0.<node> and fd99::<node>, VPP's 10.99.0.<100+node> and fd99::<100+node>.
func (k kind) addresses(n *Node) [2]netip.Prefix {
	// Of fd99::101, the last byte but one is the 1 of the 100.
	v4, v6 := [4]byte{10, 99, 0, byte(n.index)}, [16]byte{0xfd, 0x99, 15: byte(n.index)}
	if k == vppPort {
		v4[3], v6[14] = v4[3]+100, 1
	}
	return [2]netip.Prefix{netip.PrefixFrom(netip.AddrFrom4(v4), 24), netip.PrefixFrom(netip.AddrFrom16(v6), 64)}
}

// plug gives a node a port. Segments and checksums are finished before packets leave, as
// on a wire: VPP takes what it gets as it is.
func (u underlay) plug(n *Node, k kind, spaces *linux.Namespaces) error {
	port, link := k.port(n), k.link()
	if err := ip("", fmt.Sprintf("link add %s mtu %d netns %s type veth peer name %s address %s mtu %d netns %s",
		port, u.mtu, u.netns, link, k.mac(n), u.mtu, n.Netns)); err != nil {
		return err
	}
	// A qdisc that CutPair brought to a port in use would lose packets (Linux 6.18: 85 of 102,000 in 150 times).
	// A kernel without it cannot cut pairs, and CutPair says so.
	_ = tc(u.netns, clsact(port))
	if err := ip(u.netns, fmt.Sprintf("link set %s master %s up", port, bridge)); err != nil {
		return err
	}
	if err := ip(n.Netns, "link set "+link+" up"); err != nil {
		return err
	}
	ns, err := spaces.Open(namedNetns + n.Netns)
	if err != nil {
		return err
	}
	defer ns.Close()
	return ns.NoOffload(link)
}

// ports of a node.
func ports(n *Node) []kind {
	if n.VPP != nil {
		return []kind{kernelPort, vppPort}
	}
	return []kind{kernelPort}
}

// Cut pulls a node's cables out of the underlay.
func (l *Lab) Cut(n *Node) error { return l.setPorts(n, "down") }

// Mend puts them back.
func (l *Lab) Mend(n *Node) error { return l.setPorts(n, "up") }

func (l *Lab) setPorts(n *Node, state string) error {
	var lines []string
	for _, k := range ports(n) {
		lines = append(lines, fmt.Sprintf("link set %s %s", k.port(n), state))
	}
	return ip(l.underlay.netns, lines...)
}

// clsact gives a port what filters hang on, if it has none yet.
func clsact(port string) string { return "qdisc replace dev " + port + " clsact" }

// CutPair drops what two nodes send each other; both still reach the others.
func (l *Lab) CutPair(a, b *Node) error {
	return errors.Join(l.deafen(a, b), l.deafen(b, a))
}

// MendPair ends that.
func (l *Lab) MendPair(a, b *Node) error {
	return errors.Join(l.hear(a, b), l.hear(b, a))
}

// deafen drops at a node's ports what comes from another, by its MACs. The program is
// BPF's as in bpf_asm(8): of bytes 6 to 11, the source, all but the kind of the port.
func (l *Lab) deafen(n, from *Node) error {
	program := fmt.Sprintf("6,32 0 0 6,21 0 3 %d,48 0 0 11,21 0 1 %d,6 0 0 2,6 0 0 4294967295", 0x02706200, from.index)
	var lines []string
	for _, k := range ports(n) {
		lines = append(lines,
			clsact(k.port(n)),
			fmt.Sprintf("filter replace dev %s egress pref %d handle 1 protocol all bpf da bytecode \"%s\"", k.port(n), from.index, program))
	}
	return tc(l.underlay.netns, lines...)
}

// tunnelCut is the preference of the filter of CutTunnels: no node's index.
const tunnelCut = 100

// CutTunnels drops at a node's ports what VXLAN and BFD send it over IPv4 (UDP ports 4789 and
// 4784), so that its agent and etcd are reached and its tunnels are not.
func (l *Lab) CutTunnels(n *Node) error {
	const program = "9,40 0 0 12,21 0 5 2048,48 0 0 23,21 0 3 17,40 0 0 36,21 2 0 4789,21 1 0 4784,6 0 0 4294967295,6 0 0 2"
	var lines []string
	for _, k := range ports(n) {
		lines = append(lines,
			clsact(k.port(n)),
			fmt.Sprintf("filter replace dev %s egress pref %d handle 1 protocol all bpf da bytecode \"%s\"", k.port(n), tunnelCut, program))
	}
	return tc(l.underlay.netns, lines...)
}

// MendTunnels ends that.
func (l *Lab) MendTunnels(n *Node) error {
	var lines []string
	for _, k := range ports(n) {
		lines = append(lines, fmt.Sprintf("filter delete dev %s egress pref %d", k.port(n), tunnelCut))
	}
	return tc(l.underlay.netns, lines...)
}

func (l *Lab) hear(n, from *Node) error {
	var lines []string
	for _, k := range ports(n) {
		lines = append(lines, fmt.Sprintf("filter delete dev %s egress pref %d", k.port(n), from.index))
	}
	return tc(l.underlay.netns, lines...)
}

// Disturb delays what goes to a node and loses so many percent of it; zero and zero ends
// that. The error is ErrNoNetem where the kernel cannot.
func (l *Lab) Disturb(n *Node, delay time.Duration, loss float64) error {
	var lines []string
	for _, k := range ports(n) {
		line := fmt.Sprintf("qdisc replace dev %s root netem delay %dus loss %.3f%%", k.port(n), delay.Microseconds(), loss)
		if delay == 0 && loss == 0 {
			line = fmt.Sprintf("qdisc delete dev %s root", k.port(n))
		}
		lines = append(lines, line)
	}
	err := tc(l.underlay.netns, lines...)
	if err != nil && strings.Contains(err.Error(), "qdisc kind is unknown") {
		return ErrNoNetem
	}
	return err
}
