package bridge

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/crossconnect"
	"go.patchbay.dev/plugins/reconcile"
	"go.patchbay.dev/plugins/store"
)

// patience is for what happens soon; no test waits so long unless it fails.
const patience = 20 * time.Second

// plane is a node's dataplane in memory: what exists, and what was done to it.
type plane struct {
	mu    sync.Mutex
	there map[string]thing
	calls []string
}

// thing is a value: what it is and what it stands on.
type thing struct{ what, on string }

func (d *plane) call(what, key string) {
	d.calls = append(d.calls, what+" "+key)
}

func (d *plane) Create(_ context.Context, key string, spec thing) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.call("create", key)
	d.there[key] = spec
	return nil
}

func (d *plane) Update(_ context.Context, key string, _, spec thing) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.call("update", key)
	d.there[key] = spec
	return nil
}

func (d *plane) Delete(_ context.Context, key string, _ thing) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.call("delete", key)
	delete(d.there, key)
	return nil
}

func (d *plane) Retrieve(context.Context, iter.Seq2[string, thing]) (all []reconcile.Found[thing], _ error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for k, v := range d.there {
		all = append(all, reconcile.Found[thing]{Key: k, Spec: v})
	}
	return all, nil
}

func (d *plane) Dependencies(_ string, spec thing) []string { return strings.Fields(spec.on) }
func (d *plane) Equal(a, b thing) bool                      { return a.what == b.what }

func (d *plane) Domain(m Domain) ([]reconcile.Value, error) {
	m.VNI = 0
	return []reconcile.Value{{Key: "thing/domain/" + m.Name, Spec: thing{what: fmt.Sprint(m)}}}, nil
}

func (d *plane) Mesh(m Domain, local netip.Addr, peers []netip.Addr) (all []reconcile.Value, _ error) {
	for _, p := range peers {
		all = append(all, reconcile.Value{Key: "thing/tunnel/" + m.Name + "/" + p.String(), Spec: thing{fmt.Sprint(m.VNI, " from ", local), "thing/domain/" + m.Name}})
	}
	return all, nil
}

func (d *plane) Member(id string, m Domain, port models.Port) ([]reconcile.Value, error) {
	return []reconcile.Value{{Key: "thing/port/" + m.Name + "/" + id, Spec: thing{"port", port.Key + " " + port.Needs + " thing/domain/" + m.Name}}}, nil
}

func (d *plane) Look(context.Context, string) (State, error) { return State{}, ErrNoBridge }

// keys of what there is with a prefix.
func (d *plane) keys(prefix string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []string
	for _, k := range slices.Sorted(maps.Keys(d.there)) {
		if rest, ok := strings.CutPrefix(k, "thing/"+prefix); ok {
			all = append(all, rest)
		}
	}
	return strings.Join(all, " ")
}

func (d *plane) what(key string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.there["thing/"+key].what
}

// did gives what was done since it was asked last.
func (d *plane) did() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	calls := d.calls
	d.calls = nil
	return calls
}

// plug attaches workloads to a plane.
type plug struct{}

func (plug) Type() string                     { return "PLUG" }
func (plug) Validate(map[string]string) error { return nil }
func (plug) Status(x *models.CrossConnect, _ models.Side) *models.AttachmentStatus {
	return &models.AttachmentStatus{Mechanism: "PLUG", Interface: "if-" + x.Id, LinkUp: true}
}

func (plug) Attach(x *models.CrossConnect, _ models.Side) (models.Port, []reconcile.Value, error) {
	key := "thing/plug/" + x.Id
	return models.Port{Key: key, Ethernet: true}, []reconcile.Value{{Key: key, Spec: thing{what: fmt.Sprint(x.Client.Mac, " ", x.Mtu, " ", x.Client.Addresses)}}}, nil
}

// tunnel is a plug that leads to another node.
type tunnel struct{ plug }

func (tunnel) Type() string { return "TUNNEL" }

// node is a node with all that a bridge needs, around one etcd.
type node struct {
	t     testing.TB
	name  string
	etcd  *store.Store
	keys  models.Keys
	plane *plane

	mu   sync.Mutex
	node Node

	engine  *reconcile.Engine
	records *crossconnect.Plugin
	bridges *Plugin
	stop    func()
	look    func() // is called when all is read and the engine has yet to look; may be nil
}

