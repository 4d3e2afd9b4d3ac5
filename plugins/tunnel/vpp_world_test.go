package tunnel_test

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/mechanism/geneve"
	"go.patchbay.dev/plugins/mechanism/gre"
	"go.patchbay.dev/plugins/mechanism/ipip"
	"go.patchbay.dev/plugins/mechanism/vxlan"
	"go.patchbay.dev/plugins/mechanism/wireguard"
	"go.patchbay.dev/plugins/reconcile"
	"go.patchbay.dev/plugins/tunnel"
	"go.patchbay.dev/plugins/xconnect"
	"go.patchbay.dev/vppapi"
	"go.patchbay.dev/vppapi/vppfake"
	"go.patchbay.dev/vppapi/vpptest"
)

// attacher is what this test uses of a mechanism.
type attacher interface {
	Attach(x *models.CrossConnect, side models.Side) (models.Port, []reconcile.Value, error)
	Register(e *reconcile.Engine, changed func(string))
	Kinds() []string
}

// agent joins tunnels in a VPP in memory. It can be stopped and started again.
type agent struct {
	t   *testing.T
	dir string
	vpp *vppfake.VPP

	client     *vppapi.Client
	room       *tunnel.Room
	mechanisms map[string]attacher
	join       *xconnect.Plugin
	engine     *reconcile.Engine

	mu       sync.Mutex
	statuses map[string]reconcile.Status
}

// Ends of tunnels in VPP.
const (
	own4, own6 = "10.0.0.1", "fd00::1"
	far4, far6 = "10.0.0.2", "fd00::2"
)

func newAgent(t *testing.T) *agent {
	v := vpptest.Fake(t)
	a := &agent{t: t, dir: t.TempDir(), vpp: v}
	a.addresses()
	return a
}

func (a *agent) addresses() {
	for _, s := range []string{own4, own6} {
		a.vpp.SetAddress(netip.MustParseAddr(s), true)
	}
}

// start begins with what is on record; the tunnel at the endpoint's side may be left out, as
// if it were not there yet.
func (a *agent) start(records ...*models.CrossConnect) {
	a.t.Helper()
	a.client = vppapi.New(vppapi.Options{Socket: a.vpp.Socket(), Name: "tunnel", Timeout: time.Second, Probe: 50 * time.Millisecond})
	a.room = tunnel.New(tunnel.Options{Node: "n1", Addresses: []netip.Addr{netip.MustParseAddr(own4), netip.MustParseAddr(own6)}, VPP: a.client, RunDir: a.dir})
	a.mechanisms = map[string]attacher{
		"VXLAN": vxlan.New(a.room), "GENEVE": geneve.New(a.room), "GRE": gre.New(a.room), "IPIP": ipip.New(a.room),
		"WIREGUARD": wireguard.New(a.room, filepath.Join(a.dir, "secret")),
	}
	a.join = xconnect.New(a.client)
	a.statuses = map[string]reconcile.Status{}
	a.engine = reconcile.New(reconcile.Options{MinBackoff: 5 * time.Millisecond, MaxBackoff: 50 * time.Millisecond, OnStatus: func(s reconcile.Status) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.statuses[s.Group] = s
	}})
	kinds := a.join.Kinds()
	for _, m := range a.mechanisms {
		m.Register(a.engine, func(string) {})
		kinds = append(kinds, m.Kinds()...)
		a.join.Ports(m.Kinds()...)
	}
	a.join.Register(a.engine)
	a.client.Watch(vppapi.Watcher{Up: func() { go a.engine.Resync(context.Background(), kinds...) }})
	a.client.Start(context.Background())
	for _, x := range records {
		a.apply(x)
	}
	if err := a.engine.Start(context.Background()); err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(a.stop)
}

func (a *agent) stop() {
	if a.engine != nil {
		a.engine.Stop()
		a.client.Stop()
		a.engine = nil
	}
}

// values are those of a record; one without an endpoint is not joined.
func (a *agent) values(x *models.CrossConnect) (values []reconcile.Value, err error) {
	var ports []models.Port
	for _, side := range []models.Side{models.ClientSide, models.EndpointSide} {
		if x.At(side) == nil {
			return values, nil
		}
		port, more, err := a.mechanisms[x.At(side).Mechanism.Type].Attach(x, side)
		if err != nil {
			return nil, err
		}
		ports, values = append(ports, port), append(values, more...)
	}
	more, err := a.join.Join(x, ports[0], ports[1])
	return append(values, more...), err
}

func (a *agent) apply(x *models.CrossConnect) {
	a.t.Helper()
	values, err := a.values(x)
	if err != nil {
		a.t.Fatal(err)
	}
	a.engine.Apply(reconcile.Change{Group: x.Id, Revision: 1, Values: values})
}

