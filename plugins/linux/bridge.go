package linux

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const kindBridge = "bridge"

// A Bridge is what is wanted of an Ethernet bridge in the agent's own namespace.
type Bridge struct {
	Name  string
	Alias string
	MAC   MAC
	MTU   int           // bytes
	Age   time.Duration // of a MAC that was learned and is not seen any more; 0: for ever
	// Host: the kernel itself is on the bridge; else it neither sends nor answers there.
	Host bool
}

// A BridgePort is how a bridge treats one of its ports.
type BridgePort struct {
	Learn          bool // of MACs, from what comes in
	Flood          bool // broadcast and multicast go out
	UnknownUnicast bool // so does what is for a MAC that has not been seen
	// Suppress: ARP and neighbour discovery for who is known to be there do not go out; the
	// bridge answers.
	Suppress bool
}

// Aliases of a bridge's interfaces end in what they are.
const (
	bridgeSuffix = ":bridge"
	meshSuffix   = ":mesh"
)

// BridgeName is the name of the interface of the bridge that a name stands for.
func (n *Namespaces) BridgeName(name string) string { return n.ownName("pbb", name) }

// BridgeAlias is how users see it in `ip link`: patchbay:<name>:bridge.
func BridgeAlias(name string) string { return tagPrefix + name + bridgeSuffix }

// MeshName is the name of the bridge's tunnel to other nodes.
func (n *Namespaces) MeshName(name string) string { return n.ownName("pbv", name) }

// MeshAlias is how users see it in `ip link`: patchbay:<name>:mesh.
func MeshAlias(name string) string { return tagPrefix + name + meshSuffix }

// ParseBridge reads an alias of either; the other is told from it by its kind.
func ParseBridge(alias string) (name string, ok bool) {
	rest, ok := strings.CutPrefix(alias, tagPrefix)
	if name, is := strings.CutSuffix(rest, bridgeSuffix); ok && is {
		return name, true
	}
	name, is := strings.CutSuffix(rest, meshSuffix)
	return name, ok && is
}

// ErrBridgeTaken: something that is not ours has the name of a bridge.
var ErrBridgeTaken = errors.New("the name of the bridge is taken")

// MakeBridge makes a bridge, up and marked as ours, or brings the one that is there to what is
// wanted. There is no spanning tree, and multicast goes to every port whatever is heard of
// memberships: what is behind a tunnel is not heard of. The error wraps ErrBridgeTaken if
// something else has the name.
func (n *Namespaces) MakeBridge(b Bridge) (l Link, err error) {
	err = n.at(func(c *conn) (err error) {
		err = c.one(newRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, nl.NewIfInfomsg(unix.AF_UNSPEC),
			attrText(unix.IFLA_IFNAME, b.Name), attrU32(unix.IFLA_GROUP, n.group), linkInfo(kindBridge, nil)))
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
		if l, err = c.link(nl.NewIfInfomsg(unix.AF_UNSPEC), attrText(unix.IFLA_IFNAME, b.Name)); err != nil {
			return err
		}
		if n.place(&l, Own, true); !l.Ours || l.Kind != kindBridge {
			return fmt.Errorf("%w: %q is %s", ErrBridgeTaken, b.Name, whose(l))
		}
		n.guardBridge(b.Name, b.Host) // before it is up
		l, err = c.change(l.Index, quiet(l.Index), b.request(l.Index))
		return err
	})
	if errors.Is(err, unix.EOPNOTSUPP) {
		err = fmt.Errorf("this node %s: %w", n.Supports(kindBridge), err)
	}
	if err != nil {
		return l, fmt.Errorf("make bridge %q: %w", b.Name, err)
	}
	n.place(&l, Own, true)
	return l, nil
}

// request changes all that can be changed.
func (b Bridge) request(index int) request {
	h := nl.NewIfInfomsg(unix.AF_UNSPEC)
	h.Index, h.Flags, h.Change = int32(index), unix.IFF_UP|unix.IFF_NOARP, unix.IFF_UP|unix.IFF_NOARP
	if b.Host {
		h.Flags = unix.IFF_UP
	}
	var data attributes
	data.add(nl.IFLA_BR_AGEING_TIME, nl.Uint32Attr(ticks(b.Age)))
	data.add(nl.IFLA_BR_STP_STATE, nl.Uint32Attr(0))
	data.add(nl.IFLA_BR_MCAST_SNOOPING, []byte{0})
	return newRequest(unix.RTM_NEWLINK, 0, h, nl.NewRtAttr(unix.IFLA_ADDRESS, b.MAC[:]), attrU32(unix.IFLA_MTU, uint32(b.MTU)),
		nl.NewRtAttr(unix.IFLA_IFALIAS, []byte(b.Alias)), linkInfo(kindBridge, data))
}

