package linux

import "net/netip"

// A Device is a tunnel of the kernel's: its end is in a workload's namespace, its underlay
// in the agent's. It is a models.Device.
type Device interface {
	// DeviceKind is the kernel's word for it, as in ip link add type.
	DeviceKind() string
	// Frames tells whether it carries Ethernet frames; else it carries IP packets, and its
	// interface has no MAC.
	Frames() bool
	// MACs are set where the addresses of both ends are fixed: of this end's interface and
	// of the other's. Zero: any.
	MACs() (own, peer MAC)
	// Underlay is the address that this end sends from, and that of the other end.
	Underlay() (local, remote netip.Addr)
	// Overhead is what a packet of the interface's MTU has grown by in the underlay, bytes.
	Overhead() int
	// shown is the device as far as the kernel shows it.
	shown() Device
	// data are its parameters (IFLA_INFO_DATA).
	data() attributes
}

// SameDevice tells whether a device that was found is the one that is wanted, as far as the
// kernel shows it: not where a GENEVE tunnel sends from, and MACs are the interface's.
func SameDevice(found, want Device) bool {
	return found != nil && want != nil && found.shown() == want.shown()
}

// VXLAN is RFC 7348 with one fixed peer: Ethernet. With none, it has those of
// [Namespaces.AddPeer], and remembers which MAC is behind which.
type VXLAN struct {
	Local, Remote netip.Addr
	Learn         bool   // by what comes in; without a peer of its own only
	Age           uint32 // of what was learned, in seconds; 0: for ever; as Learn
	VNI           uint32 // 24 bits; one device of the node has it
	Port          uint16 // UDP, of both ends
	MAC, PeerMAC  MAC    // of this end's device and of the other's, for IP as payload; zero: any
}

// GENEVE is RFC 8926 with one fixed peer: Ethernet. The kernel sends from the address that
// its routes choose, which must be Local.
type GENEVE struct {
	Local, Remote netip.Addr
	VNI           uint32 // 24 bits
	Port          uint16 // UDP, of both ends
	MAC, PeerMAC  MAC    // as of VXLAN
}

// GRE is RFC 2784 and 2890: Ethernet (gretap, ip6gretap) or IP (gre, ip6gre).
type GRE struct {
	Local, Remote netip.Addr
	Ethernet      bool
	Keyed         bool
	Key           uint32
}

// IPIP carries IP in IP, of both versions: RFC 2003, 2473 and 4213.
type IPIP struct{ Local, Remote netip.Addr }

// WireGuard carries IP, encrypted, to one peer, and sends from the address that the routes
// choose.
type WireGuard struct {
	PrivateKey PrivateKey
	Port       uint16 // UDP, that this end listens on
	PeerKey    [32]byte
	Peer       netip.AddrPort
}

// The kernel's words for the kinds.
const (
	kindVXLAN     = "vxlan"
	kindGENEVE    = "geneve"
	kindGRETap    = "gretap"
	kindIP6GRETap = "ip6gretap"
	kindGRE       = "gre"
	kindIP6GRE    = "ip6gre"
	kindSIT       = "sit"
	kindIP6Tnl    = "ip6tnl"
	kindWireGuard = "wireguard"
)

// DeviceKind is the kernel's word for it.
func (VXLAN) DeviceKind() string { return kindVXLAN }

// DeviceKind is the kernel's word for it.
func (GENEVE) DeviceKind() string { return kindGENEVE }

// DeviceKind is the kernel's word for it.
func (WireGuard) DeviceKind() string { return kindWireGuard }

// DeviceKind is the kernel's word for it.
func (g GRE) DeviceKind() string {
	switch {
	case g.Ethernet && g.Local.Is4():
		return kindGRETap
	case g.Ethernet:
		return kindIP6GRETap
	case g.Local.Is4():
		return kindGRE
	}
	return kindIP6GRE
}

// DeviceKind is the kernel's word for it. Of its kinds over IPv4, ipip takes no IPv6; sit takes
// both.
func (i IPIP) DeviceKind() string {
	if i.Local.Is4() {
		return kindSIT
	}
	return kindIP6Tnl
}

