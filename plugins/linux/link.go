package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// skipStats leaves the counters out of an answer (RTEXT_FILTER_SKIP_STATS, linux/rtnetlink.h).
const skipStats = 1 << 3

// A Place is where the kernel has an interface: a namespace's nsid ([Own] for the
// agent's) and the interface's index in it.
type Place struct{ NSID, Index int }

// A Link is an interface as the kernel shows it.
type Link struct {
	Place
	Name    string
	Alias   string
	MAC     MAC
	MTU     int // bytes
	Up      bool
	Running bool // up, and so is the other end
	Ours    bool // made by this agent, by its group
	// Loopback: it is lo.
	Loopback bool
	NoARP    bool // the kernel neither asks nor answers there
	Kind     string
	// Master is the index of the bridge that it is a port of, treated as Port says; 0: none.
	Master int
	Port   BridgePort
	Age    time.Duration // of a bridge's learned MACs; 0: for ever
	// Device is what a tunnel is like; nil: it is none that could be made here. Of WireGuard's
	// it is complete only from [Namespace.Device] and in a [Survey].
	Device Device
	// Parent is the PCI address of the function that it is the interface of; empty: it is of none.
	Parent string
	group  uint32
	// Peer is the other end of a pair. Its NSID means something only if PeerKnown: from
	// within a namespace, and of one that is dying, the kernel does not tell it.
	Peer      Place
	PeerKnown bool
	Counters  Counters // only from [Namespaces.LinkAt]
}

// Counters of an interface, from its own point of view (struct rtnl_link_stats64).
type Counters struct {
	RxPackets, TxPackets, RxBytes, TxBytes, RxDropped, TxDropped uint64
}

// LinkByName finds an interface of a namespace. Its place holds the nsid if that was asked
// for by [Namespace.NSID], else Unknown. The error wraps [ErrNoLink] if there is none.
func (ns *Namespace) LinkByName(name string) (Link, error) {
	return ns.link(fmt.Sprintf("%q", name), nl.NewIfInfomsg(unix.AF_UNSPEC), attrText(unix.IFLA_IFNAME, name))
}

// LinkByIndex is as LinkByName.
func (ns *Namespace) LinkByIndex(index int) (Link, error) {
	head := nl.NewIfInfomsg(unix.AF_UNSPEC)
	head.Index = int32(index)
	return ns.link(fmt.Sprint(index), head)
}

func (ns *Namespace) link(what string, parts ...nl.NetlinkRequestData) (Link, error) {
	c, err := ns.conn()
	if err != nil {
		return Link{}, err
	}
	l, err := c.link(parts...)
	if err != nil {
		return Link{}, fmt.Errorf("interface %s in network namespace %q: %w", what, ns.ref, err)
	}
	ns.n.place(&l, ns.nsid, false)
	return l, nil
}

// LinkAt finds an interface without opening its namespace, which may be one that nobody
// can open any more. The error wraps [ErrNoLink] if there is none.
func (n *Namespaces) LinkAt(at Place) (l Link, err error) {
	head := nl.NewIfInfomsg(unix.AF_UNSPEC)
	head.Index = int32(at.Index)
	err = n.at(func(c *conn) (err error) {
		l, err = c.link(append([]nl.NetlinkRequestData{head}, target(at.NSID)...)...)
		return err
	})
	if err != nil {
		return Link{}, fmt.Errorf("interface %d in network namespace number %d: %w", at.Index, at.NSID, err)
	}
	n.place(&l, at.NSID, true)
	return l, nil
}

// target leads a request into another namespace.
func target(nsid int) []nl.NetlinkRequestData {
	if nsid == Own {
		return nil
	}
	return []nl.NetlinkRequestData{attrU32(unix.IFLA_TARGET_NETNSID, uint32(nsid))}
}

func (c *conn) link(parts ...nl.NetlinkRequestData) (l Link, err error) {
	found := false
	r := newRequest(unix.RTM_GETLINK, 0, parts...)
	r.reply = func(body []byte) { l, found = parseLink(body) }
	err = c.one(r)
	if absent(err) || (err == nil && !found) {
		err = ErrNoLink
	}
	return l, err
}

// absent tells whether the kernel said that an interface or its namespace is not there:
// EINVAL is its answer to an nsid that nobody has.
func absent(err error) bool {
	return errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENONET)
}

// here stands for the namespace of the interface itself in what parseLink finds.
const here = -3

// place completes what parseLink found by the interface's own nsid. What a socket in
// another namespace than the agent's says of the peer's is not the agent's number.
func (n *Namespaces) place(l *Link, nsid int, agents bool) {
	l.NSID, l.Ours = nsid, l.group == n.group
	switch {
	case l.Peer.NSID == here:
		l.Peer.NSID = nsid
	case !agents || l.Peer.NSID < 0:
		l.Peer.NSID, l.PeerKnown = 0, false
	}
}