func newEtcd(t testing.TB) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{DataDir: filepath.Join(t.TempDir(), "etcd")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// newNode starts a node whose tunnels end at an address; empty: it has none.
func newNode(t testing.TB, etcd *store.Store, name, address string) *node {
	t.Helper()
	n := &node{t: t, name: name, etcd: etcd, keys: models.NewKeys("/t/", name), plane: &plane{there: map[string]thing{}}, node: Node{Underlay: 1500}}
	n.node.Addresses = addresses(strings.Fields(address))
	n.start()
	t.Cleanup(func() { n.stop() })
	return n
}

// starting has the engine know the bridges before it starts, as the agent does.
type starting struct {
	*reconcile.Engine
	n *node
}

func (s starting) Start(ctx context.Context) error {
	s.n.bridges.Refresh()
	if err := s.n.bridges.Load(ctx); err != nil {
		return err
	}
	if s.n.look != nil {
		s.n.look()
	}
	return s.Engine.Start(ctx)
}

func (n *node) start() {
	n.t.Helper()
	log := slog.New(slog.NewTextHandler(n.t.Output(), nil)).With("node", n.name)
	n.engine = reconcile.New(reconcile.Options{Log: log, OnStatus: func(s reconcile.Status) {
		if !n.bridges.EngineStatus(s) {
			n.records.EngineStatus(s)
		}
	}})
	n.bridges = New(Options{Keys: n.keys, Store: n.etcd, Engine: n.engine, Records: later{n}, Dataplane: func() Dataplane { return n.plane }, Node: n.now, Tunnels: []string{"TUNNEL"}, Log: log})
	reconcile.Register(n.engine, "thing", n.plane)
	m := Mechanism{n.bridges}
	m.Register(n.engine, nil)
	n.records = crossconnect.New(crossconnect.Options{Keys: n.keys, Store: n.etcd, Engine: starting{n.engine, n}, Mechanisms: []crossconnect.Mechanism{plug{}, tunnel{}, m}, Log: log})
	n.records.Subscribe(func(e crossconnect.Event) { n.bridges.Changed(e.ID, e.Desired, e.Status) })
	ctx, cancel := context.WithCancel(context.Background())
	if err := errors.Join(n.bridges.Start(ctx), n.records.Start(ctx)); err != nil {
		n.t.Fatal(err)
	}
	<-n.records.Ready()
	n.stop = sync.OnceFunc(func() { cancel(); n.records.Stop(); n.bridges.Stop(); n.engine.Stop() })
}

// later are the records, which are made after the bridges.
type later struct{ n *node }

func (l later) Again(ids ...string) { l.n.records.Again(ids...) }
func (l later) Note(id, why string) { l.n.records.Note(id, why) }

func (n *node) now() Node {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.node
}

// becomes changes what the node is, and has that seen.
func (n *node) becomes(change func(*Node)) {
	n.mu.Lock()
	change(&n.node)
	n.mu.Unlock()
	n.bridges.Refresh()
}

func put(t testing.TB, etcd *store.Store, key, value string) {
	t.Helper()
	if _, err := etcd.Put(t.Context(), key, []byte(value)); err != nil {
		t.Fatal(err)
	}
}

func remove(t testing.TB, etcd *store.Store, key string) {
	t.Helper()
	if _, err := etcd.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
}

// apply writes a bridge.
func (n *node) apply(name, rest string) {
	n.t.Helper()
	put(n.t, n.etcd, n.keys.Bridge(name), `{"name":"`+name+`"`+rest+`}`)
}

// member writes a record of a member; more is of its client.
func (n *node) member(bridge, id, more string) {
	n.t.Helper()
	put(n.t, n.etcd, n.keys.CrossConnect(id), `{"id":"`+id+`","client":{"mechanism":{"type":"PLUG"}`+more+`},"endpoint":{"mechanism":{"type":"BRIDGE","parameters":{"bridge":"`+bridge+`"}}}}`)
}

// eventually waits until what is asked for begins with what is wanted.
func eventually(t testing.TB, want string, ask func() string) {
	t.Helper()
	for end := time.Now().Add(patience); !strings.HasPrefix(ask(), want); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in time: %q, want %q", ask(), want)
		}
	}
}

// exactly is eventually for all of it.
func exactly(t testing.TB, want string, ask func() string) {
	t.Helper()
	eventually(t, want+"\n", func() string { return ask() + "\n" })
}

// state waits for a member's state and reason.
func (n *node) state(id, want string) {
	n.t.Helper()
	eventually(n.t, want, func() string {
		_, s, _ := n.records.Lookup(id)
		return strings.TrimSpace(s.GetState().String() + " " + s.GetReason())
	})
}

// bridge waits for a bridge's state and reason.
func (n *node) bridge(name, want string) {
	n.t.Helper()
	eventually(n.t, want, func() string {
		_, s := n.bridges.Lookup(name)
		if s == nil {
			return "none"
		}
		return strings.TrimSpace(s.State.String() + " " + s.Reason)
	})
}

// serving is the bridge that answers a network service.
func (n *node) serving(service string) string {
	n.bridges.mu.Lock()
	defer n.bridges.mu.Unlock()
	return n.bridges.services[service]
}

// settled waits until a bridge with its one tunnel, and its members, are UP in etcd, too.
func (n *node) settled(name string, ids ...string) {
	n.t.Helper()
	keys := []string{n.keys.BridgeStatus(name)}
	for _, id := range ids {
		keys = append(keys, n.keys.Status(id))
	}
	exactly(n.t, "all", func() string {
		for _, key := range keys {
			kv, _ := n.etcd.Get(n.t.Context(), key)
			up := strings.Contains(string(kv.Value), `"UP"`)
			if key == keys[0] {
				s := &models.BridgeStatus{}
				up = up && models.Unmarshal(kv.Value, s) == nil && int(s.Members) == len(ids) && s.Peers == 1
			}
			if !up {
				return key + " is " + string(kv.Value)
			}
		}
		return "all"
	})
}

// etcdKeys lists what is in etcd under a prefix, after it.
func etcdKeys(t testing.TB, etcd *store.Store, prefix string) string {
	kvs, _, err := etcd.List(t.Context(), prefix)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, kv := range kvs {
		all = append(all, strings.TrimPrefix(kv.Key, prefix))
	}
	return strings.Join(all, " ")
}
