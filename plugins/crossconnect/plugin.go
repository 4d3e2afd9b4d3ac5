// Package crossconnect makes the node match its desired cross-connects: it watches the
// records, renders each into values for the engine and publishes the status of each.
package crossconnect

import (
	"bytes"
	"context"
	"log/slog"
	"sync"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/reconcile"
	"go.patchbay.dev/plugins/store"
)

// Store is what this room needs of plugins/store.
type Store interface {
	Watch(ctx context.Context, prefix string, fn func(store.Batch)) error
	List(ctx context.Context, prefix string) ([]store.KV, int64, error)
	Write(ctx context.Context, puts []store.KV, deletes []string) (int64, error)
}

// Engine is what this room needs of plugins/reconcile.
type Engine interface {
	Apply(changes ...reconcile.Change)
	Confirm(group string, was, revision int64) (reconcile.Status, bool)
	Start(ctx context.Context) error
}

// Event tells of one cross-connect whenever its record or its status has changed.
// Its messages are shared: nobody may change them.
type Event struct {
	ID       string
	Revision int64                      // of the record
	Desired  *models.CrossConnect       // the last valid record; nil: gone, or never valid
	Status   *models.CrossConnectStatus // nil: nothing of it is left
}

// Options of a Plugin.
type Options struct {
	Keys       models.Keys
	Store      Store
	Engine     Engine
	Mechanisms []Mechanism
	Joiner     Joiner // nil: this node's dataplane has no forwarder
	Log        *slog.Logger
}

// Plugin is the room at work. Its methods may be called at any time.
type Plugin struct {
	keys       models.Keys
	store      Store
	engine     Engine
	mechanisms map[string]Mechanism
	joiner     Joiner
	log        *slog.Logger
	statuses   *store.Mirror

	ready chan struct{} // closed once what is on record has been handed to the engine
	stop  context.CancelFunc
	done  sync.WaitGroup

	mu          sync.Mutex
	records     map[string]*record
	prepared    map[string]prepared // by id
	seen        int64               // the newest revision that the watch has delivered
	subscribers []func(Event)
	waiting     map[string]chan struct{}     // by id: closed at the next change
	said        []*models.CrossConnectStatus // changes of state that are still to be logged
}

// New makes a Plugin that does nothing until Start.
func New(o Options) *Plugin {
	p := &Plugin{
		keys:       o.Keys,
		store:      o.Store,
		engine:     o.Engine,
		mechanisms: map[string]Mechanism{},
		joiner:     o.Joiner,
		log:        o.Log,
		ready:      make(chan struct{}),
		records:    map[string]*record{},
		prepared:   map[string]prepared{},
		waiting:    map[string]chan struct{}{},
	}
	for _, m := range o.Mechanisms {
		p.mechanisms[m.Type()] = m
	}
	p.statuses = store.NewMirror(o.Store, o.Keys.Statuses(), p.tellStatus, o.Log)
	return p
}

// Subscribe has fn called with every event from now on, in order. It is called with the
// room locked: it must be quick and must not call back. Subscribe before Start.
func (p *Plugin) Subscribe(fn func(Event)) { p.subscribers = append(p.subscribers, fn) }

// Start begins to watch and returns at once; Ready tells when the first snapshot has
// been adopted.
func (p *Plugin) Start(ctx context.Context) error {
	ctx, p.stop = context.WithCancel(ctx)
	p.done.Go(func() {
		if err := p.store.Watch(ctx, p.keys.CrossConnects(), func(b store.Batch) { p.batch(ctx, b) }); err != nil && ctx.Err() == nil {
			p.log.Error("watch of the cross-connects ended", "err", err)
		}
	})
	p.done.Go(func() { p.statuses.Run(ctx) })
	return nil
}

// Stop ends the watch; what is programmed stays.
func (p *Plugin) Stop() {
	if p.stop != nil {
		p.stop()
	}
	p.done.Wait()
}

// Ready is closed once all records have been read and what matches them has been adopted.
func (p *Plugin) Ready() <-chan struct{} { return p.ready }

