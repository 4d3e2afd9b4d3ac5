package linux

import (
	"encoding/binary"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// attributes are those of IFLA_INFO_DATA.
type attributes []*nl.RtAttr

func (a *attributes) add(kind int, value []byte) { *a = append(*a, nl.NewRtAttr(kind, value)) }

// ports and GRE's flags are in network order.
func be16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }

// hopLimit of outer packets where the kernel would take that of the inner ones, which may
// be meant for the link (RFC 4213, 3.3, RFC 2784 says nothing).
const hopLimit = 64

// greKeyed is the flag of a key (GRE_KEY, linux/if_tunnel.h).
const greKeyed = 0x2000

// noEncapLimit leaves out the option of 8 bytes that RFC 2473, 4.1.1 has in outer IPv6
// packets: few others understand it (IP6_TNL_F_IGN_ENCAP_LIMIT, linux/ip6_tunnel.h).
const noEncapLimit = 1

func (v VXLAN) data() attributes {
	a := v.ends()
	a.add(nl.IFLA_VXLAN_PORT, be16(v.Port))
	return append(a, v.learning()...)
}

// ends of a tunnel, which the kernel changes in place if the VNI stays.
func (v VXLAN) ends() (a attributes) {
	a.add(nl.IFLA_VXLAN_ID, nl.Uint32Attr(v.VNI))
	local, remote := nl.IFLA_VXLAN_LOCAL, nl.IFLA_VXLAN_GROUP
	if v.Local.Is6() {
		local, remote = nl.IFLA_VXLAN_LOCAL6, nl.IFLA_VXLAN_GROUP6
	}
	a.add(local, v.Local.AsSlice())
	if v.Remote.IsValid() {
		a.add(remote, v.Remote.AsSlice())
	}
	return a
}

// learning: with one peer, nobody else leads frames away.
func (v VXLAN) learning() (a attributes) {
	learn := []byte{0}
	if !v.Remote.IsValid() {
		a.add(nl.IFLA_VXLAN_AGEING, nl.Uint32Attr(v.Age))
		if v.Learn {
			learn[0] = 1
		}
	}
	a.add(nl.IFLA_VXLAN_LEARNING, learn)
	return a
}

func (g GENEVE) data() (a attributes) {
	a.add(nl.IFLA_GENEVE_ID, nl.Uint32Attr(g.VNI))
	a.add(nl.IFLA_GENEVE_PORT, be16(g.Port))
	remote := nl.IFLA_GENEVE_REMOTE
	if g.Remote.Is6() {
		remote = nl.IFLA_GENEVE_REMOTE6
	}
	a.add(remote, g.Remote.AsSlice())
	return a
}

func (g GRE) data() (a attributes) {
	a.add(nl.IFLA_GRE_LOCAL, g.Local.AsSlice())
	a.add(nl.IFLA_GRE_REMOTE, g.Remote.AsSlice())
	a.add(nl.IFLA_GRE_TTL, []byte{hopLimit})
	if g.Remote.Is4() {
		a.add(nl.IFLA_GRE_PMTUDISC, []byte{1})
	} else {
		a.add(nl.IFLA_GRE_FLAGS, nl.Uint32Attr(noEncapLimit))
	}
	if g.Keyed {
		key := binary.BigEndian.AppendUint32(nil, g.Key)
		a.add(nl.IFLA_GRE_IFLAGS, be16(greKeyed))
		a.add(nl.IFLA_GRE_OFLAGS, be16(greKeyed))
		a.add(nl.IFLA_GRE_IKEY, key)
		a.add(nl.IFLA_GRE_OKEY, key)
	}
	return a
}

func (i IPIP) data() (a attributes) {
	a.add(nl.IFLA_IPTUN_LOCAL, i.Local.AsSlice())
	a.add(nl.IFLA_IPTUN_REMOTE, i.Remote.AsSlice())
	a.add(nl.IFLA_IPTUN_TTL, []byte{hopLimit})
	a.add(nl.IFLA_IPTUN_PROTO, []byte{0}) // IPv4 and IPv6
	if i.Remote.Is4() {
		a.add(nl.IFLA_IPTUN_PMTUDISC, []byte{1})
	} else {
		a.add(nl.IFLA_IPTUN_FLAGS, nl.Uint32Attr(noEncapLimit))
	}
	return a
}

func (w WireGuard) data() attributes { return nil } // see configureWireGuard

