package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Attributes, states and flags of entries of MAC tables (linux/neighbour.h).
const (
	ndaMaster    = 9
	nudReachable = 0x02
	nudNoARP     = 0x40
	ntfSelf      = 0x02
	ntfMaster    = 0x04
	ntfSticky    = 0x40
	flagBulk     = 0x200 // NLM_F_BULK (linux/netlink.h)
)

// A BridgeMAC is an entry of a bridge's MAC table.
type BridgeMAC struct {
	MAC    MAC
	Port   int // index of the interface
	Static bool
	Local  bool // the MAC is the bridge's or the port's own
}

// A Remote is an entry of the MAC table of a VXLAN device without a peer of its own.
type Remote struct {
	MAC  MAC // zero: of whatever is known of no other
	Peer netip.Addr
}

func fdbRequest(kind, flags, index int, state uint16, ntf byte, parts ...nl.NetlinkRequestData) request {
	h := ndmsg(unix.AF_BRIDGE, index, state)
	h[10] = ntf
	return newRequest(kind, flags, append([]nl.NetlinkRequestData{h}, parts...)...)
}

// SetMAC says at which port of its bridge a MAC is, for good, whatever comes from it elsewhere.
func (n *Namespaces) SetMAC(port int, mac MAC) error {
	r := fdbRequest(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, port, nudNoARP|nudReachable, ntfMaster|ntfSticky, nl.NewRtAttr(ndaLladdr, mac[:]))
	if err := n.at(func(c *conn) error { return c.one(r) }); err != nil {
		return fmt.Errorf("set MAC %s at interface %d: %w", mac, port, err)
	}
	return nil
}

// DeleteMAC forgets a MAC at a port. What is not there is no error.
func (n *Namespaces) DeleteMAC(port int, mac MAC) error {
	r := fdbRequest(unix.RTM_DELNEIGH, 0, port, 0, ntfMaster, nl.NewRtAttr(ndaLladdr, mac[:]))
	err := n.at(func(c *conn) error { return c.one(r) })
	if err != nil && !goneAlready(err) && !errors.Is(err, unix.EOPNOTSUPP) { // it is no port any more
		return fmt.Errorf("delete MAC %s at interface %d: %w", mac, port, err)
	}
	return nil
}

// AddPeer has a VXLAN device send to a peer what it floods. It may be repeated.
func (n *Namespaces) AddPeer(device int, peer netip.Addr) error {
	r := fdbRequest(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_APPEND, device, nudPermanent|nudNoARP, ntfSelf,
		nl.NewRtAttr(ndaLladdr, make([]byte, 6)), nl.NewRtAttr(ndaDst, peer.AsSlice()))
	err := n.at(func(c *conn) error { return c.one(r) })
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add peer %s to interface %d: %w", peer, device, err)
	}
	return nil
}

// DeletePeer takes a peer from a VXLAN device, which forgets what it has learned of it if the
// kernel can (since Linux 6.7); else that ages. What is not there is no error.
func (n *Namespaces) DeletePeer(device int, peer netip.Addr) error {
	dst := nl.NewRtAttr(ndaDst, peer.AsSlice())
	del := fdbRequest(unix.RTM_DELNEIGH, 0, device, 0, ntfSelf, nl.NewRtAttr(ndaLladdr, make([]byte, 6)), dst)
	flush := fdbRequest(unix.RTM_DELNEIGH, flagBulk, device, 0, ntfSelf, dst)
	err := n.at(func(c *conn) error {
		errs, err := c.do(del, flush)
		if err == nil && errs != nil {
			err = errs[0]
		}
		return err
	})
	if err != nil && !goneAlready(err) {
		return fmt.Errorf("take peer %s from interface %d: %w", peer, device, err)
	}
	return nil
}

// BridgeTables lists the MAC table of a bridge, and with it those of the VXLAN devices among
// its ports, by their indexes.
func (n *Namespaces) BridgeTables(bridge int) (table []BridgeMAC, remotes map[int][]Remote, err error) {
	remotes = map[int][]Remote{}
	type entry struct {
		port   int
		state  uint16
		flags  byte
		mac    MAC
		master bool
		dst    netip.Addr
	}
	r := newRequest(unix.RTM_GETNEIGH, 0, ndmsg(unix.AF_BRIDGE, 0, 0), attrU32(ndaMaster, uint32(bridge)))
	var found []entry
	err = n.at(func(c *conn) (err error) {
		found, err = dump(c, r, func(body []byte) (e entry, ok bool) {
			if len(body) < unix.SizeofNdMsg {
				return e, false
			}
			e.port = int(int32(binary.NativeEndian.Uint32(body[4:])))
			e.state, e.flags = binary.NativeEndian.Uint16(body[8:]), body[10]
			for kind, v := range attrs(body[unix.SizeofNdMsg:]) {
				switch kind {
				case ndaLladdr:
					copy(e.mac[:], v)
				case ndaDst:
					e.dst = address(v)
				case ndaMaster:
					e.master = true
				}
			}
			return e, true
		})
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("list the MAC table of bridge %d: %w", bridge, err)
	}
	for _, e := range found {
		switch {
		case e.dst.IsValid():
			remotes[e.port] = append(remotes[e.port], Remote{MAC: e.mac, Peer: e.dst})
		case e.master:
			local := e.state&nudPermanent != 0
			table = append(table, BridgeMAC{MAC: e.mac, Port: e.port, Static: local || e.state&nudNoARP != 0, Local: local})
		}
	}
	return table, remotes, nil
}

// SetBridgeNeighbor tells a bridge of a host on it, for which it then answers on ports with
// Suppress.
func (n *Namespaces) SetBridgeNeighbor(bridge int, h Neighbor) error {
	err := n.at(func(c *conn) error { return c.one(neighborRequest(unix.RTM_NEWNEIGH, 0, bridge, h)) })
	if err != nil {
		return fmt.Errorf("tell bridge %d of %s: %w", bridge, h, err)
	}
	return nil
}

// DeleteBridgeNeighbor takes that back. What is not there is no error.
func (n *Namespaces) DeleteBridgeNeighbor(bridge int, h Neighbor) error {
	err := n.at(func(c *conn) error { return c.one(neighborRequest(unix.RTM_DELNEIGH, 0, bridge, h)) })
	if err != nil && !goneAlready(err) {
		return fmt.Errorf("have bridge %d forget %s: %w", bridge, h, err)
	}
	return nil
}

// BridgeNeighbors lists what a bridge was told, by its index.
func (n *Namespaces) BridgeNeighbors(bridge int) (hosts []Neighbor, err error) {
	err = n.at(func(c *conn) error {
		found, err := c.neighbors(bridge)
		for _, f := range found {
			hosts = append(hosts, f.neighbor)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the hosts of bridge %d: %w", bridge, err)
	}
	return hosts, nil
}
