package linux

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ErrTunnelTaken: the kernel has such a tunnel already, in whatever namespace its interface is.
var ErrTunnelTaken = errors.New("the tunnel is taken")

// CreateDevice makes a tunnel's interface in e's namespace, down and marked by [Group] as
// ours, with its underlay in the agent's. What remains is to set name, alias and up: until
// Linux 6.15 a name must be free in the agent's namespace, too, so e's is a passing one that
// nobody else has. Its MAC is zero for a device that carries no frames. The error wraps ErrTunnelTaken, and
// says by whom, if another interface is the end of such a tunnel.
func (n *Namespaces) CreateDevice(e End, d Device) error { return n.create(e, d) }

// CreateMesh makes a VXLAN device without a peer of its own in the agent's namespace, as
// CreateDevice, and from the start a port of a bridge there.
func (n *Namespaces) CreateMesh(bridge int, name string, mac MAC, mtu int, v VXLAN) error {
	own, err := n.Open(OwnRef)
	if err != nil {
		return err
	}
	err = n.create(End{NS: own, Name: name, MAC: mac, MTU: mtu}, v, attrU32(unix.IFLA_MASTER, uint32(bridge)))
	return errors.Join(err, own.Close())
}

// SetMesh changes in place what such a device learns, and for how long.
func (n *Namespaces) SetMesh(index int, v VXLAN) error {
	h := nl.NewIfInfomsg(unix.AF_UNSPEC)
	h.Index = int32(index)
	err := n.at(func(c *conn) error {
		return c.one(newRequest(unix.RTM_NEWLINK, 0, h, linkInfo(kindVXLAN, v.learning())))
	})
	if err != nil {
		return fmt.Errorf("change interface %d: %w", index, err)
	}
	return nil
}

// Redirects tells whether a tunnel can be led to another end, or from another address, in place:
// to delete one takes the kernel longer than all else that a connection which moves needs.
func Redirects(from, to Device) bool {
	a, ok := from.(VXLAN)
	b, same := to.(VXLAN)
	return ok && same && a.VNI == b.VNI && a.Port == b.Port && a.Local.Is4() == b.Local.Is4() && a.Remote.IsValid() && b.Remote.IsValid()
}

// Redirect does that.
func (ns *Namespace) Redirect(index int, to Device) error {
	c, err := ns.conn()
	if err == nil {
		h := nl.NewIfInfomsg(unix.AF_UNSPEC)
		h.Index = int32(index)
		err = c.one(newRequest(unix.RTM_NEWLINK, 0, h, linkInfo(kindVXLAN, to.(VXLAN).ends())))
	}
	if err != nil {
		return fmt.Errorf("lead the tunnel of interface %d to another node: %w", index, err)
	}
	return nil
}

// create is CreateDevice, with attributes of the interface beside those of an end.
func (n *Namespaces) create(e End, d Device, more ...nl.NetlinkRequestData) error {
	err := n.createDevice(e, d, more...)
	if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.EBUSY) { // GENEVE says EBUSY
		err = n.rival(d, err)
	}
	if missing := n.Supports(d.DeviceKind()); errors.Is(err, unix.EOPNOTSUPP) && missing != "" {
		err = fmt.Errorf("this node %s: %w", missing, err)
	}
	if err != nil {
		return fmt.Errorf("create a device of kind %s in network namespace %q: %w", d.DeviceKind(), e.NS.ref, err)
	}
	return nil
}

func (n *Namespaces) createDevice(e End, d Device, more ...nl.NetlinkRequestData) error {
	if g, ok := d.(GENEVE); ok {
		if err := n.leaves(g); err != nil {
			return err
		}
	}
	parts := append([]nl.NetlinkRequestData{nl.NewIfInfomsg(unix.AF_UNSPEC)}, e.attrs()...)
	parts = append(append(parts, linkInfo(d.DeviceKind(), d.data())), more...)
	if e.NS.id != n.own {
		parts = append(parts, attrU32(unix.IFLA_NET_NS_FD, uint32(e.NS.fd)))
		if !asksHere(d) {
			id, err := e.NS.agentsID()
			if err != nil {
				return err
			}
			parts = append(parts, attrU32(unix.IFLA_LINK_NETNSID, uint32(id)))
		}
	}
	err := n.at(func(c *conn) error {
		return c.one(newRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, parts...))
	})
	if w, ok := d.(WireGuard); ok && err == nil {
		err = e.NS.configureWireGuard(e.Name, w)
	}
	return err
}

// asksHere tells whether a kind takes the namespace of who asks for its underlay. GRE and IP
// in IP take that which the interface is made in, unless they are told (IFLA_LINK_NETNSID);
// kernels before 6.15 then move the interface, so that is not asked of those that need not.
func asksHere(d Device) bool {
	switch d.(type) {
	case VXLAN, GENEVE, WireGuard:
		return true
	}
	return false
}

// agentsID is the number that the agent's namespace has within this one.
func (ns *Namespace) agentsID() (int, error) {
	c, err := ns.conn()
	if err != nil {
		return 0, err
	}
	return c.nsid(ns.n.ownFd)
}

