package linux

import (
	"encoding/binary"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ifaProto marks who set an address (IFA_PROTO, linux/if_addr.h, since Linux 5.18;
// older kernels pass over it).
const ifaProto = 11

// An address as found, with its interface.
type foundAddress struct {
	index  int
	prefix netip.Prefix
	ours   bool
}

// family is the address family of an IP address.
func family(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func addressRequest(kind, flags, index int, p netip.Prefix) request {
	h := nl.NewIfAddrmsg(family(p.Addr()))
	h.Index = uint32(index)
	h.Prefixlen = uint8(p.Bits())
	ip := p.Addr().AsSlice()
	parts := []nl.NetlinkRequestData{h, nl.NewRtAttr(unix.IFA_LOCAL, ip), nl.NewRtAttr(unix.IFA_ADDRESS, ip)}
	if kind == unix.RTM_NEWADDR {
		parts = append(parts, attrU8(ifaProto, Protocol))
		if p.Addr().Is6() { // no duplicate address detection: the address works at once
			parts = append(parts, attrU32(unix.IFA_FLAGS, unix.IFA_F_NODAD))
		}
	}
	return newRequest(kind, flags, parts...)
}

// addresses lists those of an interface, or of all when index is 0.
func (c *conn) addresses(index int) ([]foundAddress, error) {
	h := nl.NewIfAddrmsg(unix.AF_UNSPEC)
	h.Index = uint32(index)
	return dump(c, newRequest(unix.RTM_GETADDR, 0, h), parseAddress)
}

// parseAddress reads an RTM_NEWADDR.
func parseAddress(body []byte) (f foundAddress, ok bool) {
	if len(body) < unix.SizeofIfAddrmsg {
		return f, false
	}
	f.index = int(binary.NativeEndian.Uint32(body[4:]))
	var local, address netip.Addr
	for kind, v := range attrs(body[unix.SizeofIfAddrmsg:]) {
		switch kind {
		case unix.IFA_LOCAL:
			local, _ = netip.AddrFromSlice(v)
		case unix.IFA_ADDRESS:
			address, _ = netip.AddrFromSlice(v)
		case ifaProto:
			f.ours = len(v) > 0 && v[0] == Protocol
		}
	}
	if !local.IsValid() { // IPv6 has no IFA_LOCAL unless there is a peer address
		local = address
	}
	f.prefix = netip.PrefixFrom(local, int(body[1]))
	return f, f.prefix.IsValid()
}
