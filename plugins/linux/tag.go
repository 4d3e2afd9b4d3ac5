package linux

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"strings"
)

// Marks of what is ours in the kernel.
const (
	// Group is the interface group of everything made here, "patc" as a number, see
	// [Options]. It is set by the request that makes an interface, so nothing of ours is
	// ever without it.
	Group = 0x70617463
	// Protocol is the originator of our routes, rules, neighbours and addresses
	// (rtm_protocol, FRA_PROTOCOL, NDA_PROTOCOL, IFA_PROTO). The kernel leaves 5–255 to
	// user space; 112 is not among those that iproute2's rt_protos names.
	Protocol = 112
)

// groupOf gives an agent beside the machine's own another group; "" is the machine's own.
func groupOf(instance string) uint32 {
	if instance == "" {
		return Group
	}
	sum := sha256.Sum256([]byte(instance))
	return Group&0xff000000 | binary.BigEndian.Uint32(sum[:])&0x00ffffff
}

// Group is the interface group of all that this agent makes.
func (n *Namespaces) Group() uint32 { return n.group }

// A Side is one end of a connection.
type Side string

// The two sides.
const (
	Client   Side = "client"
	Endpoint Side = "endpoint"
)

// Sides are both of them.
var Sides = [2]Side{Client, Endpoint}

// portSuffix marks the end of a pair that a forwarder sends and receives on.
const portSuffix = "-port"

// Port is the tag's counterpart: the end of the workload's pair that is in the agent's own
// namespace, for a forwarder.
func (t Tag) Port() Tag { return Tag{t.ID, t.Side + portSuffix} }

// PortName is the name of the outer end of a workload's pair. It is the agent's own, for the
// ends of several agents may be in one namespace.
func (n *Namespaces) PortName(workload Tag) string { return n.ownName("pb", workload.String()) }

// ownName derives a name of an interface in the agent's own namespace.
func (n *Namespaces) ownName(prefix, of string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", of, n.group))
	return prefix + hex.EncodeToString(sum[:5])
}

// Workload is the tag of the workload's end; port tells that t was that of the other.
func (t Tag) Workload() (w Tag, port bool) {
	side, port := strings.CutSuffix(string(t.Side), portSuffix)
	return Tag{t.ID, Side(side)}, port
}

// A Tag says whose interface it is; as text it is the interface's alias.
type Tag struct {
	ID   string // of the cross-connect
	Side Side
}

// String is the tag as users see it in `ip link`: patchbay:<id>:<side>.
func (t Tag) String() string { return tagPrefix + t.ID + ":" + string(t.Side) }

const tagPrefix = "patchbay:"

// ParseTag reads an alias; ok is false if it is not one of ours.
func ParseTag(alias string) (t Tag, ok bool) {
	rest, ok := strings.CutPrefix(alias, tagPrefix)
	id, side, found := strings.Cut(rest, ":")
	t = Tag{ID: id, Side: Side(side)}
	w, _ := t.Workload()
	return t, ok && found && id != "" && (w.Side == Client || w.Side == Endpoint)
}

// MAC derives the Ethernet address of an interface whose record gives none: unicast,
// locally administered, the same at every start.
func (t Tag) MAC() MAC {
	sum := sha256.Sum256([]byte(t.String()))
	mac := MAC(sum[:6])
	mac[0] = mac[0]&^1 | 2
	return mac
}

// A MAC is an Ethernet address.
type MAC [6]byte

// ParseMAC reads an Ethernet address like 02:00:00:00:00:01.
func ParseMAC(s string) (MAC, error) {
	hw, err := net.ParseMAC(s)
	if err != nil || len(hw) != len(MAC{}) {
		return MAC{}, fmt.Errorf("%q is not an Ethernet address", s)
	}
	return MAC(hw), nil
}

func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }
