package manager

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"google.golang.org/protobuf/proto"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/store"
)

// directory is the registry in memory: network services and endpoints as etcd has them, and
// the bridges that answer network services themselves.
type directory struct {
	keys models.Keys

	mu        sync.Mutex
	services  map[string]*models.Service
	endpoints map[string]*models.Endpoint
	byService map[string][]*models.Endpoint // in the order of their names
	bridges   map[string]*models.Endpoint   // by the network service that they answer
	seen      map[string]int64              // by prefix: the newest revision delivered
	changed   chan struct{}                 // closed and renewed at each change
	watchers  map[chan Change]struct{}
	loaded    chan struct{} // closed once both prefixes have been read
}

// Change is one service or endpoint that came, changed or went; what went is as it was last.
type Change struct {
	Service  *models.Service
	Endpoint *models.Endpoint
	Deleted  bool
}

func newDirectory(keys models.Keys) *directory {
	return &directory{
		keys:      keys,
		services:  map[string]*models.Service{},
		endpoints: map[string]*models.Endpoint{},
		byService: map[string][]*models.Endpoint{},
		bridges:   map[string]*models.Endpoint{},
		seen:      map[string]int64{},
		changed:   make(chan struct{}),
		watchers:  map[chan Change]struct{}{},
		loaded:    make(chan struct{}),
	}
}

// batch takes in what the watch of one prefix delivers.
func (d *directory) batch(prefix string, b store.Batch, log *slog.Logger) {
	d.mu.Lock()
	defer d.mu.Unlock()
	kept := map[string]bool{}
	for _, kv := range b.Puts {
		name, err := models.Name(prefix, kv.Key)
		if err != nil {
			log.Warn("a key that is no record", "key", kv.Key, "err", err)
			continue
		}
		kept[name] = true
		if err := d.put(prefix, name, kv.Value); err != nil {
			// What was valid before stays, as with every record.
			log.Warn("registry record refused", "key", kv.Key, "err", clean(err))
		}
	}
	for _, key := range b.Deletes {
		if name, err := models.Name(prefix, key); err == nil {
			d.remove(prefix, name)
		}
	}
	if b.Snapshot {
		for _, name := range d.names(prefix) {
			if !kept[name] {
				d.remove(prefix, name)
			}
		}
	}
	if _, again := d.seen[prefix]; !again && len(d.seen) == 1 {
		close(d.loaded)
	}
	d.seen[prefix] = max(d.seen[prefix], b.Revision)
	close(d.changed)
	d.changed = make(chan struct{})
}

func (d *directory) put(prefix, name string, data []byte) error {
	if prefix == d.keys.Services() {
		s := &models.Service{}
		if err := models.Unmarshal(data, s); err != nil {
			return err
		}
		other := models.OfKey("name", &s.Name, name)
		if err := errors.Join(models.ValidateService(s), other); err != nil {
			return err
		}
		if !proto.Equal(s, d.services[name]) {
			d.services[name] = s
			d.tell(Change{Service: s})
		}
		return nil
	}
	e := &models.Endpoint{}
	if err := models.Unmarshal(data, e); err != nil {
		return err
	}
	other := models.OfKey("name", &e.Name, name)
	if err := errors.Join(models.ValidateEndpoint(e), other); err != nil {
		return err
	}
	if proto.Equal(e, d.endpoints[name]) {
		return nil
	}
	d.unlink(d.endpoints[name])
	d.endpoints[name] = e
	for _, s := range e.Services {
		list := d.byService[s]
		i, _ := slices.BinarySearchFunc(list, e.Name, byName)
		// A copy: readers hold the old slice without the lock.
		d.byService[s] = slices.Insert(slices.Clone(list), i, e)
	}
	d.tell(Change{Endpoint: e})
	return nil
}

func (d *directory) remove(prefix, name string) {
	if prefix == d.keys.Services() {
		if s := d.services[name]; s != nil {
			delete(d.services, name)
			if d.bridges[name] != nil {
				d.tell(Change{Service: bridged(name)})
			} else {
				d.tell(Change{Service: s, Deleted: true})
			}
		}
		return
	}
	if e := d.endpoints[name]; e != nil {
		delete(d.endpoints, name)
		d.unlink(e)
		d.tell(Change{Endpoint: e, Deleted: true})
	}
}

