package manager

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/crossconnect"
	"go.patchbay.dev/plugins/fdpass"
	"go.patchbay.dev/plugins/identity"
	"go.patchbay.dev/plugins/identity/identitytest"
	"go.patchbay.dev/plugins/reconcile"
)

// node is an agent as far as this room goes, with a dataplane in memory.
type node struct {
	t       *testing.T
	lab     *lab
	name    string
	dir     string
	etcd    *view
	plane   *dataplane
	vnis    *tunnels
	bridges *segment
	devices Devices
	passed  atomic.Pointer[func() (string, error)] // see passes
	wires   *wires
	path    *underlay // between it and the other nodes
	id      *identity.Identity
	m       *Manager
	log     *logged
	offers  []*models.Offer
	keys    models.Keys
	stop    func()
}

// logged is a log that a test shows when it fails.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// lab are nodes that share an etcd and an authority for certificates.
type lab struct {
	t     *testing.T
	etcd  *memory
	ca    *identitytest.Authority
	nodes []*node
}

func newLab(t *testing.T) *lab { return &lab{t: t, etcd: newMemory(), ca: identitytest.New(t)} }

// offersOf are those of a node whose dataplane joins all of the types.
func offersOf(types ...string) (list []*models.Offer) {
	for _, t := range types {
		class := "LOCAL"
		switch t {
		case "VXLAN", "GRE":
			class = "REMOTE"
		case "BRIDGE":
			class = t
		}
		list = append(list, &models.Offer{Type: t, Class: class, Dataplane: "vpp", Joins: true})
	}
	return list
}

// start starts a node; one that was stopped finds its dataplane as it was.
func (l *lab) start(name string) *node {
	l.t.Helper()
	dir, err := os.MkdirTemp("", "pb-") // not t.TempDir: its names can be too long for a socket
	if err != nil {
		l.t.Fatal(err)
	}
	n := &node{t: l.t, lab: l, name: name, dir: dir, etcd: &view{memory: l.etcd}, plane: &dataplane{there: map[string]string{}},
		bridges: &segment{members: map[string][]string{}}, wires: newWires(), log: &logged{}, offers: offersOf("KERNEL", "VXLAN", "BRIDGE"), keys: models.NewKeys("/patchbay/v1", name)}
	n.passes(namespace)
	l.ca.Write(dir, identitytest.Node(name))
	n.path = newUnderlay(l.t)
	n.run()
	l.nodes = append(l.nodes, n)
	for _, other := range l.nodes {
		other.m.nodes.await(l.t.Context(), name)
	}
	l.t.Cleanup(func() {
		n.stop()
		n.path.close()
		os.RemoveAll(dir)
		if l.t.Failed() {
			l.t.Logf("log of %s:\n%s", name, n.log)
		}
	})
	return n
}

// own is the inode of the test's network namespace.
func own() uint64 {
	var st syscall.Stat_t
	syscall.Stat("/proc/self/ns/net", &st)
	return st.Ino
}

func (n *node) agent() *models.Agent {
	return &models.Agent{Node: n.name, Url: "tcp://" + n.path.address(), Offers: n.offers, Mtu: 1500, Addresses: []string{addressOf(n.name).String()}}
}