func (a *agent) remove(id string) { a.engine.Apply(reconcile.Change{Group: id, Revision: 2}) }

// settled waits until a connection is as wanted.
func (a *agent) settled(id string, ok func(reconcile.Status) bool) {
	a.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		a.mu.Lock()
		s := a.statuses[id]
		a.mu.Unlock()
		if ok(s) {
			return
		}
		if time.Now().After(deadline) {
			a.t.Fatalf("%s is %v: %s", id, s.State, s.Reason)
		}
	}
}

func applied(s reconcile.Status) bool { return s.State == reconcile.Applied }
func gone(s reconcile.Status) bool    { return s.State == reconcile.Gone }
func failed(parts ...string) func(reconcile.Status) bool {
	return func(s reconcile.Status) bool {
		for _, part := range parts {
			if s.State != reconcile.Failed || !strings.Contains(s.Reason, part) {
				return false
			}
		}
		return true
	}
}

// tunnelsIn are the tunnels' tags in VPP, and how many have none.
func (a *agent) tunnelsIn() (tags map[string]vppfake.Interface, untagged int) {
	tags = map[string]vppfake.Interface{}
	for _, i := range a.vpp.Interfaces() {
		if i.Tag == "" {
			untagged++
		} else {
			tags[i.Tag] = i
		}
	}
	return tags, untagged
}

// wants n tunnels with a tag, and so many without.
func (a *agent) has(n, without int) {
	a.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		tags, untagged := a.tunnelsIn()
		if len(tags) == n && untagged == without {
			return
		}
		if time.Now().After(deadline) {
			a.t.Fatalf("%d tunnels with a tag and %d without; want %d and %d: %v", len(tags), untagged, n, without, tags)
		}
	}
}

// relay is a record with a tunnel of a kind at each side: over IPv4 to the client's, over
// IPv6 to the endpoint's node.
func (a *agent) relay(id, kind, payload string, number int) *models.CrossConnect {
	a.t.Helper()
	x := &models.CrossConnect{Id: id, Payload: payload, Mtu: 1400}
	client := map[string]string{"src_ip": far4, "dst_ip": own4}
	endpoint := map[string]string{"src_ip": own6, "dst_ip": far6}
	for i, p := range []map[string]string{client, endpoint} {
		n := fmt.Sprint(number + i)
		switch kind {
		case "VXLAN", "GENEVE":
			p["vni"] = n
		case "GRE":
			p["key"] = n
		}
	}
	if kind == "WIREGUARD" {
		a.keys(id, client, endpoint, number)
	}
	x.Client = &models.Attachment{Mechanism: &models.Mechanism{Type: kind, Parameters: client}}
	x.Endpoint = &models.Attachment{Mechanism: &models.Mechanism{Type: kind, Parameters: endpoint}}
	return x
}

// keys has the node make its keys for a record, and other nodes theirs.
func (a *agent) keys(id string, client, endpoint map[string]string, number int) {
	a.t.Helper()
	key := func(side models.Side, dir, id string) string {
		from := &models.Agent{Node: "n2", Addresses: []string{far4, own4}, Offers: []*models.Offer{{Type: "WIREGUARD", Class: "REMOTE", Version: 1}}}
		k := &kernel{addresses: map[netip.Addr]int{netip.MustParseAddr(own4): 1500, netip.MustParseAddr("10.0.0.3"): 1500}}
		r := tunnel.New(tunnel.Options{Node: "n1", Addresses: []netip.Addr{netip.MustParseAddr(own4)}, Kernel: k, RunDir: dir})
		wireguard.New(r, filepath.Join(dir, "secret"))
		r.Look(context.Background())
		all, err := r.Propose(id, []string{"WIREGUARD"}, from, models.IP)
		if err != nil {
			a.t.Fatal(err)
		}
		if side == models.EndpointSide {
			return all[0].Parameters["src_public_key"]
		}
		all[0].Parameters["src_ip"], all[0].Parameters["dst_ip"] = far4, own4
		r.Release(id)
		done, err := r.Accept(id, all[0], from, models.IP)
		if err != nil {
			a.t.Fatal(err)
		}
		return done.Parameters["dst_public_key"]
	}
	other := a.t.TempDir()
	client["src_public_key"], client["dst_public_key"] = key(models.EndpointSide, other, id), key(models.ClientSide, a.dir, id)
	endpoint["src_public_key"], endpoint["dst_public_key"] = key(models.EndpointSide, a.dir, id), key(models.ClientSide, other, id)
	for i, p := range []map[string]string{client, endpoint} {
		p["src_port"], p["dst_port"] = fmt.Sprint(50000+number+i), fmt.Sprint(51000+number+i)
	}
}
