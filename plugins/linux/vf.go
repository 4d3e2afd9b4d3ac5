package linux

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// VF is how a physical function treats one of its virtual functions (struct ifla_vf_*,
// linux/if_link.h).
type VF struct {
	Index   int
	MAC     MAC
	VLAN    int // 0: none
	QoS     int // priority of the VLAN
	MinRate int // Mbit/s; 0: none
	MaxRate int // Mbit/s; 0: no limit
	// CanSpoof: the card can check, and Spoof means something.
	CanSpoof bool
	Spoof    bool // frames from another MAC than its own are dropped
	Trust    bool // it may change its MAC and receive what is not for it
}

// VFs are the virtual functions of an interface of the agent's own namespace. The error wraps
// [ErrNoLink] if there is none of the name.
func (n *Namespaces) VFs(name string) (all []VF, err error) {
	err = n.at(func(c *conn) error {
		r := newRequest(unix.RTM_GETLINK, 0, nl.NewIfInfomsg(unix.AF_UNSPEC), attrText(unix.IFLA_IFNAME, name), attrU32(unix.IFLA_EXT_MASK, nl.RTEXT_FILTER_VF|skipStats))
		r.reply = func(body []byte) { all = parseVFs(body) }
		err := c.one(r)
		if absent(err) {
			err = ErrNoLink
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("virtual functions of interface %q: %w", name, err)
	}
	return all, nil
}

func parseVFs(body []byte) (all []VF) {
	if len(body) < unix.SizeofIfInfomsg {
		return nil
	}
	for kind, list := range attrs(body[unix.SizeofIfInfomsg:]) {
		if kind != unix.IFLA_VFINFO_LIST {
			continue
		}
		for kind, info := range attrs(list) {
			if kind == nl.IFLA_VF_INFO {
				all = append(all, parseVF(info))
			}
		}
	}
	return all
}

// unknown is what the kernel says where a card has no answer.
const unknown = 1<<32 - 1

// parseVF reads one function's attributes: each begins with its index, four bytes a number.
func parseVF(info []byte) (vf VF) {
	for kind, v := range attrs(info) {
		if _, known := vfWords[int(kind)]; !known || len(v) < 8 {
			continue // some are nested, and begin otherwise
		}
		vf.Index = int(u32(v))
		first, second := u32(v[4:]), uint32(0)
		if len(v) >= 12 {
			second = u32(v[8:])
		}
		switch kind {
		case nl.IFLA_VF_MAC:
			copy(vf.MAC[:], v[4:])
		case nl.IFLA_VF_VLAN:
			vf.VLAN, vf.QoS = int(first), int(second)
		case nl.IFLA_VF_RATE:
			vf.MinRate, vf.MaxRate = int(first), int(second)
		case nl.IFLA_VF_SPOOFCHK:
			vf.CanSpoof, vf.Spoof = first != unknown, first == 1
		case nl.IFLA_VF_TRUST:
			vf.Trust = first == 1
		}
	}
	return vf
}

// SetVF has the interface treat a function as want says, where that differs from now: cards
// that cannot set something are asked only for what is wanted of them.
func (n *Namespaces) SetVF(name string, now, want VF) error {
	var parts []*nl.RtAttr
	add := func(differs bool, kind int, numbers ...uint32) {
		if differs {
			b := binary.NativeEndian.AppendUint32(nil, uint32(want.Index))
			for _, v := range numbers {
				b = binary.NativeEndian.AppendUint32(b, v)
			}
			parts = append(parts, nl.NewRtAttr(kind, b))
		}
	}
	if now.MAC != want.MAC {
		mac := make([]byte, 36) // struct ifla_vf_mac: index and MAX_ADDR_LEN bytes
		binary.NativeEndian.PutUint32(mac, uint32(want.Index))
		copy(mac[4:], want.MAC[:])
		parts = append(parts, nl.NewRtAttr(nl.IFLA_VF_MAC, mac))
	}
	add(now.VLAN != want.VLAN || now.QoS != want.QoS, nl.IFLA_VF_VLAN, uint32(want.VLAN), uint32(want.QoS))
	add(now.MinRate != want.MinRate || now.MaxRate != want.MaxRate, nl.IFLA_VF_RATE, uint32(want.MinRate), uint32(want.MaxRate))
	add(now.Spoof != want.Spoof, nl.IFLA_VF_SPOOFCHK, number(want.Spoof))
	add(now.Trust != want.Trust, nl.IFLA_VF_TRUST, number(want.Trust))
	if len(parts) == 0 {
		return nil
	}
	requests := make([]request, len(parts)) // one each, so that the error is of one
	for i, part := range parts {
		info := nl.NewRtAttr(nl.IFLA_VF_INFO, nil)
		info.AddChild(part)
		list := nl.NewRtAttr(unix.IFLA_VFINFO_LIST, nil)
		list.AddChild(info)
		requests[i] = newRequest(unix.RTM_SETLINK, 0, nl.NewIfInfomsg(unix.AF_UNSPEC), attrText(unix.IFLA_IFNAME, name), list)
	}
	return n.at(func(c *conn) error {
		errs, err := c.do(requests...)
		for i, e := range errs {
			if e != nil {
				err = errors.Join(err, fmt.Errorf("set %s of virtual function %d of %q: %w", vfWords[int(parts[i].Type)], want.Index, name, e))
			}
		}
		return err
	})
}

// vfWords are ip-link(8)'s words for what is set.
var vfWords = map[int]string{nl.IFLA_VF_MAC: "mac", nl.IFLA_VF_VLAN: "vlan", nl.IFLA_VF_RATE: "rate", nl.IFLA_VF_SPOOFCHK: "spoofchk", nl.IFLA_VF_TRUST: "trust"}

func number(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

// LinkOf finds the interface of a PCI function in a namespace, as LinkByName. The error wraps [ErrNoLink]
// if it is not there.
func (ns *Namespace) LinkOf(pci string) (Link, error) {
	c, err := ns.conn()
	if err != nil {
		return Link{}, err
	}
	all, err := ns.n.listed(c, Own)
	if err != nil {
		return Link{}, fmt.Errorf("list interfaces in network namespace %q: %w", ns.ref, err)
	}
	for _, l := range all {
		if l.Parent == pci {
			ns.n.place(&l, ns.nsid, false)
			return l, nil
		}
	}
	return Link{}, fmt.Errorf("interface of %s in network namespace %q: %w", pci, ns.ref, ErrNoLink)
}

// Move takes an interface of this namespace into another and changes it there, with one request.
// It is marked as ours. The kernel sets it down, and its addresses stay behind. A name that is
// taken there is an error that wraps unix.EEXIST, and it stays where it is.
func (ns *Namespace) Move(index int, to *Namespace, ch Change) error {
	c, err := ns.conn()
	if err != nil {
		return err
	}
	ch.Mark = true
	parts := append(ch.parts(index, ns.n.group), attrU32(unix.IFLA_NET_NS_FD, uint32(to.fd)))
	if err := c.one(newRequest(unix.RTM_SETLINK, 0, parts...)); err != nil {
		return fmt.Errorf("move interface %d from network namespace %q to %q: %w", index, ns.ref, to.ref, err)
	}
	return nil
}

// Settle has an interface of the agent's own namespace be one that nobody has: with this name and MTU in
// bytes where they are given, without marks of ours, and up or down. What is so already is left alone.
// Where another has the name, which is an error that wraps unix.EEXIST, it gives up its own: two that came
// back under each other's name would wait for each other for ever.
func (n *Namespaces) Settle(now Link, name string, mtu int, up bool) error {
	same := (name == "" || now.Name == name) && (mtu == 0 || now.MTU == mtu) && now.Alias == "" && now.group == 0 && now.Up == up
	if same {
		return nil
	}
	err := n.at(func(c *conn) error {
		requests := settled(now.Index, name, mtu, up)
		err := c.all(requests...)
		if errors.Is(err, unix.EEXIST) {
			aside := Change{Name: fmt.Sprint("pbaside", now.Index)}
			err = errors.Join(err, c.all(requests[0], newRequest(unix.RTM_SETLINK, 0, aside.parts(now.Index, 0)...)))
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("have interface %q be %q again: %w", now.Name, name, err)
	}
	return nil
}

// settled are the requests for that: some kernels rename what is down only.
func settled(index int, name string, mtu int, up bool) []request {
	down, set, last := nl.NewIfInfomsg(unix.AF_UNSPEC), nl.NewIfInfomsg(unix.AF_UNSPEC), nl.NewIfInfomsg(unix.AF_UNSPEC)
	for _, h := range []*nl.IfInfomsg{down, set, last} {
		h.Index = int32(index)
	}
	down.Change, last.Change = unix.IFF_UP|unix.IFF_PROMISC|unix.IFF_NOARP, unix.IFF_UP // as Raise has it
	parts := []nl.NetlinkRequestData{set, nl.NewRtAttr(unix.IFLA_IFALIAS, nil), attrU32(unix.IFLA_GROUP, 0)}
	if name != "" {
		parts = append(parts, attrText(unix.IFLA_IFNAME, name))
	}
	if mtu != 0 {
		parts = append(parts, attrU32(unix.IFLA_MTU, uint32(mtu)))
	}
	all := []request{newRequest(unix.RTM_SETLINK, 0, down), newRequest(unix.RTM_SETLINK, 0, parts...)}
	if up {
		last.Flags = unix.IFF_UP
		all = append(all, newRequest(unix.RTM_SETLINK, 0, last))
	}
	return all
}

// Home takes an interface of this namespace into the agent's own, under a name that is free there, down. An
// error that wraps unix.EEXIST says that it is not, and then it stays.
func (ns *Namespace) Home(index int, name string) error {
	c, err := ns.conn()
	if err != nil {
		return err
	}
	h := nl.NewIfInfomsg(unix.AF_UNSPEC)
	h.Index = int32(index)
	parts := []nl.NetlinkRequestData{h, attrU32(unix.IFLA_NET_NS_FD, uint32(ns.n.ownFd))}
	if name != "" {
		parts = append(parts, attrText(unix.IFLA_IFNAME, name))
	}
	if err := c.one(newRequest(unix.RTM_SETLINK, 0, parts...)); err != nil {
		return fmt.Errorf("take interface %d of network namespace %q home: %w", index, ns.ref, err)
	}
	return nil
}

// OwnLink finds an interface of the agent's own namespace. The error wraps [ErrNoLink] if there is none.
func (n *Namespaces) OwnLink(name string) (l Link, err error) {
	err = n.at(func(c *conn) (err error) {
		l, err = c.link(nl.NewIfInfomsg(unix.AF_UNSPEC), attrText(unix.IFLA_IFNAME, name))
		return err
	})
	if err != nil {
		return l, fmt.Errorf("interface %q: %w", name, err)
	}
	n.place(&l, Own, true)
	return l, nil
}

// Raise sets an interface of the agent's own namespace up for a forwarder on it: it receives all, the kernel itself
// neither sends nor answers there, and it has this MTU in bytes.
func (n *Namespaces) Raise(name string, mtu int) error {
	l, err := n.OwnLink(name)
	if err != nil {
		return err
	}
	parts := Change{MTU: mtu, Up: true, Quiet: true}.parts(l.Index, n.group)
	head := parts[0].(*nl.IfInfomsg)
	head.Flags, head.Change = head.Flags|unix.IFF_PROMISC, head.Change|unix.IFF_PROMISC
	err = n.at(func(c *conn) error {
		return c.all(quiet(l.Index), newRequest(unix.RTM_SETLINK, 0, parts...))
	})
	if err != nil {
		return fmt.Errorf("set interface %q up for a forwarder: %w", name, err)
	}
	return nil
}
