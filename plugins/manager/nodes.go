package manager

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/store"
)

// nodes are the agents that are alive, as etcd has them: each holds its key on a lease.
type nodes struct {
	prefix string

	mu      sync.Mutex
	by      map[string]*models.Agent
	last    map[string]string // by node: where its agent was reached, also when it has gone
	changed chan struct{}     // closed and renewed at each change
	begin   sync.Once
	loaded  chan struct{} // closed once they have been read
}

// appear bounds the wait for an agent that calls, or that has restarted, to be heard of
// from etcd.
const appear = 2 * time.Second

func newNodes(keys models.Keys) *nodes {
	return &nodes{prefix: keys.Agents(), by: map[string]*models.Agent{}, last: map[string]string{}, changed: make(chan struct{}), loaded: make(chan struct{})}
}

// batch takes in what the watch delivers, and names the nodes that have come and gone.
func (n *nodes) batch(b store.Batch, log *slog.Logger) (come, gone []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	kept := map[string]bool{}
	for _, kv := range b.Puts {
		name, err := models.Name(n.prefix, kv.Key)
		if err != nil {
			continue
		}
		a, err := models.ParseAgent(kv.Value)
		if err != nil {
			log.Warn("an agent cannot be understood", "node", name, "err", err)
			continue
		}
		a.Node = name
		if n.by[name] == nil {
			log.Debug("node", "node", name, "url", a.Url, "addresses", a.Addresses)
			come = append(come, name)
		}
		n.by[name], n.last[name], kept[name] = a, a.Url, true
	}
	for _, key := range b.Deletes {
		if name, err := models.Name(n.prefix, key); err == nil && n.by[name] != nil {
			gone = append(gone, name)
		}
	}
	if b.Snapshot {
		for _, name := range slices.Sorted(maps.Keys(n.by)) {
			if !kept[name] {
				gone = append(gone, name)
			}
		}
	}
	for _, name := range gone {
		delete(n.by, name)
	}
	n.begin.Do(func() { close(n.loaded) })
	close(n.changed)
	n.changed = make(chan struct{})
	return come, gone
}

// get gives the agent of a node, nil if none is alive. Nobody may change it.
func (n *nodes) get(name string) *models.Agent {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.by[name]
}

// url is where the agent of a node is reached, or was until it went: it may be there and
// cut off from etcd.
func (n *nodes) url(name string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.last[name]
}

// await is get for an agent that is on its way; it waits for appear, or until ctx ends.
func (n *nodes) await(ctx context.Context, name string) *models.Agent {
	ctx, cancel := context.WithTimeout(ctx, appear)
	defer cancel()
	for {
		n.mu.Lock()
		a, changed := n.by[name], n.changed
		n.mu.Unlock()
		if a != nil {
			return a
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// followNodes watches the agents until the manager stops.
func (m *Manager) followNodes() {
	err := m.Store.Watch(m.run, m.Keys.Agents(), func(b store.Batch) {
		come, gone := m.nodes.batch(b, m.Log)
		for _, name := range gone {
			m.Log.Info("node has gone", "node", name)
		}
		if len(come) > 0 {
			m.nodesCame(come)
		}
	})
	if err != nil && m.run.Err() == nil {
		m.Log.Error("watch of the agents ended", "key", m.Keys.Agents(), "err", err)
	}
}

// Node gives the agent of a node, nil if none is alive. Nobody may change it.
func (m *Manager) Node(name string) *models.Agent { return m.nodes.get(name) }

// alive tells whether an endpoint's node is there.
func (m *Manager) alive(e *models.Endpoint) bool { return m.here(e) || m.nodes.get(e.Node) != nil }

// here tells whether an endpoint is on this node.
func (m *Manager) here(e *models.Endpoint) bool { return e.Node == "" || e.Node == m.Keys.Node }
