package vppfake

import (
	"io"
	"maps"
	"net/netip"
	"time"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/tapv2"
	"go.fd.io/govpp/binapi/wireguard"

	"go.patchbay.dev/vppapi"
)

// index numbers interfaces.
type index = interface_types.InterfaceIndex

const none = ^index(0)

// kind is an interface's device class, as VPP names it.
type kind string

const (
	local      kind = "local"
	memifs     kind = "memif"
	vhosts     kind = "vhost-user"
	hostif     kind = "af-packet"
	taps       kind = "virtio"
	vxlans     kind = "VXLAN"
	geneves    kind = "GENEVE"
	gres       kind = "GRE tunnel device"
	ipips      kind = "IPIP tunnel device"
	wireguards kind = "Wireguard Tunnel"
	device     kind = "device" // its driver's name, which depends on the card
	bvis       kind = "BVI"
)

// iface is an interface.
type iface struct {
	index   index
	kind    kind
	name    string
	tag     string
	mac     [6]byte
	mtu     uint32
	admin   bool
	peer    bool // somebody is there; an af_packet interface always has one
	rxMode  vppapi.RxMode
	worker  int // of its queue, if it has one
	ip6     bool
	l2      index // where its frames go
	bridge  uint32
	group   uint8 // of those in its bridge that get no frames from one another
	bvi     bool
	free    func()
	socket  string
	secret  string
	ring    int
	id      uint32 // of a memif on its socket
	number  uint32 // of a memif's socket
	ipMode  bool
	server  bool
	hostDev string
	tap     *tapv2.TapCreateV3 // what it was made with
	made    any                // so was a tunnel
	natural any                // what VPP tells a tunnel apart by
	peerAt  *wireguard.WireguardPeer
}

// link is whether VPP shows it as up.
func (i *iface) link() bool {
	return i.peer && i.admin || (i.kind == hostif || i.kind == taps) && i.peer
}

// signal is an event to be sent.
type signal struct {
	index   index
	flags   interface_types.IfStatusFlags
	deleted bool
}

// world is what one run of VPP holds. It is guarded by VPP.mu.
type world struct {
	interfaces map[index]*iface
	freed      []index // last in, first out, as VPP's pools
	sockets    map[uint32]*memifSocket
	devices    map[uint32]*attached
	paths      map[l3key]l3path
	neighbors  map[neighborKey][6]byte
	addresses  map[netip.Addr]addressAt
	bridges    map[uint32]*bridge
	macs       map[macKey]macPlace
	signals    []signal
	workers    int
	turn       int       // of the workers, when a queue comes
	looks      time.Time // until then it looks through its memif interfaces
}

func newWorld(workers int) *world {
	w := &world{
		interfaces: map[index]*iface{},
		sockets:    map[uint32]*memifSocket{0: {path: "/run/vpp/memif.sock"}},
		devices:    map[uint32]*attached{},
		paths:      map[l3key]l3path{},
		neighbors:  map[neighborKey][6]byte{},
		addresses:  map[netip.Addr]addressAt{},
		bridges:    map[uint32]*bridge{},
		macs:       map[macKey]macPlace{},
		workers:    workers,
	}
	w.interfaces[0] = &iface{kind: local, name: "local0", l2: none}
	return w
}

// put gives a new interface its index.
func (w *world) put(i *iface) {
	i.l2 = none
	if n := len(w.freed); n > 0 {
		i.index, w.freed = w.freed[n-1], w.freed[:n-1]
	} else {
		i.index = index(len(w.interfaces))
	}
	w.interfaces[i.index] = i
	if i.hasQueue() {
		w.deal(i)
	}
	w.tell(i.index, 0, false)
}

// hasQueue: the queues of a memif come and go with its peer.
func (i *iface) hasQueue() bool { return i.peer || i.kind != memifs && i.kind != local }

// deal gives a queue that has come to the next worker.
func (w *world) deal(i *iface) {
	if i.worker = 0; w.workers > 0 {
		i.worker = 1 + w.turn%w.workers
		w.turn++
	}
}

// remove takes an interface away, with all that VPP takes away with it: its tag and its
// connections to and fro by l2 and its place in a bridge, but not its l3xc, its fixed
// neighbours and MACs that were set.
func (w *world) remove(i *iface) {
	if to := w.interfaces[i.l2]; to != nil {
		to.l2 = none
	}
	if i.free != nil {
		i.free()
	}
	maps.DeleteFunc(w.addresses, func(_ netip.Addr, a addressAt) bool { return a.at == i.index })
	w.unbridge(i)
	delete(w.interfaces, i.index)
	w.freed = append(w.freed, i.index)
	w.tell(i.index, 0, true)
}

// get finds an interface of a kind; any if it is empty.
func (w *world) get(x index, k kind) (*iface, int32) {
	i := w.interfaces[x]
	if i == nil || k != "" && i.kind != k {
		return nil, int32(api.INVALID_SW_IF_INDEX)
	}
	return i, 0
}

// tell notes an event, which becomes one with others of the same interface.
func (w *world) tell(x index, flags interface_types.IfStatusFlags, deleted bool) {
	for i := range w.signals {
		if s := &w.signals[i]; s.index == x {
			s.flags |= flags
			s.deleted = s.deleted || deleted
			return
		}
	}
	w.signals = append(w.signals, signal{x, flags, deleted})
}

// setPeer lets a peer come or leave.
func (w *world) setPeer(i *iface, there bool) {
	was := i.link()
	i.peer = there
	if i.kind == memifs {
		w.deal(i)
		i.rxMode = vppapi.DefaultMode // its queues are new, or gone
	}
	w.linkChanged(i, was)
}

func (w *world) linkChanged(i *iface, was bool) {
	if now := i.link(); now != was {
		var flags interface_types.IfStatusFlags
		if now {
			flags = interface_types.IF_STATUS_API_FLAG_LINK_UP
		}
		w.tell(i.index, flags, false)
	}
}

// closeSockets closes what listens, as the kernel does for a process that dies.
func (w *world) closeSockets() {
	for _, i := range w.interfaces {
		if (i.server || i.kind == taps) && i.free != nil {
			i.free()
		}
	}
	for _, s := range w.sockets {
		closeAll(s.listener)
	}
}

func closeAll(c io.Closer) {
	if c != nil {
		c.Close()
	}
}

func (w *world) snapshot() (all []Interface) {
	for _, i := range sorted(w.interfaces) {
		if i.kind == local {
			continue
		}
		s := Interface{
			Interface: vppapi.Interface{
				Index: vppapi.Index(i.index), Name: i.name, Device: string(i.kind), Tag: i.tag, MAC: i.mac, MTU: int(i.mtu), AdminUp: i.admin, LinkUp: i.link(),
			},
			Worker: i.worker, RxMode: i.rxMode, IP6: i.ip6, Socket: i.socket, Secret: i.secret, Ring: i.ring, L2: vppapi.Index(i.l2),
		}
		for _, p := range w.paths {
			if p.owner == i {
				s.L3 = append(s.L3, p.works)
			}
		}
		for k, mac := range w.neighbors {
			if k.at == i.index {
				s.Fixed = append(s.Fixed, vppapi.Neighbor{At: s.Index, Address: k.address, MAC: mac})
			}
		}
		all = append(all, s)
	}
	return all
}
