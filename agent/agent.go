// Package agent puts the rooms together: one explicit ordered list of what is started
// and, in the reverse order, stopped.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"go.patchbay.dev/agent/config"
	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/admin"
	"go.patchbay.dev/plugins/bfd"
	"go.patchbay.dev/plugins/crossconnect"
	"go.patchbay.dev/plugins/deviceplugin"
	"go.patchbay.dev/plugins/identity"
	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/manager"
	"go.patchbay.dev/plugins/mechanism/kernel"
	"go.patchbay.dev/plugins/mechanism/vfio"
	"go.patchbay.dev/plugins/metrics"
	"go.patchbay.dev/plugins/reconcile"
	"go.patchbay.dev/plugins/sriov"
	"go.patchbay.dev/plugins/store"
	"go.patchbay.dev/plugins/tunnel"
	"go.patchbay.dev/plugins/xconnect"
	"go.patchbay.dev/vppapi"
)

// Agent is one node's agent.
type Agent struct {
	cfg  *config.Config
	log  *slog.Logger
	keys models.Keys

	mechanisms []mechanism
	offer      atomic.Pointer[models.Agent] // what this node offers now
	offers     chan []byte                  // what is to be published of it

	store         *store.Store
	engine        *reconcile.Engine
	linux         *linux.Namespaces
	kernel        *kernel.Mechanism
	vpp           *vppapi.Client // nil: the dataplane is the kernel's alone
	stats         *vppapi.Stats
	pacer         *vppapi.Pacer
	budget        *vppapi.Budget
	xconnect      *xconnect.Plugin
	tunnels       *tunnel.Room
	paths         *bfd.Plugin   // nil: no path is watched
	sriov         *sriov.Plugin // nil: the node has no pools of virtual functions
	vfio          *vfio.Mechanism
	devices       manager.Devices
	tokens        *deviceplugin.Tokens // nil: kubelet counts nothing
	bridges       *bridges
	vppKinds      []string // of the engine's values that end with VPP
	crossconnects *crossconnect.Plugin
	manager       *manager.Manager
	admin         *admin.Server
	metrics       *metrics.Metrics

	identity *identity.Identity // nil: agents of other nodes do not know this one

	fail  func(error) // stops the agent
	ready atomic.Bool
	done  sync.WaitGroup
}

// Run is the agent from start to stop: it returns when ctx ends, with the traffic left
// flowing, or when it cannot start.
func Run(ctx context.Context, cfg *config.Config, log *slog.Logger) error {
	a := &Agent{cfg: cfg, log: log, keys: models.NewKeys(cfg.Etcd.Prefix, cfg.Node.Name), offers: make(chan []byte, 1)}
	began := time.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	a.fail = func(err error) { cancel(failure{err}) }
	err := a.withIdentity()
	if err != nil {
		return err
	}
	if a.identity != nil {
		defer a.identity.Close()
	}
	a.store, err = store.Open(ctx, store.Config{
		Endpoints: cfg.Etcd.Endpoints,
		Prefix:    a.keys.Prefix,
		TLS:       store.TLS(cfg.Etcd.TLS),
		Username:  cfg.Etcd.Username,
		Password:  string(cfg.Etcd.Password),
		Listen:    cfg.Etcd.Listen,
		Insecure:  cfg.Etcd.Insecure,
		DataDir:   cfg.Etcd.DataDir,
		Log:       log,
	})
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	defer a.store.Close()
	if err := a.build(); err != nil {
		return err
	}
	if a.claim(ctx) != nil {
		return nil // stopped while it waited
	}
	stop, err := a.start(ctx)
	if err != nil {
		return err
	}
	log.Info("agent started", "version", cfg.Version, "node", cfg.Node.Name, "dataplane", a.offered().GetDataplane(), "took", time.Since(began))
	a.done.Go(func() { a.awaitReady(ctx, began) })
	<-ctx.Done()
	a.notify(daemon.SdNotifyStopping)
	log.Info("agent stops; what is connected stays connected")
	stop()
	a.done.Wait()
	var failed failure
	if errors.As(context.Cause(ctx), &failed) {
		return failed.error
	}
	return nil
}

