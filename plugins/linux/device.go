package linux

import "net/netip"

// The kinds of tunnels that the kernel has. Each implements models.Device; its end is in a
// workload's namespace, its underlay in the agent's.

// VXLAN is RFC 7348 with one fixed peer: Ethernet.
type VXLAN struct {
	Local, Remote netip.Addr
	VNI           uint32 // 24 bits; one device of the node has it
	Port          uint16 // UDP, of both ends
	MAC, PeerMAC  MAC    // of this end's device and of the other's, for IP as payload; zero: any
}

// GENEVE is RFC 8926 with one fixed peer: Ethernet.
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

// WireGuard carries IP, encrypted, to one peer.
type WireGuard struct {
	PrivateKey PrivateKey
	Port       uint16 // UDP, that this end listens on
	PeerKey    [32]byte
	Peer       netip.AddrPort
}

// DeviceKind is the kernel's word for it.
func (VXLAN) DeviceKind() string { return "vxlan" }

// DeviceKind is the kernel's word for it.
func (GENEVE) DeviceKind() string { return "geneve" }

// DeviceKind is the kernel's word for it.
func (WireGuard) DeviceKind() string { return "wireguard" }

// DeviceKind is the kernel's word for it.
func (g GRE) DeviceKind() string {
	switch {
	case g.Ethernet && g.Local.Is4():
		return "gretap"
	case g.Ethernet:
		return "ip6gretap"
	case g.Local.Is4():
		return "gre"
	}
	return "ip6gre"
}

// DeviceKind is the kernel's word for it. Of its kinds over IPv4, ipip takes no IPv6; sit takes
// both.
func (i IPIP) DeviceKind() string {
	if i.Local.Is4() {
		return "sit"
	}
	return "ip6tnl"
}