// leaves checks that packets to the other end would be sent from the tunnel's own address.
func (n *Namespaces) leaves(g GENEVE) error {
	var from netip.Addr
	h := &nl.RtMsg{RtMsg: unix.RtMsg{Family: uint8(family(g.Remote)), Dst_len: uint8(g.Remote.BitLen())}}
	r := newRequest(unix.RTM_GETROUTE, 0, h, nl.NewRtAttr(unix.RTA_DST, g.Remote.AsSlice()))
	r.reply = func(body []byte) {
		for kind, v := range attrs(body[min(unix.SizeofRtMsg, len(body)):]) {
			if kind == unix.RTA_PREFSRC {
				from = address(v)
			}
		}
	}
	if err := n.at(func(c *conn) error { return c.one(r) }); err != nil {
		return fmt.Errorf("look for the way to %s: %w", g.Remote, err)
	}
	if from != g.Local {
		return fmt.Errorf("the kernel sends GENEVE to %s from %s, not from %s; give the route to it src %s", g.Remote, from, g.Local, g.Local)
	}
	return nil
}

// rival says by which interface a tunnel is taken, or gives err if it is in a namespace that
// nobody can open.
func (n *Namespaces) rival(d Device, err error) error {
	l, found, e := n.holder(d)
	if e == nil && !found { // in one that the agent has not dealt with
		if e = n.numberAll(); e == nil {
			l, found, e = n.holder(d)
		}
	}
	if e != nil || !found {
		return errors.Join(err, e)
	}
	return fmt.Errorf("%w: %s is that of interface %s", ErrTunnelTaken, name(d), whose(l))
}

// holder finds the interface that is the end of a tunnel.
func (n *Namespaces) holder(d Device) (Link, bool, error) {
	ids, err := n.nsids(none) // learns n.self
	if err != nil {
		return Link{}, false, err
	}
	for _, id := range append(ids, Own) {
		var links []Link
		err := n.at(func(c *conn) (err error) {
			links, err = n.listed(c, id)
			return err
		})
		if err != nil && !absent(err) {
			return Link{}, false, err
		}
		for _, l := range links {
			n.place(&l, id, true)
			if n.below(l) && collide(l.Device, d) {
				return l, true, nil
			}
		}
	}
	return Link{}, false, nil
}

// below tells whether the underlay of a tunnel is in the agent's namespace, or may be: of
// GENEVE some kernels (6.12 is one) do not say it.
func (n *Namespaces) below(l Link) bool {
	return l.Kind == kindGENEVE || l.PeerKnown && (l.Peer.NSID == Own || l.Peer.NSID == int(n.self.Load()))
}

// collide tells whether the kernel takes two tunnels for the same.
func collide(a, b Device) bool {
	if a == nil || a.DeviceKind() != b.DeviceKind() {
		return false
	}
	switch b := b.(type) {
	case VXLAN:
		a := a.(VXLAN)
		return a.VNI == b.VNI && a.Port == b.Port
	case GENEVE:
		a := a.(GENEVE)
		return a.VNI == b.VNI && a.Port == b.Port && a.Remote == b.Remote
	}
	return a == b
}

func name(d Device) string {
	switch d := d.(type) {
	case VXLAN:
		return fmt.Sprintf("VNI %d at UDP port %d", d.VNI, d.Port)
	case GENEVE:
		return fmt.Sprintf("VNI %d with %s at UDP port %d", d.VNI, d.Remote, d.Port)
	}
	local, remote := d.Underlay()
	return fmt.Sprintf("%s from %s to %s", d.DeviceKind(), local, remote)
}

// whose says what is known of an interface.
func whose(l Link) string {
	where := "in the agent's network namespace"
	if l.NSID != Own {
		where = fmt.Sprintf("in network namespace number %d", l.NSID)
	}
	if tag, ok := ParseTag(l.Alias); ok && l.Ours {
		return fmt.Sprintf("%q %s, at the %s of connection %q", l.Name, where, tag.Side, tag.ID)
	}
	if alias, mesh := strings.CutSuffix(l.Alias, meshSuffix); mesh && l.Ours {
		return fmt.Sprintf("%q %s, the mesh of bridge %q; give one of the two another number", l.Name, where, strings.TrimPrefix(alias, tagPrefix))
	}
	if l.Ours && l.Alias != "" {
		return fmt.Sprintf("%q %s, which is %s", l.Name, where, l.Alias)
	}
	if l.Ours {
		return fmt.Sprintf("%q %s, which Patchbay has not finished; it goes away by itself", l.Name, where)
	}
	return fmt.Sprintf("%q %s, which is not Patchbay's", l.Name, where)
}

// Device is what the tunnel of an interface is like.
func (ns *Namespace) Device(l Link) (Device, error) {
	if _, ok := l.Device.(WireGuard); !ok {
		return l.Device, nil // without asking, as the link has it all
	}
	return ns.wireGuard(l.Index)
}

// complete completes the devices of links, but of those that have gone meanwhile.
func (ns *Namespace) complete(links []Link) error {
	for i, l := range links {
		d, err := ns.Device(l)
		if err != nil && !absent(err) {
			return err
		}
		links[i].Device = d
	}
	return nil
}
