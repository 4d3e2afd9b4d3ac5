package linux

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const kindVeth = "veth"

// MaxName is the longest name of an interface in bytes (IFNAMSIZ less the final zero).
const MaxName = unix.IFNAMSIZ - 1

// An End is what is wanted of one end of a pair.
type End struct {
	NS   *Namespace
	Name string
	MAC  MAC
	MTU  int // bytes
}

// CreatePair makes a veth pair, each end in its namespace from the start (moving one
// there would wait for the kernel's RCU) and marked by [Group] as ours. A name that is
// taken in either namespace is an error that wraps unix.EEXIST, and nothing is made.
// What remains is to set alias and up: the kernel sets no alias here, and refuses a peer
// that is up before it has one (veth_open, ENOTCONN).
func (n *Namespaces) CreatePair(a, b End) error {
	c, err := a.NS.conn() // from here, so that names are compared with those of a's namespace
	if err != nil {
		return err
	}
	peer := nl.NewRtAttr(nl.VETH_INFO_PEER, nil)
	peer.AddChild(nl.NewIfInfomsg(unix.AF_UNSPEC))
	for _, part := range b.attrs() {
		peer.AddChild(part)
	}
	peer.AddChild(attrU32(unix.IFLA_NET_NS_FD, uint32(b.NS.fd)))
	info := linkInfo(kindVeth, attributes{peer})
	parts := append([]nl.NetlinkRequestData{nl.NewIfInfomsg(unix.AF_UNSPEC)}, a.attrs()...)
	if err := c.one(newRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, append(parts, info)...)); err != nil {
		return fmt.Errorf("create a pair %q in %q and %q in %q: %w", a.Name, a.NS.ref, b.Name, b.NS.ref, err)
	}
	return nil
}

func (e End) attrs() []nl.NetlinkRequestData {
	parts := []nl.NetlinkRequestData{
		attrText(unix.IFLA_IFNAME, e.Name),
		attrU32(unix.IFLA_MTU, uint32(e.MTU)),
		attrU32(unix.IFLA_GROUP, e.NS.n.group),
	}
	if e.MAC != (MAC{}) {
		parts = append(parts, nl.NewRtAttr(unix.IFLA_ADDRESS, e.MAC[:]))
	}
	return parts
}

// A Change of an interface: what is zero stays as it is.
type Change struct {
	Name  string
	Alias string
	MAC   MAC
	MTU   int // bytes
	Up    bool
	Mark  bool // as ours, by its group: somebody else has made it for us
	// Quiet: the kernel itself neither sends nor answers there. It is a forwarder's end,
	// on which the node would otherwise answer ARP for its own addresses.
	Quiet bool
}

// SetLink changes an interface and returns how it is then, as LinkByName. Renaming one that is up is
// refused by kernels before 6.2 with unix.EBUSY.
func (ns *Namespace) SetLink(index int, ch Change) (l Link, err error) {
	c, err := ns.conn()
	if err != nil {
		return l, err
	}
	var requests []request
	if ch.Quiet { // before it is up, when the kernel makes up an address
		requests = append(requests, quiet(index))
	}
	if ch.Up && ch.Alias != "" { // before it is up, when IPv6 looks at all routes of the namespace for any change
		requests = append(requests, newRequest(unix.RTM_SETLINK, 0, Change{Alias: ch.Alias}.parts(index, 0)...))
		ch.Alias = ""
	}
	requests = append(requests, newRequest(unix.RTM_SETLINK, 0, ch.parts(index, ns.n.group)...))
	if l, err = c.change(index, requests...); err != nil {
		return l, fmt.Errorf("change interface %d in network namespace %q: %w", index, ns.ref, err)
	}
	ns.n.place(&l, ns.nsid, false)
	return l, nil
}

// quiet has the kernel make up no IPv6 address (IN6_ADDR_GEN_MODE_NONE, linux/if_link.h).
func quiet(index int) request {
	h := nl.NewIfInfomsg(unix.AF_UNSPEC)
	h.Index = int32(index)
	spec := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
	spec.AddRtAttr(unix.AF_INET6, nil).AddRtAttr(unix.IFLA_INET6_ADDR_GEN_MODE, []byte{1})
	return newRequest(unix.RTM_SETLINK, 0, h, spec)
}

func (ch Change) parts(index int, group uint32) []nl.NetlinkRequestData {
	h := nl.NewIfInfomsg(unix.AF_UNSPEC)
	h.Index = int32(index)
	if ch.Up {
		h.Flags, h.Change = unix.IFF_UP, unix.IFF_UP
	}
	if ch.Quiet {
		h.Flags, h.Change = h.Flags|unix.IFF_NOARP, h.Change|unix.IFF_NOARP
	}
	parts := []nl.NetlinkRequestData{h}
	if ch.Name != "" {
		parts = append(parts, attrText(unix.IFLA_IFNAME, ch.Name))
	}
	if ch.Alias != "" {
		parts = append(parts, nl.NewRtAttr(unix.IFLA_IFALIAS, []byte(ch.Alias)))
	}
	if ch.MAC != (MAC{}) {
		parts = append(parts, nl.NewRtAttr(unix.IFLA_ADDRESS, ch.MAC[:]))
	}
	if ch.MTU != 0 {
		parts = append(parts, attrU32(unix.IFLA_MTU, uint32(ch.MTU)))
	}
	if ch.Mark {
		parts = append(parts, attrU32(unix.IFLA_GROUP, group))
	}
	return parts
}

// DeleteLink deletes an interface of ours as it was found, and with it the other end of a
// pair, without opening its namespace. What is no longer there is no error: another
// interface or namespace may have its numbers by now, and is left alone.
func (n *Namespaces) DeleteLink(l Link) error {
	now, err := n.LinkAt(l.Place)
	if errors.Is(err, ErrNoLink) || (err == nil && (!now.Ours || now.MAC != l.MAC)) {
		return nil
	}
	if err != nil {
		return err
	}
	h := nl.NewIfInfomsg(unix.AF_UNSPEC)
	h.Index = int32(l.Index)
	err = n.at(func(c *conn) error {
		return c.one(newRequest(unix.RTM_DELLINK, 0, append([]nl.NetlinkRequestData{h}, target(l.NSID)...)...))
	})
	if err != nil && !absent(err) {
		return fmt.Errorf("delete interface %q in network namespace number %d: %w", now.Name, l.NSID, err)
	}
	return nil
}
