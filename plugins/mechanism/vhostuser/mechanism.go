// Package vhostuser is the mechanism VHOST_USER: a virtual machine or a virtio-user
// workload shares its memory with VPP over a socket that the agent owns.
package vhostuser

import (
	"log/slog"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/reconcile"
	"go.patchbay.dev/vppapi"
)

// Type is the mechanism's name on the wire and in records. Network Service Mesh has none.
const Type = "VHOST_USER"

// Kind of values: vhostuser/<id>/<side>.
const Kind = "vhostuser"

// Options of a Mechanism.
type Options struct {
	VPP    *vppapi.Client
	RunDir string // the sockets' directory
	RxMode vppapi.RxMode
	Placer *vppapi.Placer
	Pacer  *vppapi.Pacer
	Room   func(have func() int) (done func(), err error) // vppapi.Room for one more port beside those it has
	Log    *slog.Logger
}

// Mechanism offers, validates, renders and makes VHOST_USER attachments. Its methods may
// be called at the same time.
type Mechanism struct {
	o     Options
	log   *slog.Logger
	ports *vppapi.Ports
}

// New returns the mechanism.
func New(o Options) *Mechanism {
	if o.Room == nil {
		o.Room = func(func() int) (func(), error) { return vppapi.AnyRoom() }
	}
	m := &Mechanism{o: o, log: o.Log.With("mechanism", Type), ports: vppapi.NewPorts(o.VPP)}
	m.ports.RxMode, m.ports.Placer, m.ports.Pacer = o.RxMode, o.Placer, o.Pacer
	return m
}

// Type is the mechanism's name on the wire.
func (m *Mechanism) Type() string { return Type }

// Offers say whether this node can serve the mechanism now, and if not, what is missing.
func (m *Mechanism) Offers() []*models.Offer {
	return []*models.Offer{{Type: Type, Dataplane: "vpp", Class: "LOCAL", SharedMemory: true, Joins: true,
		Missing: m.o.VPP.Missing(vppapi.VhostPlugin)}}
}

// Register gives the engine the descriptor; changed is told of cross-connects of which a
// peer has connected or gone. It is called once, before VPP's client is started.
func (m *Mechanism) Register(e *reconcile.Engine, changed func(id string)) {
	reconcile.Register(e, Kind, descriptor{m})
	m.ports.Watch(e.Lost, changed)
}

// Kinds are those whose world ends with VPP.
func (m *Mechanism) Kinds() []string { return []string{Kind} }