// tick is the unit of a bridge's times (USER_HZ of every architecture that there is).
const tick = 10 * time.Millisecond

// forEver is what stands for an age without end, in ticks: 248 days. With 0, a bridge
// forgets at once.
const forEver = math.MaxInt32

func ticks(age time.Duration) uint32 {
	if age == 0 || age/tick > forEver/2 {
		return forEver
	}
	return uint32(age / tick)
}

func age(ticks uint32) time.Duration {
	if ticks > forEver/2 { // the kernel rounds
		return 0
	}
	return time.Duration(ticks) * tick
}

// change sends requests that change an interface and returns how it is then.
func (c *conn) change(index int, requests ...request) (l Link, err error) {
	h := nl.NewIfInfomsg(unix.AF_UNSPEC)
	h.Index = int32(index)
	found := false
	get := newRequest(unix.RTM_GETLINK, 0, h)
	get.reply = func(body []byte) { l, found = parseLink(body) }
	err = c.all(append(requests, get)...)
	if err == nil && !found {
		err = ErrNoLink
	}
	return l, err
}

// SetBridgePort puts an interface of the agent's own namespace into a bridge, up, or moves
// it there from another, and says how it is treated. The error wraps ErrNoLink if either is
// not there.
func (n *Namespaces) SetBridgePort(index, bridge int, p BridgePort) (l Link, err error) {
	h := nl.NewIfInfomsg(unix.AF_UNSPEC)
	h.Index, h.Flags, h.Change = int32(index), unix.IFF_UP, unix.IFF_UP
	treat := nl.NewIfInfomsg(unix.AF_UNSPEC)
	treat.Index = int32(index)
	err = n.at(func(c *conn) (err error) {
		l, err = c.change(index,
			newRequest(unix.RTM_SETLINK, 0, h, attrU32(unix.IFLA_MASTER, uint32(bridge))),
			newRequest(unix.RTM_NEWLINK, 0, treat, p.info()))
		return err
	})
	if errors.Is(err, unix.ENODEV) {
		err = ErrNoLink
	}
	if err != nil {
		return l, fmt.Errorf("make interface %d a port of bridge %d: %w", index, bridge, err)
	}
	n.place(&l, Own, true)
	return l, nil
}

// LeaveBridge takes an interface out of its bridge. One that is not there is no error.
func (n *Namespaces) LeaveBridge(index int) error {
	h := nl.NewIfInfomsg(unix.AF_UNSPEC)
	h.Index = int32(index)
	err := n.at(func(c *conn) error {
		return c.one(newRequest(unix.RTM_SETLINK, 0, h, attrU32(unix.IFLA_MASTER, 0)))
	})
	if err != nil && !goneAlready(err) {
		return fmt.Errorf("take interface %d out of its bridge: %w", index, err)
	}
	return nil
}

func (p BridgePort) info() *nl.RtAttr {
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_SLAVE_KIND, nl.NonZeroTerminated(kindBridge))
	data := info.AddRtAttr(nl.IFLA_INFO_SLAVE_DATA, nil)
	for kind, on := range map[int]bool{
		nl.IFLA_BRPORT_LEARNING: p.Learn, nl.IFLA_BRPORT_UNICAST_FLOOD: p.UnknownUnicast,
		nl.IFLA_BRPORT_MCAST_FLOOD: p.Flood, nl.IFLA_BRPORT_BCAST_FLOOD: p.Flood, nl.IFLA_BRPORT_NEIGH_SUPPRESS: p.Suppress,
	} {
		v := []byte{0}
		if on {
			v[0] = 1
		}
		data.AddRtAttr(kind, v)
	}
	return info
}

func parseBridgePort(data []byte) (p BridgePort) {
	for kind, v := range attrs(data) {
		on := len(v) > 0 && v[0] != 0
		switch kind {
		case nl.IFLA_BRPORT_LEARNING:
			p.Learn = on
		case nl.IFLA_BRPORT_UNICAST_FLOOD:
			p.UnknownUnicast = on
		case nl.IFLA_BRPORT_BCAST_FLOOD:
			p.Flood = on
		case nl.IFLA_BRPORT_NEIGH_SUPPRESS:
			p.Suppress = on
		}
	}
	return p
}

// BridgeLinks lists what is in the agent's own namespace and ours: bridges, and all that are
// ports of bridges or could be.
func (n *Namespaces) BridgeLinks() (links []Link, err error) {
	err = n.at(func(c *conn) (err error) {
		links, err = n.listed(c, Own)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	var ours []Link
	for _, l := range links {
		if n.place(&l, Own, true); l.Ours {
			ours = append(ours, l)
		}
	}
	return ours, nil
}
