package bridge

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/reconcile"
	"go.patchbay.dev/plugins/store"
)

// Store is what this room needs of plugins/store.
type Store interface {
	Watch(ctx context.Context, prefix string, fn func(store.Batch)) error
	Get(ctx context.Context, key string) (store.KV, error)
	List(ctx context.Context, prefix string) ([]store.KV, int64, error)
	Write(ctx context.Context, puts []store.KV, deletes []string) (int64, error)
	WriteIf(ctx context.Context, same, puts []store.KV, deletes []string) (int64, error)
}

// Engine is what this room needs of plugins/reconcile.
type Engine interface {
	Apply(changes ...reconcile.Change)
}

// Records is what this room asks of those who keep the cross-connects.
type Records interface {
	// Again renders records once more.
	Again(ids ...string)
	// Note has the status say why a cross-connect carries nothing; empty: it does.
	Note(id, why string)
}

// Node is what a bridge must know of its node now.
type Node struct {
	Addresses []netip.Addr   // that tunnels can end at, best first
	Underlay  int            // MTU of what is between the nodes, bytes; 0: not known
	Subnets   []netip.Prefix // of the node's own interfaces
}

// Options of a Plugin.
type Options struct {
	Keys      models.Keys
	Store     Store
	Engine    Engine
	Records   Records
	Dataplane func() Dataplane // that makes the node's bridges
	Node      func() Node
	Tunnels   []string                         // mechanisms that lead to other nodes
	Serves    func(services map[string]string) // is told which bridge answers which network service, at each change; may be nil
	Log       *slog.Logger
}

// Plugin is the room at work. Its methods may be called at any time.
type Plugin struct {
	Options
	statuses *store.Mirror

	run  context.Context // ends when the room stops
	stop context.CancelFunc
	done sync.WaitGroup
	read chan struct{} // closed once the bridges on record are known

	mu       sync.Mutex
	bridges  map[string]*bridge
	services map[string]string   // bridge by the network service that it answers
	of       map[string]onRecord // by the id of a member
	claims   map[string]map[string]*claim
	revision int64         // the newest that the watch has delivered
	changed  chan struct{} // closed and renewed when it grows
	node     Node
}

// onRecord is a member as its cross-connect has it.
type onRecord struct {
	bridge string
	has    *models.Member
	fault  string // how it is, if it is not UP
}

// bridge is what this room knows of one bridge.
type bridge struct {
	name              string
	revision, created int64
	record            *models.Bridge // the newest that is valid by itself; nil: there is none
	desired           *models.Bridge // the last that was valid here; nil: there was none
	invalid           string         // why the newest is not valid
	deleted           bool           // there was a record
	members           map[string]bool
	mesh              *mesh // nil: this node has no member
	engine            reconcile.Status
	status            *models.BridgeStatus
}

// wanted is the record that counts; nil if there is none.
func (b *bridge) wanted() *models.Bridge {
	if b == nil {
		return nil
	}
	return b.desired
}

