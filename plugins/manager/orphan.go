package manager

import (
	"context"
	"time"
)

// orphaned is how long a connection that another agent has asked for stays while that
// agent does not know it: its request may still be under way there.
const orphaned = DefaultTimeout + 5*time.Second

// claim takes in whether the agent that has asked for a connection knows it, when it was asked
// for all that it knows at the time since. The agent may have died before it could put its half
// on record, or a close of its was lost. Requests under way are among what it knows, so that
// what it had asked for before then, and does not know, is nobody's. m.mu is held.
func (m *Manager) claim(id string, c *connection, url string, knows bool, since time.Time) {
	switch {
	case c.record.Request.Owner != ownerOf(url):
	case knows:
		m.claimed(c)
	case c.orphan == nil:
		wait := orphaned
		if c.asked.Before(since) {
			wait = 0
		}
		c.orphan = time.AfterFunc(wait, func() { m.removeOrphan(id, c) })
	}
}

// asks notes that a request to another node is under way, until done: what it leads to there
// may not be on record here yet. The id is that of the record there.
func (m *Manager) asks(url, id string) (done func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := asking{url, id}
	m.asking[a]++
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.asking[a]--; m.asking[a] == 0 {
			delete(m.asking, a)
		}
	}
}

// asking is a request to the agent at a URL for the connection with that id of its.
type asking struct{ url, id string }

// claimed notes that nobody has to ask for the connection any more. m.mu is held.
func (m *Manager) claimed(c *connection) {
	if c.orphan != nil {
		c.orphan.Stop()
		c.orphan = nil
	}
}

// ownerOf is the owner of what the agent at a URL has asked for.
func ownerOf(url string) string {
	if node, ok := nodeOf(url); ok {
		return nodeOwner(node)
	}
	return ""
}

// removeOrphan closes this node's half of a connection of which the other half is nowhere.
func (m *Manager) removeOrphan(id string, c *connection) {
	unlock, err := m.ids.lock(m.run, id)
	if err != nil {
		return
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(m.run, DefaultTimeout)
	defer cancel()
	m.mu.Lock()
	record := c.record
	wanted := m.connections[id] != c || c.orphan == nil
	m.mu.Unlock()
	if wanted {
		return
	}
	if err := m.remove(ctx, record); err != nil {
		m.Log.Debug("a connection without its other half is closed later", "connection", id, "err", err)
		m.mu.Lock()
		if c.orphan != nil && m.run.Err() == nil {
			c.orphan.Reset(reconnect)
		}
		m.mu.Unlock()
		return
	}
	m.Log.Info("connection closed, for the agent that asked for it does not know it", "connection", id, "peer", record.Request.Owner)
}
