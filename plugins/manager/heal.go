package manager

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"

	"go.patchbay.dev/models"
)

// How a connection that has lost its endpoint is healed: at once, but for what an endpoint
// takes to come back, or a client that monitors to act by itself; then with pauses that
// double. Whatever was well for stable begins anew.
const (
	healSettle   = 200 * time.Millisecond
	healPatience = 500 * time.Millisecond
	healPause    = time.Second
	healMost     = 30 * time.Second
	healStable   = time.Minute
	maxHealing   = 64 // at the same time
)

// healing is what this room does about the loss of one connection's endpoint.
type healing struct {
	timer  *time.Timer
	tries  int       // since it was last well for long
	well   time.Time // since when it is; zero: it is not, or was never lost
	failed string    // why the last try did not succeed
}

func (h *healing) stop() {
	if h.timer != nil {
		h.timer.Stop()
		h.timer = nil
	}
}

func (h *healing) recovered() {
	h.stop()
	h.well, h.failed = time.Now(), ""
}

// pause before the next try, with jitter.
func (h *healing) pause(first time.Duration) time.Duration {
	d := first
	if h.tries > 0 {
		d = min(healPause<<min(h.tries-1, 10), healMost)
	}
	return d + time.Duration(rand.Float64()*0.2*float64(d))
}

// heal has a connection healed soon, if this agent is the one to do it: it chooses the
// endpoints of the node's own clients. m.mu is held.
func (m *Manager) heal(id string, c *connection) {
	m.explain(id)
	if c.healing.timer != nil || m.run.Err() != nil || m.goes(id) || strings.HasPrefix(c.record.Request.Owner, ownerNode) {
		return
	}
	if !c.healing.well.IsZero() && time.Since(c.healing.well) > healStable {
		c.healing.tries = 0
	}
	c.healing.well = time.Time{}
	first := healSettle
	switch {
	case m.watched(c):
		first = healPatience
	case m.links.lost(c.record.Request.EndpointUrl) != "":
		first = 0 // it has been waited for already
	}
	c.healing.timer = time.AfterFunc(c.healing.pause(first), func() { m.healNow(id, c) })
}

// watched tells whether a client hears of a connection by itself. m.mu is held.
func (m *Manager) watched(c *connection) bool {
	e := c.event()
	for w := range m.monitors {
		if w.agent == nil && e != nil && w.sees(c.record.Request, e) {
			return true
		}
	}
	return false
}

// healNow finds another endpoint for a connection and connects it, as its client would.
func (m *Manager) healNow(id string, c *connection) {
	select {
	case m.heals <- struct{}{}:
		defer func() { <-m.heals }()
	case <-m.run.Done():
		return
	}
	ctx, cancel := context.WithTimeout(m.run, DefaultTimeout)
	defer cancel()
	unlock, err := m.ids.lock(ctx, id)
	if err != nil { // a request for it takes long
		m.mu.Lock()
		defer m.mu.Unlock()
		m.healAgain(id, c)
		return
	}
	defer unlock()
	defer m.releaseHeld(id)
	m.mu.Lock()
	if m.connections[id] != c || m.goes(id) || c.lost == "" && !c.leave {
		c.healing.stop()
		m.mu.Unlock()
		return // gone, or well
	}
	why, began := c.lost, time.Now()
	c.healing.tries++
	r := m.again(c)
	m.mu.Unlock()
	r.conn.State = networkservice.State_RESELECT_REQUESTED
	out, err := m.connect(ctx, r)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		c.healing.failed = clean(err)
	}
	m.healAgain(id, c)
	switch {
	case m.connections[id] != c:
	case err == nil:
		m.Log.Info("connection healed", "connection", id, "service", out.NetworkService, "endpoint", out.NetworkServiceEndpointName, "lost", why, "took", time.Since(began))
	default:
		m.Log.Warn("connection cannot be healed", "connection", id, "lost", why, "tries", c.healing.tries, "err", c.healing.failed)
	}
}

// healAgain has a connection healed that is lost still, or again. m.mu is held.
func (m *Manager) healAgain(id string, c *connection) {
	c.healing.stop()
	if m.connections[id] == c && (c.lost != "" || c.leave) {
		m.heal(id, c)
	}
}

// again makes the request for a connection on record once more, for its owner.
// m.mu is held.
func (m *Manager) again(c *connection) *request {
	r := &request{peer: peer{as: c.record.Request.Owner}, id: c.record.Id, conn: c.conn.Clone(), record: c.record, known: c.conn,
		insist: true, revision: c.record.Request.Revision}
	r.index = int(r.conn.Path.Index)
	r.wants = []want{{nsm: c.conn.GetMechanism(), record: c.record.Client.Mechanism}}
	r.told = cmp.Or(c.record.Request.Told, c.conn.NetworkServiceEndpointName)
	r.pinned = m.durables.pinned(c.record.Id)
	enter(r.conn, r.index, m.Keys.Node, r.known)
	return r
}

// explain has the status say why a connection carries nothing, or not any more.
func (m *Manager) explain(id string) {
	if m.run.Err() != nil {
		return
	}
	m.done.Go(func() {
		m.notes.Lock() // one after another, so that the last is the newest
		defer m.notes.Unlock()
		m.mu.Lock()
		note := ""
		if c := m.connections[id]; c != nil && c.lost != "" {
			note = c.lost
			if c.healing.failed != "" {
				note += "; it could not be healed: " + c.healing.failed
			}
		}
		m.mu.Unlock()
		m.Records.Note(id, note)
	})
}

// followEndpoints has what could not be connected tried at once when an endpoint of the
// network service has come.
func (m *Manager) followEndpoints() {
	for m.run.Err() == nil {
		_, _, changes := m.registry.watch()
		m.follow(m.run, changes, func(c Change) error {
			if c.Endpoint != nil && !c.Deleted {
				m.endpointCame(c.Endpoint)
			}
			return nil
		})
		m.registry.unwatch(changes)
	}
}

// nodesCame does the same when nodes have come, with endpoints that were there before.
func (m *Manager) nodesCame(names []string) {
	for _, e := range m.registry.all() {
		if slices.Contains(names, e.Node) {
			m.endpointCame(e)
		}
	}
}

func (m *Manager) endpointCame(e *models.Endpoint) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.connections {
		if c.healing.timer != nil && c.healing.failed != "" && slices.Contains(e.Services, c.record.NetworkService) {
			c.healing.timer.Reset(healSettle)
		}
	}
	m.durables.endpointCame(e)
}