// New makes a Plugin that does nothing until Start.
func New(o Options) *Plugin {
	if o.Serves == nil {
		o.Serves = func(map[string]string) {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	p := &Plugin{Options: o, read: make(chan struct{}), changed: make(chan struct{}), bridges: map[string]*bridge{}, services: map[string]string{},
		of: map[string]onRecord{}, claims: map[string]map[string]*claim{}}
	p.statuses = store.NewMirror(o.Store, o.Keys.BridgeStatuses(), p.tellStatus, o.Log)
	p.run, p.stop = context.WithCancel(context.Background())
	return p
}

// Start begins to watch the bridges and returns at once.
func (p *Plugin) Start(context.Context) error {
	p.done.Go(func() {
		if err := p.Store.Watch(p.run, p.Keys.Bridges(), p.batch); err != nil && p.run.Err() == nil {
			p.Log.Error("watch of the bridges ended", "err", err)
		}
	})
	p.done.Go(func() { p.statuses.Run(p.run) })
	return nil
}

// Stop ends what this room watches; what is programmed stays.
func (p *Plugin) Stop() {
	p.stop()
	p.done.Wait()
}

// Load waits until all is known of the bridges of the members on record, and has been handed
// to the engine: what it is not told of before it starts, it removes.
func (p *Plugin) Load(ctx context.Context) error {
	wait := func(c <-chan struct{}) error {
		select {
		case <-c:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := wait(p.read); err != nil {
		return err
	}
	p.mu.Lock()
	var loading []<-chan struct{}
	for _, b := range p.bridges {
		if b.mesh != nil {
			loading = append(loading, b.mesh.loaded)
		}
	}
	p.mu.Unlock()
	for _, c := range loading {
		if err := wait(c); err != nil {
			return err
		}
	}
	p.mu.Lock()
	var all []*bridge
	for _, b := range p.bridges {
		all = append(all, b)
	}
	p.mu.Unlock()
	p.again(all) // some were rendered before all of it was known

	p.statuses.TouchAll() // some are of bridges whose last member went while the agent was away
	return nil
}

// Await waits until this room knows the bridges as of a revision.
func (p *Plugin) Await(ctx context.Context, revision int64) error {
	for {
		p.mu.Lock()
		seen, changed := p.revision, p.changed
		p.mu.Unlock()
		if seen >= revision {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Changed takes in what is on record of a cross-connect, nil: nothing any more, and what has
// become of it, nil: nothing is left. It is quick and calls no one back.
func (p *Plugin) Changed(id string, desired *models.CrossConnect, status *models.CrossConnectStatus) {
	name := models.BridgeOf(desired)
	if desired == nil && status != nil {
		return // it was never valid
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.of[id].bridge
	if old != "" && old != name {
		p.leave(p.bridges[old], id)
	}
	if name == "" {
		return
	}
	p.of[id] = onRecord{name, p.memberOf(desired), fault(status)}
	b := p.bridge(name)
	switch {
	case old != name:
		p.join(b, id)
		if p.run.Err() == nil { // it was rendered before, by what was known then
			p.done.Go(func() { p.Records.Again(id) })
		}
	case b.wanted().GetUplink() == id:
		p.tell(b)
	}
}

// fault says how a cross-connect is that is not UP; empty: it is.
func fault(s *models.CrossConnectStatus) string {
	switch {
	case s.GetState() == models.State_UP:
		return ""
	case s.GetReason() == "":
		return s.GetState().String()
	}
	return s.State.String() + ": " + s.Reason
}

// memberOf is what a record has its member take.
func (p *Plugin) memberOf(x *models.CrossConnect) *models.Member {
	m := &models.Member{Node: p.Keys.Node, Connection: x.Id, Mac: p.macOf(x.Id), Addresses: x.Client.Addresses}
	if mac, err := net.ParseMAC(x.Client.Mac); err == nil {
		m.Mac = mac.String()
	}
	return m
}

// bridge gives what is known of a bridge, which may be nothing yet. p.mu is held.
func (p *Plugin) bridge(name string) *bridge {
	b := p.bridges[name]
	if b == nil {
		b = &bridge{name: name, members: map[string]bool{}}
		p.bridges[name] = b
	}
	return b
}

// join takes in a member; the first makes the bridge on this node. p.mu is held.
func (p *Plugin) join(b *bridge, id string) {
	b.members[id] = true
	if b.mesh == nil {
		p.enter(b)
		p.apply(b)
	}
	p.tell(b)
}

// leave lets a member go; with the last the bridge goes from this node. p.mu is held.
func (p *Plugin) leave(b *bridge, id string) {
	delete(p.of, id)
	delete(b.members, id)
	if len(b.members) == 0 {
		b.mesh.leave()
		b.mesh = nil
		p.Engine.Apply(reconcile.Change{Group: group(b.name), Revision: b.revision})
		p.forget(b)
	}
	p.tell(b)
}

// forget drops what nobody asks for any more. p.mu is held.
func (p *Plugin) forget(b *bridge) {
	if b.mesh == nil && b.record == nil && b.invalid == "" {
		delete(p.bridges, b.name)
	}
}

// Refresh looks at the node anew: its tunnel addresses or its dataplane may have changed.
func (p *Plugin) Refresh() {
	now := p.Node()
	p.mu.Lock()
	if slices.Equal(now.Addresses, p.node.Addresses) && now.Underlay == p.node.Underlay && slices.Equal(now.Subnets, p.node.Subnets) {
		p.mu.Unlock()
		return
	}
	p.node = now
	p.mu.Unlock()
	p.Rebuild()
}

// Rebuild renders all bridges and their members anew.
func (p *Plugin) Rebuild() {
	p.mu.Lock()
	again := p.review()
	for _, b := range p.bridges {
		if b.mesh != nil {
			p.apply(b)
			p.tell(b)
			again = append(again, b)
		}
	}
	p.mu.Unlock()
	p.again(again)
}

// again has the members of bridges rendered anew, and told why they carry nothing.
func (p *Plugin) again(bridges []*bridge) {
	for _, b := range bridges {
		p.mu.Lock()
		var ids []string
		for id := range b.members {
			ids = append(ids, id)
		}
		note := ""
		if b.desired == nil && b.deleted {
			note = "its bridge " + b.name + " was deleted: apply it again, or delete this"
		}
		p.mu.Unlock()
		p.Records.Again(ids...)
		for _, id := range ids {
			p.Records.Note(id, note)
		}
	}
}

// group is the engine's name of what a bridge is on this node; no cross-connect has a slash.
func group(name string) string { return groupPrefix + name }

const groupPrefix = "bridge/"
