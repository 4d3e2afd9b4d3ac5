// Package kernel is the mechanism KERNEL: a workload gets an interface of the Linux kernel
// in its network namespace. Two such workloads on one node are linked by one veth pair,
// with no forwarder in between; between two nodes, the interface can itself be the end of
// a tunnel, or that of a virtual function of a card. Where there is VPP, a pair leads from a workload to VPP.
package kernel

import (
	"log/slog"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/reconcile"
	"go.patchbay.dev/plugins/sriov"
	"go.patchbay.dev/vppapi"
)

// Type is the mechanism's name on the wire and in records.
const Type = "KERNEL"

// Kinds of values and facts, the beginnings of their keys.
const (
	KindVeth     = "veth"     // veth/<id>
	KindIPConfig = "ipconfig" // ipconfig/<id>/client, ipconfig/<id>/endpoint
	KindHostIf   = "hostif"   // hostif/<id>/<side>, in VPP
	KindTap      = "tap"      // tap/<id>/<side>, in VPP and in the kernel
	KindDevice   = "device"   // device/<id>/<side>, a tunnel
	KindVFNet    = "vfnet"    // vfnet/<id>/<side>, the interface of a virtual function
	KindNetNS    = "netns"    // netns/<reference>, a fact
)

// Mechanism offers, validates, renders and makes KERNEL attachments. Its methods may be
// called at the same time.
type Mechanism struct {
	ns    *linux.Namespaces
	log   *slog.Logger
	pairs pairs
	// changed is told of cross-connects whose links have come up or gone down.
	changed func(id string)
	looks   looks
	lost    func(key string) // tells the engine of damage

	here  func() bool    // see WithBridges
	vfs   *sriov.Plugin  // nil: this node has no virtual functions
	vpp   *vppapi.Client // nil: this node has no VPP
	ports *vppapi.Ports
	room  vppapi.Room // for one more interface
	taps  taps
	// making bounds how many af_packet interfaces are made at the same time.
	making chan struct{}
}

// WithVPP has workloads attached to vpp, too, by taps in this rx-mode where it can; placer,
// which may be nil, chooses VPP's workers for them, and room is what it has for one more
// interface. It is called before Register.
func (m *Mechanism) WithVPP(vpp *vppapi.Client, mode vppapi.RxMode, placer *vppapi.Placer, room vppapi.Room) *Mechanism {
	m.vpp, m.ports, m.room = vpp, vppapi.NewPorts(vpp), room
	m.taps.ports, m.taps.mode = vppapi.NewPorts(vpp), mode
	m.ports.Placer, m.taps.ports.Placer = placer, placer
	m.making = make(chan struct{}, maxMaking)
	m.ns.WithTaps()
	return m
}

// WithBridges has workloads be attached to bridges of the kernel's, not of VPP's, whenever
// here says so. It is called before Register.
func (m *Mechanism) WithBridges(here func() bool) *Mechanism {
	m.here = here
	return m
}

// New returns the mechanism, which works in the namespaces of ns.
func New(ns *linux.Namespaces, log *slog.Logger) *Mechanism {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	m := &Mechanism{ns: ns, log: log.With("mechanism", Type), lost: func(string) {}, changed: func(string) {}}
	m.pairs.init()
	return m
}

// Type is the mechanism's name on the wire.
func (m *Mechanism) Type() string { return Type }

// Missing says why this node's kernel cannot serve it, as the rest of a sentence that
// begins "node n1"; empty: it can.
func (m *Mechanism) Missing() string { return m.ns.Missing() }

// Offers are what each dataplane of this node can serve now: VPP joins workloads, the kernel
// places them on a tunnel.
func (m *Mechanism) Offers() []*models.Offer {
	missing := m.ns.Missing()
	all := []*models.Offer{{Type: Type, Dataplane: "kernel", Class: "LOCAL", Direct: true, Places: true, Bridges: true, Version: version, Missing: missing}}
	if m.vpp != nil && m.vpp.Missing(m.portPlugin()) == "" {
		all = append([]*models.Offer{{Type: Type, Dataplane: "vpp", Class: "LOCAL", Direct: true, Joins: true, Version: version, Missing: missing}}, all...)
	}
	if m.vfs != nil {
		all = append(all, &models.Offer{Type: Type, Dataplane: models.CardDataplane, Class: "LOCAL", Joins: true, Version: version, Missing: missing})
	}
	return all
}

// version of the parameters, see models.Offer.
const version = 1

// Kinds are those whose world ends with VPP.
func (m *Mechanism) Kinds() []string {
	if m.vpp == nil {
		return nil
	}
	return []string{KindHostIf, KindTap}
}

// Register gives the engine the descriptors of veth pairs, of tunnels and of what is set on
// them, and the facts of namespaces being there; changed is told of cross-connects whose
// links come up or go down. It is called once, before ns and the engine are started.
func (m *Mechanism) Register(e *reconcile.Engine, changed func(id string)) {
	m.changed = changed
	reconcile.Register(e, KindVeth, vethDescriptor{m})
	reconcile.Register(e, KindIPConfig, ipDescriptor{m})
	reconcile.Register(e, KindDevice, deviceDescriptor{m})
	if m.vfs != nil {
		reconcile.Register(e, KindVFNet, vfDescriptor{m})
	}
	if m.vpp != nil {
		reconcile.Register(e, KindHostIf, hostDescriptor{m})
		reconcile.Register(e, KindTap, tapDescriptor{m})
		m.ports.Watch(e.Lost, changed)
		m.taps.ports.Watch(e.Lost, changed)
	}
	e.Facts(KindNetNS, "the network namespace", m.ns.Presence(e.Observe))
	m.lost = e.Lost
	m.ns.Subscribe(linux.Subscriber{Link: m.heard, NamespaceGone: m.namespaceGone, Missed: m.missed})
}
