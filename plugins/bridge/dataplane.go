package bridge

import (
	"context"
	"net/netip"
	"time"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/reconcile"
)

// Dataplane makes bridges on one dataplane of this node. What it renders depends on its
// arguments alone: whoever changes a bridge renders its members anew as well.
type Dataplane interface {
	// Domain renders the bridge itself and its gateway.
	Domain(d Domain) ([]reconcile.Value, error)
	// Mesh renders what leads to the other nodes that have members; d.VNI must be set.
	// local and peers are of one address family.
	Mesh(d Domain, local netip.Addr, peers []netip.Addr) ([]reconcile.Value, error)
	// Member renders the port of connection id and its static MACs. port is where its
	// workload is attached; it must carry Ethernet, and is joined when port.Needs is there.
	Member(id string, d Domain, port models.Port) ([]reconcile.Value, error)
	// Look tells what is there now of a bridge. It asks the dataplane. The error wraps
	// ErrNoBridge if there is none.
	Look(ctx context.Context, name string) (State, error)
}

// Domain is a bridge as one node makes it.
type Domain struct {
	Name string
	// VNI of its tunnels to other nodes, from 1 to 2^24-1; 0: it has none.
	VNI uint32
	// Learn: what comes from a MAC tells where that is. Flood: broadcast and multicast go
	// to every port. UnknownUnicast: so do frames to a MAC that nobody has been seen at.
	Learn, Flood, UnknownUnicast bool
	// ARPTermination: the bridge answers ARP and neighbour discovery for addresses that it knows.
	ARPTermination bool
	MACAge         time.Duration // of what was learned; 0: for ever
	MTU            int           // of members' packets in bytes
	// Gateways are addresses of the node itself on the bridge. Every node has the same, at
	// the same MAC: each is the gateway of its own members.
	Gateways   []netip.Prefix
	GatewayMAC [6]byte
	// StaticMACs are where no learning changes it; those of connections that are not
	// members here are of no concern.
	StaticMACs []StaticMAC
}

// StaticMAC is where a MAC is, whatever comes from elsewhere.
type StaticMAC struct {
	MAC        [6]byte
	Connection string // id of a member
}

// State is what there is of a bridge on this node.
type State struct {
	Name  string // the dataplane's: an interface of the kernel, a number in VPP
	Ports []Port
	MACs  []MAC
}

// Place is where a port of a bridge leads; one of its fields is set.
type Place struct {
	Connection string     // a member
	Peer       netip.Addr // another node, by the address of its tunnel
	Gateway    bool       // the node itself
	Mesh       bool       // other nodes, where one port leads to all of them
}

// Port is a port of a bridge.
type Port struct {
	Place
	Interface string // the dataplane's name
	Up        bool   // it forwards
	// What it received from where it leads and sent there, in frames and bytes.
	RxPackets, RxBytes, TxPackets, TxBytes, Drops uint64
}

// MAC is an entry of the MAC table.
type MAC struct {
	Place
	MAC    [6]byte
	Static bool
}
