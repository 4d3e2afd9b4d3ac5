package manager

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/store"
)

// ownerEtcd owns the connections of durable requests.
const ownerEtcd = "etcd"

// durables are this node's durable requests. Each is kept by a goroutine of its own, which
// asks as a client would: at first, when the request has changed, to refresh, and when the
// connection has gone.
type durables struct {
	m *Manager

	mu sync.Mutex // taken after the manager's
	by map[string]*durable

	statuses *store.Mirror
}

// durable is one of them.
type durable struct {
	spec     *models.Connection // the last valid one; nil: there was none, or it is deleted
	revision int64              // of the newest record
	invalid  string             // why the newest is not valid
	failed   string             // why it is not connected as it asks
	tries    int                // that failed, one after the other
	gone     bool               // the record is deleted
	wake     chan struct{}      // of size one: look again now
}

func newDurables(m *Manager) *durables {
	d := &durables{m: m, by: map[string]*durable{}}
	d.statuses = store.NewMirror(m.Store, m.Keys.ConnectionStatuses(), d.tell, m.Log)
	return d
}

// run watches the records, once it is known what connections there are.
func (d *durables) run() {
	select {
	case <-d.m.ready:
	case <-d.m.run.Done():
		return
	}
	prefix := d.m.Keys.Connections()
	err := d.m.Store.Watch(d.m.run, prefix, d.batch)
	if err != nil && d.m.run.Err() == nil {
		d.m.Log.Error("watch of the durable requests ended", "key", prefix, "err", err)
	}
}

func (d *durables) batch(b store.Batch) {
	kept := map[string]bool{}
	for _, kv := range b.Puts {
		id, err := models.Name(d.m.Keys.Connections(), kv.Key)
		if err != nil {
			d.m.Log.Warn("a key that is no record", "key", kv.Key, "err", err)
			continue
		}
		kept[id] = true
		d.put(id, kv)
	}
	for _, key := range b.Deletes {
		if id, err := models.Name(d.m.Keys.Connections(), key); err == nil {
			d.remove(id)
		}
	}
	if !b.Snapshot {
		return
	}
	for _, id := range d.ids() {
		if !kept[id] {
			d.remove(id)
		}
	}
	d.statuses.TouchAll() // some are of requests that were deleted while the agent was away
}

// ids are those of the records that were there, and of the connections made for one.
func (d *durables) ids() (ids []string) {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	for id, c := range d.m.connections {
		if c.record.Request.Owner == ownerEtcd {
			ids = append(ids, id)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for id := range d.by {
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// at gives a durable request, with its keeper. d.mu is held.
func (d *durables) at(id string) *durable {
	k := d.by[id]
	if k == nil {
		k = &durable{wake: make(chan struct{}, 1)}
		d.by[id] = k
		d.m.done.Go(func() { d.keep(id, k) })
	}
	return k
}

func (d *durables) put(id string, kv store.KV) {
	spec, err := d.parse(id, kv.Value)
	d.mu.Lock()
	defer d.mu.Unlock()
	k := d.at(id)
	if kv.Revision == k.revision && !k.gone {
		return // a snapshot repeats what did not change
	}
	k.revision, k.gone, k.invalid, k.tries = kv.Revision, false, "", 0
	if err != nil {
		// What was connected before stays; the status says what is wrong.
		k.invalid = clean(err)
		d.m.Log.Warn("durable request refused", "connection", id, "err", err)
	} else {
		k.spec = spec
	}
	k.look()
	d.statuses.Touch(id)
}

func (d *durables) remove(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	k := d.at(id)
	k.spec, k.gone, k.tries = nil, true, 0
	k.look()
}

// look has the keeper look now.
func (k *durable) look() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// parse reads and checks a record.
func (d *durables) parse(id string, data []byte) (*models.Connection, error) {
	c := &models.Connection{}
	if err := models.Unmarshal(data, c); err != nil {
		return nil, err
	}
	if err := models.OfKey("id", &c.Id, id); err != nil {
		return nil, err
	}
	return c, d.m.CheckConnection(c)
}

// keep looks after one durable request until it is deleted and nothing is left of it.
func (d *durables) keep(id string, k *durable) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-k.wake:
		case <-timer.C:
		case <-d.m.run.Done():
			return
		}
		d.mu.Lock()
		spec, revision, gone := k.spec, k.revision, k.gone
		if k.invalid != "" {
			revision = 0 // what is kept is as it was
		}
		d.mu.Unlock()
		var err error
		switch {
		case gone:
			err = d.m.closeDurable(id)
		case spec != nil:
			err = d.m.requestDurable(spec, revision)
		}
		again, ended := d.tried(id, k, gone, err)
		if ended {
			return
		}
		timer.Reset(again)
	}
}

// tried takes in what has become of a try, to close what is gone or to keep it, and gives the
// pause before the next.
func (d *durables) tried(id string, k *durable, gone bool, err error) (again time.Duration, ended bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.statuses.Touch(id)
	if err != nil {
		k.failed = clean(err)
		k.tries++
		h := healing{tries: k.tries}
		again = h.pause(healPause)
		d.m.Log.Warn("durable request", "connection", id, "err", k.failed, "again", again)
		return again, false
	}
	k.failed, k.tries = "", 0
	if gone && k.gone { // else it was deleted, or came again, meanwhile
		delete(d.by, id)
		return 0, true
	}
	// As NSM's clients: three times in a connection's life, and not all at once.
	return time.Duration((0.9 + 0.2*rand.Float64()) * float64(DefaultLifetime/3)), false
}

// endpointCame has those tried at once that could not be connected. The manager's mu is held.
func (d *durables) endpointCame(e *models.Endpoint) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, k := range d.by {
		if k.failed != "" && slices.Contains(e.Services, k.spec.GetNetworkService()) {
			k.look()
		}
	}
}

// pinned tells whether a durable request names its endpoint.
func (d *durables) pinned(id string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.by[id] != nil && d.by[id].spec.GetEndpoint() != ""
}

// lost has the connection asked for anew that has gone. The manager's mu is held.
func (d *durables) lost(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if k := d.by[id]; k != nil {
		k.look()
		d.statuses.Touch(id)
	}
}