// run is what agent/ does, in short.
func (n *node) run() {
	t := n.t
	t.Helper()
	log := slog.New(slog.NewTextHandler(n.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	n.id, err = identity.FromFiles(n.name, identity.Files{Cert: filepath.Join(n.dir, "cert.pem"), Key: filepath.Join(n.dir, "key.pem"), CA: filepath.Join(n.dir, "ca.pem")}, log)
	if err != nil {
		t.Fatal(err)
	}
	n.vnis = newTunnels(n.name)
	var xc *crossconnect.Plugin
	engine := reconcile.New(reconcile.Options{Log: log, OnStatus: func(s reconcile.Status) { xc.EngineStatus(s) }})
	reconcile.Register(engine, "plug", n.plane)
	xc = crossconnect.New(crossconnect.Options{Keys: n.keys, Store: n.etcd, Engine: engine, Joiner: joiner{}, Log: log,
		Mechanisms: []crossconnect.Mechanism{plug{"KERNEL", n.plane}, plug{"VXLAN", n.plane}, bridge{plug{"BRIDGE", n.plane}}}})
	n.m = New(Options{Keys: n.keys, Store: n.etcd, Records: xc, Namespaces: anyNamespace{n}, Observer: deaf{}, Agent: n.agent,
		OwnNetns: own(), Tunnels: n.vnis, Paths: n.wires, Bridges: n.bridges, Devices: n.devices, Identity: n.id, Log: log})
	m, vnis := n.m, n.vnis
	xc.Subscribe(vnis.changed)
	xc.Subscribe(func(e crossconnect.Event) { m.Changed(e.ID, e.Desired, e.Status) })

	local := grpc.NewServer(grpc.Creds(fdpass.Credentials()))
	m.Register(local)
	peers := grpc.NewServer(grpc.Creds(n.id.Server()))
	m.RegisterPeers(peers)
	ctx, cancel := context.WithCancel(context.Background())
	if err := xc.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := m.Start(ctx); err != nil {
		t.Fatal(err)
	}
	os.Remove(n.socket())
	unix, err := net.Listen("unix", n.socket())
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n.path.to(tcp.Addr().String())
	go local.Serve(unix)
	go peers.Serve(tcp)
	<-xc.Ready()
	<-m.Loaded()
	n.bridges.tell(m)
	m.Ready(true)
	n.publish()
	n.stop = sync.OnceFunc(func() {
		m.Quit()
		local.Stop()
		peers.Stop()
		n.path.to("")
		m.Stop()
		xc.Stop()
		cancel()
		engine.Stop()
		n.id.Close()
	})
}

// publish does what the agent's lease does.
func (n *node) publish() {
	data, err := models.Marshal(n.agent())
	if err != nil {
		n.t.Fatal(err)
	}
	n.etcd.Put(context.Background(), n.keys.Agent(), data)
}

func (n *node) socket() string { return filepath.Join(n.dir, "agent.sock") }

// restart stops the agent and starts it again: its key in etcd stays, as on a lease.
func (n *node) restart() {
	n.stop()
	n.run()
}

// die is a node that is gone from one moment to the next: nothing answers any more, and
// its lease has expired.
func (n *node) die() {
	n.path.cut(true)
	n.stop()
	(&view{memory: n.etcd.memory}).Delete(context.Background(), n.keys.Agent())
}

// records are the ids of the cross-connects of a node.
func (n *node) records() []string { return n.etcd.under(n.keys.CrossConnects()) }

// empty says what is left on a node: records, parts in the dataplane, VNIs.
func (n *node) empty() error {
	held, recorded := n.vnis.taken()
	if r, p := n.records(), n.plane.keys(); len(r)+len(p)+held+recorded > 0 {
		return fmt.Errorf("node %s has records %v, parts %v, %d VNIs held, %d on record", n.name, r, p, held, recorded)
	}
	return nil
}

// anyNamespace takes every path for a namespace, and a descriptor for what the node says it is.
type anyNamespace struct{ *node }

func (a anyNamespace) FromDescriptor(*os.File, int) (string, error) {
	return (*a.passed.Load())()
}
func (anyNamespace) FromPath(p string) (string, error) { return p, nil }
func (anyNamespace) File(string) (*os.File, error)     { return nil, os.ErrNotExist }

type deaf struct{}

func (deaf) Request(string, codes.Code, time.Duration) {}
func (deaf) Negotiation(string, string)                {}

// eventually waits for what other goroutines do and tell nobody of.
func eventually(t testing.TB, within time.Duration, what string, check func() error) time.Duration {
	t.Helper()
	start := time.Now()
	for {
		err := check()
		if err == nil {
			return time.Since(start)
		}
		if time.Since(start) > within {
			t.Fatalf("waited %v for %s: %v", within, what, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// underlay is what is in front of one node: it forwards TCP, or loses everything.
type underlay struct {
	l     net.Listener
	wait  sync.WaitGroup
	lost  atomic.Bool
	ended atomic.Bool
	mu    sync.Mutex
	there string // where it leads; empty: the node's kernel refuses
	conns map[net.Conn]bool
}

func newUnderlay(t *testing.T) *underlay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &underlay{l: l, conns: map[net.Conn]bool{}}
	p.wait.Go(p.accept)
	return p
}

func (p *underlay) address() string { return p.l.Addr().String() }

// cut loses every packet from now on, or no more.
func (p *underlay) cut(lost bool) { p.lost.Store(lost) }

// to leads the path to a node's agent; empty: there is none.
func (p *underlay) to(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.there = address
	if address == "" && !p.lost.Load() {
		for c := range p.conns {
			c.Close()
		}
	}
}

func (p *underlay) close() {
	p.ended.Store(true)
	p.l.Close()
	p.mu.Lock()
	for c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	p.wait.Wait()
}

func (p *underlay) accept() {
	for {
		c, err := p.l.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		there := p.there
		p.conns[c] = true
		p.mu.Unlock()
		if p.lost.Load() {
			continue // open, and silent for good
		}
		out, err := net.Dial("tcp", there)
		if err != nil {
			c.Close()
			continue
		}
		p.mu.Lock()
		p.conns[out] = true
		p.mu.Unlock()
		p.wait.Go(func() { p.copy(out, c) })
		p.wait.Go(func() { p.copy(c, out) })
	}
}

func (p *underlay) copy(to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		for p.lost.Load() && !p.ended.Load() && err == nil { // what is lost comes late, as TCP sends again
			time.Sleep(10 * time.Millisecond)
		}
		if err == nil {
			_, err = to.Write(buf[:n])
		}
		if err != nil {
			if err != io.EOF || !p.lost.Load() {
				to.Close()
			}
			from.Close()
			return
		}
	}
}