// batch takes in what the watch delivers: all records at first and after a gap, else
// the changes.
func (p *Plugin) batch(ctx context.Context, b store.Batch) {
	p.mu.Lock()
	var changes []reconcile.Change
	if b.Snapshot {
		kept := map[string]bool{}
		for _, kv := range b.Puts {
			kept[kv.Key] = true
		}
		for id, r := range p.records {
			if !r.deleted && !kept[p.keys.CrossConnect(id)] {
				changes = p.remove(changes, id, b.Revision)
			}
		}
	}
	for _, kv := range b.Puts {
		changes = p.put(changes, kv)
	}
	p.seen = max(p.seen, b.Revision)
	for _, key := range b.Deletes {
		if id, err := models.Name(p.keys.CrossConnects(), key); err == nil {
			changes = p.remove(changes, id, b.Revision)
			p.wake(id)
		}
	}
	// Handed over under the lock, so that the engine sees revisions in their order.
	p.engine.Apply(changes...)
	if b.Snapshot {
		for id := range p.waiting {
			p.wake(id)
		}
	}
	p.unlock()
	if b.Snapshot {
		p.begin(ctx)
	}
}

// begin lets the engine look and act, once the first snapshot has been handed to it.
func (p *Plugin) begin(ctx context.Context) {
	select {
	case <-p.ready:
		return
	default:
	}
	if err := p.engine.Start(ctx); err != nil {
		if ctx.Err() == nil {
			p.log.Error("the engine did not start", "err", err)
		}
		return
	}
	p.statuses.TouchAll() // some are of records that were deleted while the agent was away
	close(p.ready)
}

func (p *Plugin) put(changes []reconcile.Change, kv store.KV) []reconcile.Change {
	id, err := models.Name(p.keys.CrossConnects(), kv.Key)
	if err != nil {
		p.log.Warn("a key that is no record", "key", kv.Key, "err", err)
		return changes
	}
	r := p.records[id]
	if r == nil {
		r = &record{}
		p.records[id] = r
	}
	if kv.Revision <= r.revision && !r.deleted {
		return changes // known: a snapshot repeats what did not change
	}
	r.revision, r.deleted, r.ending, r.invalid, r.refused = kv.Revision, false, false, "", nil
	x, values, begun, err := p.read(id, kv.Value)
	if err != nil {
		r.refused = kv.Value
		p.refuse(id, r, err)
		return changes
	}
	r.desired = x
	p.notify(id, r) // first: some want from the engine what a record is the first to need
	if begun {
		if s, ok := p.engine.Confirm(id, provisional, kv.Revision); ok {
			if s.State != reconcile.Applying {
				p.answered(id, r, s)
			}
			return changes
		}
	}
	return append(changes, reconcile.Change{Group: id, Revision: kv.Revision, Values: values})
}

// refuse answers a record that is not valid: what was programmed before stays, and the status
// says what is wrong.
func (p *Plugin) refuse(id string, r *record, err error) {
	r.invalid = err.Error()
	r.settled = r.revision
	p.update(id, r)
}

func (p *Plugin) remove(changes []reconcile.Change, id string, revision int64) []reconcile.Change {
	r := p.records[id]
	if r == nil || r.deleted {
		return changes
	}
	r.deleted, r.revision, r.invalid = true, revision, ""
	if r.desired == nil {
		p.gone(id, r) // it was never valid, so nothing of it is programmed
		return changes
	}
	return append(changes, reconcile.Change{Group: id, Revision: revision})
}

// read is parse, unless the record is the one that was prepared; begun tells whether the
// engine has it already. p.mu is held.
func (p *Plugin) read(id string, data []byte) (x *models.CrossConnect, values []reconcile.Value, begun bool, err error) {
	if r, ok := p.prepared[id]; ok && bytes.Equal(r.data, data) {
		delete(p.prepared, id)
		return r.x, r.values, r.begun, nil
	}
	x, values, err = p.parse(id, data)
	return x, values, false, err
}

// parse reads and checks a record and renders it.
func (p *Plugin) parse(id string, data []byte) (*models.CrossConnect, []reconcile.Value, error) {
	x := &models.CrossConnect{}
	if err := models.Unmarshal(data, x); err != nil {
		return nil, nil, err
	}
	if err := models.OfKey("id", &x.Id, id); err != nil {
		return nil, nil, err
	}
	values, err := p.Render(x)
	return x, values, err
}
