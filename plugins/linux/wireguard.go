package linux

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync/atomic"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// WireGuard is configured by generic netlink, in the namespace of its interface
// (linux/wireguard.h, version 1).
const (
	wgName         = "wireguard"
	wgVersion      = 1
	wgGetDevice    = 0 // WG_CMD_GET_DEVICE
	wgSetDevice    = 1 // WG_CMD_SET_DEVICE
	wgReplacePeers = 1 // WGDEVICE_F_REPLACE_PEERS
	wgReplaceIPs   = 2 // WGPEER_F_REPLACE_ALLOWEDIPS
)

// Attributes of a device (WGDEVICE_A_…), of a peer (WGPEER_A_…) and of what it may send
// (WGALLOWEDIP_A_…).
const (
	wgIndex      = 1
	wgIfName     = 2
	wgPrivateKey = 3
	wgFlags      = 5
	wgPort       = 6
	wgPeers      = 8

	wgPeerKey      = 1
	wgPeerFlags    = 3
	wgPeerEndpoint = 4
	wgPeerIPs      = 9

	wgIPFamily  = 1
	wgIPAddress = 2
	wgIPBits    = 3
)

// generic runs f with a socket of generic netlink in the namespace and WireGuard's number.
func (ns *Namespace) generic(f func(c *conn, family uint16) error) error {
	var c *conn
	err := ns.n.visiting(func(enter func(fd int) error) (err error) {
		if err = enter(ns.fd); err == nil {
			c, err = newConnOf(unix.NETLINK_GENERIC, new(atomic.Uint64)) // its types are numbered otherwise
		}
		return err
	})
	if err != nil {
		return err
	}
	family, err := c.family(wgName)
	if err == nil {
		err = f(c, family)
	}
	if e := c.close(); err == nil {
		err = e
	}
	return err
}

// family asks for the number of a family of generic netlink (linux/genetlink.h).
func (c *conn) family(name string) (id uint16, err error) {
	r := newRequest(nl.GENL_ID_CTRL, 0, genl(nl.GENL_CTRL_CMD_GETFAMILY, nl.GENL_CTRL_VERSION), attrText(nl.GENL_CTRL_ATTR_FAMILY_NAME, name))
	r.reply = func(body []byte) {
		for kind, v := range attrs(body[min(genlHeader, len(body)):]) {
			if kind == nl.GENL_CTRL_ATTR_FAMILY_ID {
				id = uint16(u32(v))
			}
		}
	}
	if err = c.one(r); err != nil {
		return 0, fmt.Errorf("look for %s in generic netlink: %w", name, err)
	}
	return id, nil
}

// genlHeader is the size of struct genlmsghdr.
const genlHeader = 4

func genl(command, version uint8) rawData { return rawData{command, version, 0, 0} }

func nested(kind int) *nl.RtAttr { return nl.NewRtAttr(kind|unix.NLA_F_NESTED, nil) }

// configureWireGuard gives a device its keys, and its peer, who may send from everywhere.
func (ns *Namespace) configureWireGuard(name string, w WireGuard) error {
	peers, peer, ips := nested(wgPeers), nested(0), nested(wgPeerIPs)
	peer.AddRtAttr(wgPeerKey, w.PeerKey[:])
	peer.AddRtAttr(wgPeerFlags, nl.Uint32Attr(wgReplaceIPs))
	peer.AddRtAttr(wgPeerEndpoint, sockaddr(w.Peer))
	for i, all := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		ip := nested(i)
		ip.AddRtAttr(wgIPFamily, nl.Uint16Attr(uint16(family(all))))
		ip.AddRtAttr(wgIPAddress, all.AsSlice())
		ip.AddRtAttr(wgIPBits, []byte{0})
		ips.AddChild(ip)
	}
	peer.AddChild(ips)
	peers.AddChild(peer)
	err := ns.generic(func(c *conn, family uint16) error {
		ns.n.mutations.Add(1)
		return c.one(newRequest(int(family), 0, genl(wgSetDevice, wgVersion), attrText(wgIfName, name),
			attrU32(wgFlags, wgReplacePeers), nl.NewRtAttr(wgPrivateKey, w.PrivateKey[:]),
			nl.NewRtAttr(wgPort, nl.Uint16Attr(w.Port)), peers))
	})
	if err != nil {
		return fmt.Errorf("give WireGuard device %q its keys: %w", name, err)
	}
	return nil
}

// wireGuard reads a device; more than one peer, or one that may not send from everywhere,
// is none that is wanted.
func (ns *Namespace) wireGuard(index int) (w WireGuard, err error) {
	err = ns.generic(func(c *conn, family uint16) error {
		all, err := dump(c, newRequest(int(family), 0, genl(wgGetDevice, wgVersion), attrU32(wgIndex, uint32(index))), parseWireGuard)
		if len(all) == 1 {
			w = all[0]
		}
		return err
	})
	if err != nil {
		return w, fmt.Errorf("look at WireGuard device %d in network namespace %q: %w", index, ns.ref, err)
	}
	return w, nil
}

func parseWireGuard(body []byte) (w WireGuard, ok bool) {
	peers := 0
	for kind, v := range attrs(body[min(genlHeader, len(body)):]) {
		switch kind {
		case wgPrivateKey:
			copy(w.PrivateKey[:], v)
		case wgPort:
			w.Port = uint16(u32(v))
		case wgPeers:
			for _, p := range attrs(v) {
				peers++
				parsePeer(&w, p)
			}
		}
	}
	if peers > 1 {
		w.Peer = netip.AddrPort{}
	}
	return w, true
}

func parsePeer(w *WireGuard, b []byte) {
	ips, open := 0, 0
	for kind, v := range attrs(b) {
		switch kind {
		case wgPeerKey:
			copy(w.PeerKey[:], v)
		case wgPeerEndpoint:
			w.Peer = parseSockaddr(v)
		case wgPeerIPs:
			for _, ip := range attrs(v) {
				ips++
				for kind, v := range attrs(ip) {
					if kind == wgIPBits && len(v) == 1 && v[0] == 0 {
						open++
					}
				}
			}
		}
	}
	if ips != 2 || open != 2 {
		w.Peer = netip.AddrPort{}
	}
}

// sockaddr is a struct sockaddr_in or sockaddr_in6.
func sockaddr(a netip.AddrPort) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(family(a.Addr())))
	b = append(b, be16(a.Port())...)
	if a.Addr().Is4() {
		return append(append(b, a.Addr().AsSlice()...), make([]byte, 8)...)
	}
	b = append(append(b, 0, 0, 0, 0), a.Addr().AsSlice()...)
	return append(b, 0, 0, 0, 0)
}

func parseSockaddr(b []byte) netip.AddrPort {
	switch {
	case len(b) == unix.SizeofSockaddrInet4:
		return netip.AddrPortFrom(address(b[4:8]), port(b[2:4]))
	case len(b) == unix.SizeofSockaddrInet6:
		return netip.AddrPortFrom(address(b[8:24]), port(b[2:4]))
	}
	return netip.AddrPort{}
}