// failure is why an agent stops by itself.
type failure struct{ error }

// build makes the rooms and joins them; nothing runs yet.
func (a *Agent) build() error {
	namespaces, err := linux.New(linux.Options{AllowOwn: a.cfg.Kernel.AllowAgentNetns, Instance: a.instance(), Log: a.log})
	if err != nil {
		return fmt.Errorf("kernel: %w", err)
	}
	a.linux = namespaces
	a.metrics = metrics.New()
	a.engine = reconcile.New(reconcile.Options{
		Log: a.log,
		OnStatus: func(s reconcile.Status) {
			if !a.bridges.EngineStatus(s) {
				a.crossconnects.EngineStatus(s)
			}
		},
		OnCall: a.metrics.Applied,
	})
	a.kernel = kernel.New(namespaces, a.log)

	// Every mechanism of this node: a new one is a line here.
	a.mechanisms = []mechanism{
		a.kernel,
	}
	var joiner crossconnect.Joiner
	if a.cfg.Dataplane != "kernel" {
		a.mechanisms = a.withVPP(a.mechanisms)
		joiner = a.xconnect
	}
	a.mechanisms = a.withTunnels(a.mechanisms)
	if a.mechanisms, err = a.withSRIOV(a.mechanisms); err != nil {
		return err
	}

	var rendered []crossconnect.Mechanism
	for _, m := range a.mechanisms {
		m.Register(a.engine, func(id string) { a.crossconnects.LinkChanged(id) })
		if v, ok := m.(interface{ Kinds() []string }); ok {
			a.vppKinds = append(a.vppKinds, v.Kinds()...)
			if a.xconnect != nil {
				a.xconnect.Ports(v.Kinds()...)
			}
		}
		rendered = append(rendered, m)
	}
	a.checkPreferences()
	a.publishOffer()
	a.crossconnects = crossconnect.New(crossconnect.Options{
		Keys: a.keys, Store: a.store, Engine: engine{a.engine, a}, Mechanisms: rendered, Joiner: joiner, Log: a.log,
	})
	own := ownNetns()
	asks := manager.Options{
		Keys: a.keys, Store: a.store, Records: a.crossconnects, Namespaces: namespaces,
		Observer: a.metrics, Agent: a.offered, Prefer: a.cfg.Mechanisms.Prefer, Path: a.cfg.Mechanisms.Path, OwnNetns: own, Log: a.log,
		Tunnels: a.tunnels, Devices: a.devices, Bridges: a.bridges,
	}
	if a.identity != nil {
		asks.Identity = a.identity
	}
	if a.paths != nil {
		asks.Paths = a.paths
	}
	a.manager = manager.New(asks)
	a.crossconnects.Subscribe(func(e crossconnect.Event) { a.bridges.Changed(e.ID, e.Desired, e.Status) })
	a.crossconnects.Subscribe(func(e crossconnect.Event) { a.tunnels.Changed(e.ID, e.Desired) })
	if a.sriov != nil {
		a.crossconnects.Subscribe(func(e crossconnect.Event) { a.sriov.Recorded(e.ID, e.Desired) })
	}
	a.crossconnects.Subscribe(func(e crossconnect.Event) { a.manager.Changed(e.ID, e.Desired, e.Status) })
	commands := admin.Options{
		Keys: a.keys, Version: a.cfg.Version, VPP: a.vppVersion, Agent: a.offered, Prefer: a.cfg.Mechanisms.Prefer, Path: a.cfg.Mechanisms.Path,
		Store: a.store, CrossConnects: a.crossconnects, Registry: a.manager, Bridges: a.bridges, Counters: a.adminCounters, Given: a.given, OwnNetns: own,
	}
	if a.sriov != nil {
		commands.Devices = a.sriov
	}
	a.admin = admin.New(commands)
	a.collect()
	return nil
}