// Frames tells whether it carries Ethernet frames.
func (VXLAN) Frames() bool { return true }

// Frames tells whether it carries Ethernet frames.
func (GENEVE) Frames() bool { return true }

// Frames tells whether it carries Ethernet frames.
func (g GRE) Frames() bool { return g.Ethernet }

// Frames tells whether it carries Ethernet frames.
func (IPIP) Frames() bool { return false }

// Frames tells whether it carries Ethernet frames.
func (WireGuard) Frames() bool { return false }

// MACs are those of both ends, where they are fixed.
func (v VXLAN) MACs() (own, peer MAC) { return v.MAC, v.PeerMAC }

// MACs are those of both ends, where they are fixed.
func (g GENEVE) MACs() (own, peer MAC) { return g.MAC, g.PeerMAC }

// MACs are never fixed.
func (GRE) MACs() (own, peer MAC) { return own, peer }

// MACs are never fixed.
func (IPIP) MACs() (own, peer MAC) { return own, peer }

// MACs are never fixed.
func (WireGuard) MACs() (own, peer MAC) { return own, peer }

// Underlay is the tunnel's addresses.
func (v VXLAN) Underlay() (local, remote netip.Addr) { return v.Local, v.Remote }

// Underlay is the tunnel's addresses.
func (g GENEVE) Underlay() (local, remote netip.Addr) { return g.Local, g.Remote }

// Underlay is the tunnel's addresses.
func (g GRE) Underlay() (local, remote netip.Addr) { return g.Local, g.Remote }

// Underlay is the tunnel's addresses.
func (i IPIP) Underlay() (local, remote netip.Addr) { return i.Local, i.Remote }

// Underlay is the peer's address; this end has any.
func (w WireGuard) Underlay() (local, remote netip.Addr) { return local, w.Peer.Addr() }

// Sizes of headers in bytes.
const (
	ethernetHeader = 14
	udpHeader      = 8
	vxlanHeader    = 8  // RFC 7348, 5
	geneveHeader   = 8  // RFC 8926, 3.4, without options
	greHeader      = 4  // RFC 2784, 2.1
	greKey         = 4  // RFC 2890, 2
	wireGuardFrame = 32 // WireGuard's whitepaper, 5.4.6: header 16, authentication tag 16
)

// ipHeader is the size of the outer IP header in bytes.
func ipHeader(a netip.Addr) int {
	if a.Is4() {
		return 20
	}
	return 40
}

// Overhead in bytes of a packet in the underlay.
func (v VXLAN) Overhead() int {
	return ipHeader(v.Local) + udpHeader + vxlanHeader + ethernetHeader
}

// Overhead in bytes of a packet in the underlay.
func (g GENEVE) Overhead() int {
	return ipHeader(g.Remote) + udpHeader + geneveHeader + ethernetHeader
}

// Overhead in bytes of a packet in the underlay.
func (g GRE) Overhead() int {
	size := ipHeader(g.Remote) + greHeader
	if g.Ethernet {
		size += ethernetHeader
	}
	if g.Keyed {
		size += greKey
	}
	return size
}

// Overhead in bytes of a packet in the underlay.
func (i IPIP) Overhead() int { return ipHeader(i.Remote) }

// Overhead in bytes of a packet in the underlay.
func (w WireGuard) Overhead() int { return ipHeader(w.Peer.Addr()) + udpHeader + wireGuardFrame }

func (v VXLAN) shown() Device {
	v.MAC, v.PeerMAC = MAC{}, MAC{}
	return v
}

func (g GENEVE) shown() Device {
	g.Local, g.MAC, g.PeerMAC = netip.Addr{}, MAC{}, MAC{}
	return g
}

func (g GRE) shown() Device  { return g }
func (i IPIP) shown() Device { return i }

// A key is clamped before it is used (RFC 7748, 5), and the kernel keeps it so.
func (w WireGuard) shown() Device {
	w.PrivateKey[0] &= 248
	w.PrivateKey[31] = w.PrivateKey[31]&127 | 64
	return w
}
