package manager

import (
	"context"
	"time"
)

// orphaned is how long a connection that another agent has asked for stays while that
// agent does not know it: its request may still be under way there.
const orphaned = DefaultTimeout + 5*time.Second

// claim takes in whether the agent that has asked for a connection knows it. The agent may
// have died before it could put its half on record, or a close of its was lost.
// m.mu is held.
func (m *Manager) claim(id string, c *connection, url string, knows bool) {
	switch {
	case c.record.Request.Owner != ownerOf(url):
	case knows:
		m.claimed(c)
	case c.orphan == nil:
		c.orphan = time.AfterFunc(orphaned, func() { m.removeOrphan(id, c) })
	}
}

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
	ctx, cancel := context.WithTimeout(m.run, DefaultTimeout)
	defer cancel()
	unlock, err := m.ids.lock(ctx, id)
	if err != nil {
		return
	}
	defer unlock()
	m.mu.Lock()
	record := c.record
	if m.connections[id] != c || c.orphan == nil {
		m.mu.Unlock()
		return
	}
	c.orphan = nil
	m.mu.Unlock()
	if err := m.remove(ctx, record); err != nil {
		m.Log.Debug("a connection without its other half is left to expire", "connection", id, "err", err)
		return
	}
	m.Log.Info("connection closed, for the agent that asked for it does not know it", "connection", id, "peer", record.Request.Owner)
}