// unlink takes an endpoint out of the index by service.
func (d *directory) unlink(e *models.Endpoint) {
	for _, s := range e.GetServices() {
		list := slices.DeleteFunc(slices.Clone(d.byService[s]), func(o *models.Endpoint) bool { return o == e })
		if len(list) == 0 {
			delete(d.byService, s)
		} else {
			d.byService[s] = list
		}
	}
}

func byName(e *models.Endpoint, name string) int { return cmp.Compare(e.Name, name) }

func (d *directory) names(prefix string) []string {
	if prefix == d.keys.Services() {
		return slices.Collect(maps.Keys(d.services))
	}
	return slices.Collect(maps.Keys(d.endpoints))
}

// registered gives a network service as it was registered, nil if it was not.
func (d *directory) registered(name string) *models.Service {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.services[name]
}

// service gives a network service, nil if there is none, and its endpoints: a bridge first.
func (d *directory) service(name string) (*models.Service, []*models.Endpoint) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s, all := d.services[name], d.byService[name]
	if e := d.bridges[name]; e != nil {
		if s == nil {
			s = bridged(name)
		}
		all = append([]*models.Endpoint{e}, all...)
	}
	return s, all
}

// serviceNames gives every name that can be asked for.
func (d *directory) serviceNames() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := slices.AppendSeq(slices.Collect(maps.Keys(d.services)), maps.Keys(d.byService))
	names = slices.AppendSeq(names, maps.Keys(d.bridges))
	slices.Sort(names)
	return slices.Compact(names)
}

func (d *directory) endpoint(name string) *models.Endpoint {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.endpoints[name]
}

// all gives the endpoints in any order.
func (d *directory) all() []*models.Endpoint {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Collect(maps.Values(d.endpoints))
}

// await waits until the watch of prefix has delivered revision.
func (d *directory) await(ctx context.Context, prefix string, revision int64) error {
	for {
		d.mu.Lock()
		seen, changed := d.seen[prefix], d.changed
		d.mu.Unlock()
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

// backlog is how many changes a watcher may lag behind before it is cut off.
const backlog = 1024

// watch gives everything that is there and, on the channel, each change after it. The
// channel is closed when the watcher is too slow. End it with unwatch.
func (d *directory) watch() ([]*models.Service, []*models.Endpoint, chan Change) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := make(chan Change, backlog)
	d.watchers[c] = struct{}{}
	s, e := d.list()
	return s, e, c
}

// list gives all services and endpoints in the order of their names. d.mu is held.
func (d *directory) list() ([]*models.Service, []*models.Endpoint) {
	services := slices.Collect(maps.Values(d.services))
	endpoints := slices.AppendSeq(slices.Collect(maps.Values(d.endpoints)), maps.Values(d.bridges))
	for name := range d.bridges {
		if d.services[name] == nil {
			services = append(services, bridged(name))
		}
	}
	slices.SortFunc(services, func(a, b *models.Service) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(endpoints, func(a, b *models.Endpoint) int { return cmp.Compare(a.Name, b.Name) })
	return services, endpoints
}

func (d *directory) unwatch(c chan Change) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.watchers, c)
}

// tell passes a change on. d.mu is held.
func (d *directory) tell(c Change) {
	for w := range d.watchers {
		select {
		case w <- c:
		default:
			delete(d.watchers, w)
			close(w)
		}
	}
}

// WatchRegistry gives what is registered, in the order of the names, and every change
// after it. The channel is closed when the reader is too slow; stop ends the watch.
func (m *Manager) WatchRegistry() (services []*models.Service, endpoints []*models.Endpoint, changes <-chan Change, stop func()) {
	s, e, c := m.registry.watch()
	return s, e, c, func() { m.registry.unwatch(c) }
}

// Candidates names the endpoints that a client with these labels would be sent to, in order.
func (m *Manager) Candidates(service string, labels map[string]string) ([]*models.Endpoint, error) {
	return m.candidates(service, labels, "", "", false)
}
