package manager

import (
	"context"
	"time"
)

// expire closes a connection that was not refreshed in time.
func (m *Manager) expire(id string) {
	if m.run.Err() != nil {
		return
	}
	unlock, err := m.ids.lock(m.run, id) // however long a request takes: nobody comes again
	if err != nil {
		return
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(m.run, DefaultTimeout)
	defer cancel()
	m.mu.Lock()
	c := m.connections[id]
	if c == nil || time.Until(c.record.Request.Expires.AsTime()) > 0 {
		m.mu.Unlock() // closed or refreshed while this waited
		return
	}
	if away := m.Store.Up() != nil; away || c.spared {
		wait := grace
		if c.spared = away; away {
			wait = reconnect
		}
		c.timer.Reset(wait)
		m.mu.Unlock()
		return
	}
	record := c.record
	m.mu.Unlock()
	if err := m.remove(ctx, record); err != nil {
		m.Log.Debug("expired connection is closed later", "connection", id, "err", err)
		c.timer.Reset(reconnect)
		return
	}
	m.Log.Info("connection expired", "connection", id, "service", record.NetworkService)
}

// spare has a connection that its client could not refresh now, for etcd is away, last for a
// while after that is back.
func (m *Manager) spare(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := m.connections[id]; c != nil {
		c.spared = true
	}
}
