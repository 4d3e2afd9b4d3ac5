// Package memif is the mechanism MEMIF: a workload shares memory with VPP, which is the
// server on a socket that the agent owns. Two such workloads on one node may, where
// policy asks for it, share memory with each other and nothing in between.
package memif

import (
	"log/slog"
	"strings"
	"sync"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/reconcile"
	"go.patchbay.dev/vppapi"
)

// Type is the mechanism's name on the wire and in records.
const Type = "MEMIF"

// Kinds of values, the beginnings of their keys.
const (
	Kind       = "memif"    // memif/<id>/<side>
	KindDirect = "memifdir" // memifdir/<id>
	kindNetNS  = "netns"    // netns/<reference>, a fact: the namespace of an abstract socket
)

// Options of a Mechanism.
type Options struct {
	VPP        *vppapi.Client
	Namespaces *linux.Namespaces // for abstract sockets
	RunDir     string            // the sockets' directory
	RxMode     vppapi.RxMode
	Placer     *vppapi.Placer
	Pacer      *vppapi.Pacer
	Prefer     Sizes       // what a workload is told that does not say itself
	Room       vppapi.Room // for one more interface
	Log        *slog.Logger
}

// Mechanism offers, validates, renders and makes MEMIF attachments. Its methods may be
// called at the same time.
type Mechanism struct {
	o       Options
	log     *slog.Logger
	ports   *vppapi.Ports
	numbers numbers
	reserve reserve
	names   names
	doubts  sync.Map // tags of what may be there without its tag, left by an attempt that failed
}

// New returns the mechanism.
func New(o Options) *Mechanism {
	if o.Room == nil {
		o.Room = vppapi.AnyRoom
	}
	m := &Mechanism{o: o, log: o.Log.With("mechanism", Type), ports: vppapi.NewPorts(o.VPP)}
	m.ports.RxMode, m.ports.Placer, m.ports.Pacer = o.RxMode, o.Placer, o.Pacer
	m.numbers.clear()
	return m
}

// Type is the mechanism's name on the wire.
func (m *Mechanism) Type() string { return Type }

// Offers say whether this node can serve the mechanism now, and if not, what is missing.
func (m *Mechanism) Offers() []*models.Offer {
	return []*models.Offer{{Type: Type, Dataplane: "vpp", Class: "LOCAL", SharedMemory: true, Direct: true, Joins: true,
		Missing: m.o.VPP.Missing(vppapi.MemifPlugin)}}
}

// Register gives the engine the descriptors; changed is told of cross-connects of which a
// peer has connected or gone. It is called once, before VPP's client is started.
func (m *Mechanism) Register(e *reconcile.Engine, changed func(id string)) {
	reconcile.Register(e, Kind, descriptor{m})
	reconcile.Register(e, KindDirect, directDescriptor{m})
	m.ports.Watch(func(key string) {
		if part := strings.Split(key, "/"); len(part) == 3 { // its socket may still be there
			m.doubts.Store(models.Tag(part[1], models.Side(part[2])), true)
		}
		e.Lost(key)
	}, changed)
}

// Kinds are those whose world ends with VPP.
func (m *Mechanism) Kinds() []string { return []string{Kind} }

// numbers are those of VPP's memif sockets that are in use. They show in the interfaces'
// names, so small ones are taken.
type numbers struct {
	mu   sync.Mutex
	used map[uint32]bool
	next uint32
}

func (n *numbers) clear() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.used, n.next = map[uint32]bool{}, 1
}

// take gives a number that is free as far as is known.
func (n *numbers) take() uint32 {
	n.mu.Lock()
	defer n.mu.Unlock()
	for n.used[n.next] {
		n.next++
	}
	n.used[n.next] = true
	return n.next
}

func (n *numbers) release(number uint32) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.used, number)
	n.next = min(n.next, max(number, 1))
}

// learn takes what VPP has for all that is in use.
func (n *numbers) learn(sockets map[uint32]string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.used, n.next = map[uint32]bool{0: true}, 1
	for number := range sockets {
		n.used[number] = true
	}
}
