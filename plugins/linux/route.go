package linux

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// A Route leads to a prefix over the interface.
type Route struct {
	// Policy is 0 for the main table, else the number of the policy whose table it is in.
	Policy int
	// Prefix has no bits set beyond its length.
	Prefix netip.Prefix
	// NextHop is not valid where the prefix is on the link itself.
	NextHop netip.Addr
	// OnLink: the next hop is on the link although no address of the interface says so.
	OnLink bool
}

func (r Route) String() string {
	s := "route " + r.Prefix.String()
	if r.NextHop.IsValid() {
		s += " via " + r.NextHop.String()
	}
	if r.Policy > 0 {
		s += fmt.Sprintf(" of policy %d", r.Policy)
	}
	return s
}

// viaLast orders routes so that next hops are reachable when they are named.
func viaLast(a, b Route) int {
	rank := func(r Route) int {
		if r.NextHop.IsValid() {
			return 1
		}
		return 0
	}
	return cmp.Compare(rank(a), rank(b))
}

func routeRequest(kind, flags, index int, r Route) request {
	h := &nl.RtMsg{RtMsg: unix.RtMsg{
		Family: uint8(family(r.Prefix.Addr())), Dst_len: uint8(r.Prefix.Bits()),
		Table: unix.RT_TABLE_UNSPEC, Protocol: Protocol, Type: unix.RTN_UNICAST,
	}}
	table := uint32(unix.RT_TABLE_MAIN)
	if r.Policy > 0 {
		table = Table(index, r.Policy)
	}
	parts := []nl.NetlinkRequestData{h,
		nl.NewRtAttr(unix.RTA_DST, r.Prefix.Addr().AsSlice()),
		attrU32(unix.RTA_OIF, uint32(index)),
		attrU32(unix.RTA_TABLE, table),
	}
	switch {
	case r.NextHop.IsValid():
		parts = append(parts, nl.NewRtAttr(unix.RTA_GATEWAY, r.NextHop.AsSlice()))
		if r.OnLink {
			h.Flags = unix.RTNH_F_ONLINK
		}
	case kind == unix.RTM_NEWROUTE:
		h.Scope = unix.RT_SCOPE_LINK
	}
	if kind == unix.RTM_DELROUTE {
		h.Scope = unix.RT_SCOPE_NOWHERE // any
	}
	return newRequest(kind, flags, parts...)
}

// A route as found, with its interface.
type foundRoute struct {
	index int
	route Route
}

// routes lists ours over an interface, or over all when index is 0.
func (c *conn) routes(index int) ([]foundRoute, error) {
	parts := []nl.NetlinkRequestData{&nl.RtMsg{RtMsg: unix.RtMsg{Family: unix.AF_UNSPEC, Protocol: Protocol}}}
	if index != 0 {
		parts = append(parts, attrU32(unix.RTA_OIF, uint32(index)))
	}
	return dump(c, newRequest(unix.RTM_GETROUTE, 0, parts...), parseRoute)
}

// parseRoute reads an RTM_NEWROUTE, if it is a route of ours.
func parseRoute(body []byte) (f foundRoute, ok bool) {
	if len(body) < unix.SizeofRtMsg || body[5] != Protocol || (body[0] != unix.AF_INET && body[0] != unix.AF_INET6) {
		return f, false
	}
	dst, table := netip.IPv4Unspecified(), uint32(body[4])
	if body[0] == unix.AF_INET6 {
		dst = netip.IPv6Unspecified()
	}
	for kind, v := range attrs(body[unix.SizeofRtMsg:]) {
		switch kind {
		case unix.RTA_DST:
			dst, _ = netip.AddrFromSlice(v)
		case unix.RTA_GATEWAY:
			f.route.NextHop, _ = netip.AddrFromSlice(v)
		case unix.RTA_OIF:
			f.index = int(u32(v))
		case unix.RTA_TABLE:
			table = u32(v)
		}
	}
	f.route.Prefix = netip.PrefixFrom(dst, int(body[1]))
	f.route.OnLink = binary.NativeEndian.Uint32(body[8:])&unix.RTNH_F_ONLINK != 0
	if table != unix.RT_TABLE_MAIN {
		if f.route.Policy, ok = policyOf(table, f.index); !ok {
			return f, false
		}
	}
	return f, f.index != 0 && f.route.Prefix.IsValid()
}
