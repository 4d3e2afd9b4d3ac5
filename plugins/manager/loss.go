package manager

import (
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
)

// endpointLost marks the connections to an endpoint that does not answer.
func (m *Manager) endpointLost(url, why string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, c := range m.connections {
		if c.record.Request.EndpointUrl == url && c.lost == "" {
			m.lose(id, why)
		}
	}
}

// endpointEvent takes in what an endpoint says of this agent's connections, on a stream that
// began at that time.
func (m *Manager) endpointEvent(url string, began time.Time, e *networkservice.ConnectionEvent) {
	m.mu.Lock()
	defer m.mu.Unlock()
	mentioned := map[string]bool{}
	for _, conn := range e.GetConnections() {
		for _, s := range conn.GetPath().GetPathSegments() {
			id, c := m.mentionedBy(url, s.GetId())
			if c == nil {
				continue
			}
			mentioned[id] = true
			if c.record.Request.EndpointUrl != url {
				m.claim(id, c, url, e.Type != networkservice.ConnectionEventType_DELETE, time.Time{})
				continue
			}
			c.leave = conn.GetState() == networkservice.State_RESELECT_REQUESTED
			switch {
			case e.Type == networkservice.ConnectionEventType_DELETE:
				m.lose(id, "its endpoint has closed it")
			case conn.GetState() == networkservice.State_DOWN:
				m.lose(id, "its endpoint says that it is down")
			default:
				m.lose(id, "")
			}
		}
	}
	if e.GetType() != networkservice.ConnectionEventType_INITIAL_STATE_TRANSFER {
		return
	}
	for id, c := range m.connections {
		switch {
		case mentioned[id]:
		case c.record.Request.EndpointUrl == url:
			m.lose(id, "its endpoint does not know it any more")
		default:
			m.claim(id, c, url, false, began)
		}
	}
}

// mentionedBy finds a connection of this agent by the id of a path segment: of this agent's
// own, or of the agent's that asks for it and has had no answer yet. m.mu is held.
func (m *Manager) mentionedBy(url, segment string) (id string, c *connection) {
	if id, ok := m.segments[segment]; ok {
		return id, m.connections[id]
	}
	id = recordID(segment)
	if c := m.connections[id]; c != nil && c.record.Request.Owner == ownerOf(url) {
		return id, c
	}
	return "", nil
}

// lose notes why the endpoint of a connection is thought gone, or that it is not. m.mu is held.
func (m *Manager) lose(id, why string) {
	c := m.connections[id]
	switch {
	case why == "" && !c.leave:
		m.found(id, c)
	case c.lost != why || c.leave:
		c.lost = why
		m.heal(id, c)
	}
	m.announce(id, c)
}

// answered notes that the endpoint at a URL, or the agent there, has answered a request for
// a connection. It is noted then and not with the record, which comes later: the endpoint
// may be lost by that time.
func (m *Manager) answered(id, url string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := m.connections[id]; c != nil && c.record.Request.EndpointUrl == url {
		m.found(id, c)
		m.announce(id, c)
	}
}

// found notes that the endpoint of a connection is there. m.mu is held.
func (m *Manager) found(id string, c *connection) {
	if c.lost == "" && !c.leave {
		return
	}
	c.lost, c.leave = "", false
	c.healing.recovered()
	m.explain(id)
}
