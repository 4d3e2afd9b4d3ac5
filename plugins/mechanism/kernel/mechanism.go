// Package kernel is the mechanism KERNEL on the kernel dataplane: a workload gets an
// interface of the Linux kernel in its network namespace. Two such workloads on one node
// are joined by one veth pair, with no forwarder in between.
package kernel

import (
	"log/slog"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/reconcile"
)

// Type is the mechanism's name on the wire and in records.
const Type = "KERNEL"

// Kinds of values and facts, the beginnings of their keys.
const (
	KindVeth     = "veth"     // veth/<id>
	KindIPConfig = "ipconfig" // ipconfig/<id>/client, ipconfig/<id>/endpoint
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

// Offer says whether this node can serve the mechanism now, and if not, what is missing.
func (m *Mechanism) Offer() *models.Offer {
	return &models.Offer{Type: Type, Dataplane: "kernel", Class: "LOCAL", Direct: true, Missing: m.ns.Missing()}
}

// Register gives the engine the descriptors of veth pairs and of what is set on their
// ends, and the facts of namespaces being there; changed is told of cross-connects whose
// links come up or go down. It is called once, before ns and the engine are started.
func (m *Mechanism) Register(e *reconcile.Engine, changed func(id string)) {
	m.changed = changed
	reconcile.Register(e, KindVeth, vethDescriptor{m})
	reconcile.Register(e, KindIPConfig, ipDescriptor{m})
	e.Facts(KindNetNS, m.ns.Presence(e.Observe))
	m.lost = e.Lost
	m.ns.Subscribe(linux.Subscriber{Link: m.heard, NamespaceGone: m.namespaceGone, Missed: m.missed})
}