// checkPreferences says which of the preferred mechanisms this node can never have. That is
// no error: one configuration may be that of many nodes.
func (a *Agent) checkPreferences() {
	types := make([]string, len(a.mechanisms))
	for i, m := range a.mechanisms {
		types[i] = m.Type()
	}
	for _, t := range a.cfg.Mechanisms.Prefer {
		if !slices.Contains(types, t) {
			a.log.Warn("mechanisms.prefer names one that this node does not have", "mechanism", t, "has", strings.Join(types, ", "))
		}
	}
}

// instance tells this agent's interfaces from those of another on the same machine: by
// where its records are, since what is not on record is removed, and by its own network
// namespace, for the nodes of two labs may have one name and one prefix.
func (a *Agent) instance() string {
	where := a.cfg.Etcd.DataDir
	if len(a.cfg.Etcd.Endpoints) > 0 {
		where = a.keys.Prefix
	}
	return fmt.Sprintf("%s%s %d", a.cfg.Node.Name, where, ownNetns())
}

// mechanism is what the agent asks of every folder under plugins/mechanism.
type mechanism interface {
	crossconnect.Mechanism
	// Offers are what the node publishes of it, one for each dataplane that serves it.
	Offers() []*models.Offer
	// Register gives the engine its descriptors; changed is told of every cross-connect
	// whose status may have changed without the engine.
	Register(e *reconcile.Engine, changed func(id string))
}

// part is what is started in order and stopped in the reverse order.
type part struct {
	name  string
	start func(context.Context) error
	stop  func()
}

// parts is the one ordered list. The servers come last: they let others in. When the
// agent stops, the engine ends what it is doing after nobody can ask for more.
func (a *Agent) parts() []part {
	return []part{
		{"linux", func(context.Context) error { return a.linux.Start() }, a.closeLinux},
		{"vpp", a.startVPP, a.stopVPP},
		a.virtualFunctions(),
		{"engine", func(context.Context) error { return nil }, a.engine.Stop}, // crossconnect starts it
		a.tunnelPaths(),
		{"bridge", a.bridges.Start, a.bridges.Stop},
		{"crossconnect", a.crossconnects.Start, a.crossconnects.Stop},
		{"offer", a.publish, func() {}},
		{"manager", a.manager.Start, a.manager.Stop},
		a.httpServer(),
		a.peerServer(),
		a.grpcServer(),
		a.devicePlugin(),
	}
}

// start starts the parts; what it returns stops them.
func (a *Agent) start(ctx context.Context) (stop func(), err error) {
	var started []part
	stop = func() {
		for i := len(started) - 1; i >= 0; i-- {
			started[i].stop()
		}
	}
	for _, p := range a.parts() {
		if err := p.start(ctx); err != nil {
			stop()
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		started = append(started, p)
	}
	return stop, nil
}

// awaitReady tells the world when all records have been read and adopted, and again
// whenever etcd comes or goes.
func (a *Agent) awaitReady(ctx context.Context, began time.Time) {
	for _, ready := range []<-chan struct{}{a.crossconnects.Ready(), a.manager.Loaded()} {
		select {
		case <-ready:
		case <-ctx.Done():
			return
		}
	}
	a.ready.Store(true)
	a.log.Info("agent ready", "connections", len(a.crossconnects.List()), "took", time.Since(began))
	a.notify(daemon.SdNotifyReady)
	for {
		changed := a.store.Changed()
		a.manager.Ready(a.store.Up() == nil)
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

func (a *Agent) closeLinux() {
	if err := a.linux.Close(); err != nil {
		a.log.Warn("network namespaces", "err", err)
	}
}

// notify tells systemd, where it asked for that.
func (a *Agent) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		a.log.Warn("systemd was not told", "state", state, "err", err)
	}
}

// readiness says why the agent is not ready, nil when it is.
func (a *Agent) readiness() error {
	if err := a.store.Up(); err != nil {
		return err
	}
	if !a.ready.Load() {
		return errors.New("the records are being read")
	}
	return nil
}

// ownNetns is the inode of the agent's network namespace, 0 if /proc is not there.
func ownNetns() uint64 {
	var st syscall.Stat_t
	if err := syscall.Stat("/proc/self/ns/net", &st); err != nil {
		return 0
	}
	return st.Ino
}