// parseLink reads an RTM_NEWLINK or RTM_DELLINK. The nsid of the interface is not in it.
func parseLink(body []byte) (Link, bool) {
	if len(body) < unix.SizeofIfInfomsg {
		return Link{}, false
	}
	flags := binary.NativeEndian.Uint32(body[8:])
	l := Link{
		Place:   Place{Index: int(int32(binary.NativeEndian.Uint32(body[4:])))},
		Up:      flags&unix.IFF_UP != 0,
		Running: flags&unix.IFF_UP != 0 && flags&unix.IFF_LOWER_UP != 0, // IFF_RUNNING lags behind
		Peer:    Place{NSID: here}, PeerKnown: true,
		Loopback: flags&unix.IFF_LOOPBACK != 0, NoARP: flags&unix.IFF_NOARP != 0,
	}
	for kind, v := range attrs(body[unix.SizeofIfInfomsg:]) {
		switch kind {
		case unix.IFLA_IFNAME:
			l.Name = text(v)
		case unix.IFLA_IFALIAS:
			l.Alias = text(v)
		case unix.IFLA_ADDRESS:
			if len(v) == len(l.MAC) { // a tunnel that carries IP has its own address there
				l.MAC = MAC(v)
			}
		case unix.IFLA_MTU:
			l.MTU = int(u32(v))
		case unix.IFLA_GROUP:
			l.group = u32(v)
		case unix.IFLA_MASTER:
			l.Master = int(u32(v))
		case unix.IFLA_LINK:
			l.Peer.Index = int(u32(v))
		case unix.IFLA_LINK_NETNSID:
			l.Peer.NSID = max(int(int32(u32(v))), unix.NETNSA_NSID_NOT_ASSIGNED)
		case unix.IFLA_STATS64:
			l.Counters = parseCounters(v)
		case unix.IFLA_LINKINFO:
			l.parseInfo(v)
		case unix.IFLA_PARENT_DEV_NAME:
			l.Parent = text(v)
		}
	}
	return l, true
}

// parseCounters reads struct rtnl_link_stats64: packets, bytes, errors and drops, each
// received and sent.
func parseCounters(b []byte) Counters {
	var v [8]uint64
	for i := range v {
		if len(b) >= 8*(i+1) {
			v[i] = binary.NativeEndian.Uint64(b[8*i:])
		}
	}
	return Counters{RxPackets: v[0], TxPackets: v[1], RxBytes: v[2], TxBytes: v[3], RxDropped: v[6], TxDropped: v[7]}
}

// Links lists all interfaces of workloads made here, in every namespace that has an nsid,
// also in those that nobody can open any more, and in the agent's own; without the
// namespaces that are known already.
func (n *Namespaces) Links(known func(nsid int) bool) ([]Link, error) {
	ids, err := n.nsids(known)
	if err != nil {
		return nil, err
	}
	ids = slices.DeleteFunc(append(ids, Own), known)
	var (
		mu    sync.Mutex
		all   []Link
		errs  []error
		parts sync.WaitGroup
	)
	size := max(1, (len(ids)+runtime.GOMAXPROCS(0)-1)/runtime.GOMAXPROCS(0))
	for part := range slices.Chunk(ids, size) {
		parts.Go(func() {
			links, err := n.linksIn(part)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, links...)
			errs = append(errs, err)
		})
	}
	parts.Wait()
	return all, errors.Join(errs...)
}

func (n *Namespaces) linksIn(ids []int) (all []Link, err error) {
	err = n.at(func(c *conn) error {
		for _, id := range ids {
			links, err := n.listed(c, id)
			if absent(err) {
				continue // gone since it was listed
			}
			if err != nil {
				return fmt.Errorf("list interfaces in network namespace number %d: %w", id, err)
			}
			all = append(all, n.ours(links, id, true)...)
		}
		return nil
	})
	return all, err
}

// Tun tells whether it ends in a program, not in another interface: a tap or a TUN.
func (l Link) Tun() bool { return l.Kind == kindTun }

// Veth tells whether it is an end of a pair.
func (l Link) Veth() bool { return l.Kind == kindVeth }

// Mesh tells whether it is a VXLAN device without a peer of its own, of a bridge.
func (l Link) Mesh() bool {
	v, ok := l.Device.(VXLAN)
	return ok && !v.Remote.IsValid()
}

// Bridge tells whether it is a bridge.
func (l Link) Bridge() bool { return l.Kind == kindBridge }

// Resembles tells whether it is such a tunnel, as far as a link tells.
func (l Link) Resembles(d Device) bool {
	if _, ok := l.Device.(WireGuard); ok {
		return l.Kind == d.DeviceKind()
	}
	return SameDevice(l.Device, d)
}

// ours places links of one namespace and drops those that were not made by this agent.
func (n *Namespaces) ours(links []Link, nsid int, agents bool) []Link {
	for i := range links {
		n.place(&links[i], nsid, agents)
	}
	return slices.DeleteFunc(links, func(l Link) bool { return !l.Ours || !made(l.Kind) && l.Parent == "" || l.Mesh() })
}
