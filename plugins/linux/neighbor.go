package linux

import (
	"encoding/binary"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Attributes of a neighbour (linux/neighbour.h).
const (
	ndaDst      = 1
	ndaLladdr   = 2
	ndaIfindex  = 8
	ndaProtocol = 12
)

// nudPermanent is an entry that does not age (NUD_PERMANENT).
const nudPermanent = 0x80

// A Neighbor is a permanent entry of the neighbour (ARP, ND) table.
type Neighbor struct {
	Address netip.Addr
	MAC     MAC
}

func (n Neighbor) String() string { return "neighbour " + n.Address.String() + " at " + n.MAC.String() }

// ndmsg is the fixed header of neighbour messages (struct ndmsg).
func ndmsg(family, index int, state uint16) rawData {
	b := make(rawData, unix.SizeofNdMsg)
	b[0] = byte(family)
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	binary.NativeEndian.PutUint16(b[8:], state)
	return b
}

func neighborRequest(kind, flags, index int, n Neighbor) request {
	if kind == unix.RTM_NEWNEIGH { // an entry that was learnt gives way
		flags = unix.NLM_F_CREATE | unix.NLM_F_REPLACE
	}
	return newRequest(kind, flags, ndmsg(family(n.Address), index, nudPermanent),
		nl.NewRtAttr(ndaDst, n.Address.AsSlice()),
		nl.NewRtAttr(ndaLladdr, n.MAC[:]),
		attrU8(ndaProtocol, Protocol))
}

// A neighbour as found, with its interface.
type foundNeighbor struct {
	index    int
	neighbor Neighbor
}

// neighbors lists ours on an interface, or on all when index is 0.
func (c *conn) neighbors(index int) ([]foundNeighbor, error) {
	parts := []nl.NetlinkRequestData{ndmsg(unix.AF_UNSPEC, 0, 0)}
	if index != 0 {
		parts = append(parts, attrU32(ndaIfindex, uint32(index)))
	}
	return dump(c, newRequest(unix.RTM_GETNEIGH, 0, parts...), parseNeighbor)
}

// parseNeighbor reads an RTM_NEWNEIGH, if it is a neighbour of ours.
func parseNeighbor(body []byte) (f foundNeighbor, ok bool) {
	if len(body) < unix.SizeofNdMsg {
		return f, false
	}
	f.index = int(int32(binary.NativeEndian.Uint32(body[4:])))
	ours := false
	for kind, v := range attrs(body[unix.SizeofNdMsg:]) {
		switch kind {
		case ndaDst:
			f.neighbor.Address, _ = netip.AddrFromSlice(v)
		case ndaLladdr:
			copy(f.neighbor.MAC[:], v)
		case ndaProtocol:
			ours = len(v) > 0 && v[0] == Protocol
		}
	}
	return f, ours && f.neighbor.Address.IsValid()
}