// parseInfo reads an IFLA_LINKINFO: the interface's kind, what is to be known of a bridge or
// of a port of one and, if it is one of ours, the tunnel; of WireGuard only that it is one.
func (l *Link) parseInfo(info []byte) {
	var data []byte
	for k, v := range attrs(info) {
		switch k {
		case nl.IFLA_INFO_KIND:
			l.Kind = text(v)
		case nl.IFLA_INFO_DATA:
			data = v
		case nl.IFLA_INFO_SLAVE_DATA:
			l.Port = parseBridgePort(v)
		}
	}
	switch l.Kind {
	case kindVXLAN:
		l.Device = parseVXLAN(data)
	case kindGENEVE:
		l.Device = parseGENEVE(data)
	case kindGRE, kindGRETap, kindIP6GRE, kindIP6GRETap:
		l.Device = parseGRE(data, l.Kind == kindGRETap || l.Kind == kindIP6GRETap)
	case kindSIT, kindIP6Tnl:
		l.Device = parseIPIP(data)
	case kindWireGuard:
		l.Device = WireGuard{}
	case kindBridge:
		for k, v := range attrs(data) {
			if k == nl.IFLA_BR_AGEING_TIME {
				l.Age = age(u32(v))
			}
		}
	}
}

func parseVXLAN(data []byte) (d VXLAN) {
	for kind, v := range attrs(data) {
		switch kind {
		case nl.IFLA_VXLAN_ID:
			d.VNI = u32(v)
		case nl.IFLA_VXLAN_PORT:
			d.Port = port(v)
		case nl.IFLA_VXLAN_LOCAL, nl.IFLA_VXLAN_LOCAL6:
			d.Local = address(v)
		case nl.IFLA_VXLAN_GROUP, nl.IFLA_VXLAN_GROUP6:
			d.Remote = address(v)
		case nl.IFLA_VXLAN_LEARNING:
			d.Learn = len(v) > 0 && v[0] != 0
		case nl.IFLA_VXLAN_AGEING:
			d.Age = u32(v)
		}
	}
	if d.Remote.IsValid() {
		d.Age = 0
	}
	return d
}

func parseGENEVE(data []byte) (d GENEVE) {
	for kind, v := range attrs(data) {
		switch kind {
		case nl.IFLA_GENEVE_ID:
			d.VNI = u32(v)
		case nl.IFLA_GENEVE_PORT:
			d.Port = port(v)
		case nl.IFLA_GENEVE_REMOTE, nl.IFLA_GENEVE_REMOTE6:
			d.Remote = address(v)
		}
	}
	return d
}

func parseGRE(data []byte, ethernet bool) GRE {
	d := GRE{Ethernet: ethernet}
	var key uint32
	for kind, v := range attrs(data) {
		switch kind {
		case nl.IFLA_GRE_LOCAL:
			d.Local = address(v)
		case nl.IFLA_GRE_REMOTE:
			d.Remote = address(v)
		case nl.IFLA_GRE_IFLAGS:
			d.Keyed = port(v)&greKeyed != 0
		case nl.IFLA_GRE_IKEY:
			if len(v) == 4 {
				key = binary.BigEndian.Uint32(v)
			}
		}
	}
	if d.Keyed {
		d.Key = key
	}
	return d
}

func parseIPIP(data []byte) (d IPIP) {
	for kind, v := range attrs(data) {
		switch kind {
		case nl.IFLA_IPTUN_LOCAL:
			d.Local = address(v)
		case nl.IFLA_IPTUN_REMOTE:
			d.Remote = address(v)
		}
	}
	return d
}

func address(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a
}

func port(b []byte) uint16 {
	if len(b) != 2 {
		return 0
	}
	return binary.BigEndian.Uint16(b)
}

// made are the kinds of interfaces that are made here.
func made(kind string) bool {
	switch kind {
	case kindVeth, kindTun, kindVXLAN, kindGENEVE, kindGRE, kindGRETap, kindIP6GRE, kindIP6GRETap, kindSIT, kindIP6Tnl, kindWireGuard:
		return true
	}
	return false
}

// linkInfo is an IFLA_LINKINFO.
func linkInfo(kind string, data attributes) *nl.RtAttr {
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated(kind))
	if len(data) > 0 {
		in := info.AddRtAttr(nl.IFLA_INFO_DATA, nil)
		for _, a := range data {
			in.AddChild(a)
		}
	}
	return info
}
