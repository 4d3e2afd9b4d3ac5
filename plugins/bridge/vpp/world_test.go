package vpp_test

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.fd.io/govpp/api"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/bridge"
	"go.patchbay.dev/plugins/bridge/vpp"
	"go.patchbay.dev/plugins/mechanism/vxlan"
	"go.patchbay.dev/plugins/reconcile"
	"go.patchbay.dev/plugins/tunnel"
	"go.patchbay.dev/vppapi"
	"go.patchbay.dev/vppapi/vppfake"
	"go.patchbay.dev/vppapi/vpptest"
)

// world is an agent's part that makes bridges, on a VPP in memory. The members are tunnels,
// too: their ports are as any other's.
type world struct {
	t   *testing.T
	dir string
	vpp *vppfake.VPP

	client  *vppapi.Client
	tunnels *vxlan.Mechanism
	bridges *vpp.Dataplane
	engine  *reconcile.Engine

	mu       sync.Mutex
	statuses map[string]reconcile.Status
	asked    []string // messages sent
}

var (
	local = netip.MustParseAddr("10.0.0.1")
	peers = []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3")}
	lan   = bridge.Domain{Name: "lan", VNI: 1 << 23, Learn: true, Flood: true, UnknownUnicast: true, MACAge: 5 * time.Minute, MTU: 1450,
		GatewayMAC: models.DerivedMAC("gateway lan")}
)

func newWorld(t *testing.T) *world {
	v := vpptest.Fake(t)
	w := &world{t: t, dir: t.TempDir(), vpp: v}
	v.SetAddress(local, true)
	w.connect()
	return w
}

// connect makes the parts and connects to VPP; nothing is wanted yet.
func (w *world) connect() {
	w.t.Helper()
	w.client = vppapi.New(vppapi.Options{Socket: w.vpp.Socket(), Name: "bridge", Timeout: time.Second, Probe: 50 * time.Millisecond, Trace: func(m api.Message) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.asked = append(w.asked, m.GetMessageName())
	}})
	w.tunnels = vxlan.New(tunnel.New(tunnel.Options{Node: "n1", Addresses: []netip.Addr{local}, VPP: w.client, RunDir: w.dir}))
	w.bridges = vpp.New(w.client, w.tunnels, vppapi.NewStats(filepath.Join(w.dir, "stats.sock")))
	w.statuses = map[string]reconcile.Status{}
	w.engine = reconcile.New(reconcile.Options{MinBackoff: 5 * time.Millisecond, MaxBackoff: 50 * time.Millisecond, OnStatus: func(s reconcile.Status) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.statuses[s.Group] = s
	}})
	w.tunnels.Register(w.engine, func(string) {})
	w.bridges.Ports(w.tunnels.Kinds()...)
	w.bridges.Register(w.engine)
	engine, kinds := w.engine, append(w.bridges.Kinds(), w.tunnels.Kinds()...)
	w.client.Watch(vppapi.Watcher{Up: func() { go engine.Resync(context.Background(), kinds...) }})
	w.client.Start(context.Background())
	w.t.Cleanup(w.stop)
}

func (w *world) start() {
	w.t.Helper()
	if err := w.engine.Start(context.Background()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) stop() {
	if w.engine != nil {
		w.engine.Stop()
		w.client.Stop()
		w.engine = nil
	}
}

// restart stops the agent and has another read what is on record.
func (w *world) restart(record func()) {
	w.t.Helper()
	w.stop()
	w.connect()
	record()
	w.start()
}

// domain wants a bridge, with tunnels to the peers.
func (w *world) domain(d bridge.Domain, peers ...netip.Addr) {
	w.t.Helper()
	values, err := w.bridges.Domain(d)
	if err == nil {
		var mesh []reconcile.Value
		mesh, err = w.bridges.Mesh(d, local, peers)
		values = append(values, mesh...)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.engine.Apply(reconcile.Change{Group: "bridge/" + d.Name, Revision: 1, Values: values})
}

// member wants a member of a bridge; its number tells it from others.
func (w *world) member(number int, d bridge.Domain) string {
	w.t.Helper()
	id := fmt.Sprint("m", number)
	x := &models.CrossConnect{Id: id, Payload: models.Ethernet, Client: &models.Attachment{Mechanism: &models.Mechanism{
		Type: "VXLAN", Parameters: map[string]string{"src_ip": "10.0.1.1", "dst_ip": local.String(), "vni": fmt.Sprint(number)}}}}
	port, values, err := w.tunnels.Attach(x, models.ClientSide)
	if err != nil {
		w.t.Fatal(err)
	}
	port.MAC, port.Addresses = macOf(id), []netip.Addr{netip.AddrFrom4([4]byte{10, 60, byte(number >> 8), byte(number)})}
	more, err := w.bridges.Member(id, d, port)
	if err != nil {
		w.t.Fatal(err)
	}
	w.engine.Apply(reconcile.Change{Group: id, Revision: 1, Values: append(values, more...)})
	return id
}

func macOf(id string) [6]byte { return models.DerivedMAC(id) }

// settles waits until all that is wanted is as it should be, and nothing more is done.
func (w *world) settles() {
	w.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		if err := w.engine.Settle(context.Background()); err != nil {
			w.t.Fatal(err)
		}
		w.mu.Lock()
		var bad []reconcile.Status
		for _, s := range w.statuses {
			if s.State != reconcile.Applied && s.State != reconcile.Gone {
				bad = append(bad, s)
			}
		}
		n := len(w.statuses)
		w.mu.Unlock()
		if len(bad) == 0 && n > 0 && w.client.Up() == nil {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("not as wanted: %+v", bad)
		}
	}
}

// sends wants a frame to go out of these, by the tags of members and peers.
func (w *world) sends(from string, source, to [6]byte, want ...string) {
	w.t.Helper()
	got, err := w.vpp.Frame(tag(from), source, to)
	if err != nil {
		w.t.Fatal(err)
	}
	var tags []string
	for _, s := range want {
		tags = append(tags, tag(s))
	}
	slices.Sort(got)
	if slices.Sort(tags); !slices.Equal(got, tags) {
		w.t.Errorf("a frame from %s to %v goes to %v; want %v", from, to, got, tags)
	}
}

// tag of a member's port, of the tunnel to a peer, or of the gateway.
func tag(of string) string {
	switch {
	case of == "gateway":
		return "patchbay:lan:gateway"
	case of[0] == 'm':
		return "patchbay:" + of + ":client"
	}
	return "patchbay:8388608+" + of + ":endpoint"
}

// messages gives those that were sent by what was done.
func (w *world) messages(do func()) []string {
	w.t.Helper()
	w.mu.Lock()
	w.asked = nil
	w.mu.Unlock()
	do()
	w.settles()
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.asked)
}
