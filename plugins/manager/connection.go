package manager

import (
	"context"
	"slices"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"google.golang.org/protobuf/proto"

	"go.patchbay.dev/models"
)

// connection is what this room knows of one connection on record.
type connection struct {
	record  *models.CrossConnect
	conn    *networkservice.Connection // as last replied
	segment string                     // id of this agent's own path segment
	status  *models.CrossConnectStatus
	lost    string // why its endpoint is thought gone; empty: it answers
	leave   bool   // the endpoint answers and wants the connection to go elsewhere
	timer   *time.Timer
	links   map[string]func()          // by URL of the endpoint or another agent: ends the use of the link
	healing healing                    // of the endpoint's loss
	asked   time.Time                  // when its record came
	orphan  *time.Timer                // runs while the agent that asked for it does not know it
	told    *networkservice.Connection // conn and state as monitors know them; nil: they do not
	state   networkservice.State
	spared  bool // it could not be refreshed, for etcd was away
	was     bool // its links were up at some time: a workload connects to its socket in its own time
}

// Changed takes in what became of a record: desired is nil when it is gone or not valid,
// status is nil when nothing of it is left. It is quick and calls nobody back.
func (m *Manager) Changed(id string, desired *models.CrossConnect, s *models.CrossConnectStatus) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.connections[id]
	if desired.GetRequest() == nil {
		if c != nil && (desired != nil || s == nil) {
			m.forget(id, c)
		}
		return
	}
	if c != nil && c.record == desired {
		c.status = s // only the status has changed
		m.announce(id, c)
		return
	}
	conn, err := m.repliedAt(id, desired)
	if err != nil {
		m.Log.Warn("the connection on record cannot be read", "connection", id, "err", err)
		return
	}
	if c == nil {
		c = &connection{timer: time.AfterFunc(time.Hour, func() { m.expire(id) })}
		m.connections[id] = c
	}
	renewed := !proto.Equal(c.record.GetRequest().GetExpires(), desired.Request.Expires)
	moved := c.record.GetRequest().GetEndpointUrl() != desired.Request.EndpointUrl
	m.relink(c, desired.Request)
	m.through(desired)
	segment := ownSegment(conn)
	if c.segment != segment {
		delete(m.segments, c.segment)
		m.segments[segment] = id
	}
	c.record, c.conn, c.segment, c.status, c.asked = desired, conn, segment, s, time.Now()
	m.claimed(c)
	if moved {
		m.found(id, c) // what was lost was another
	}
	if renewed {
		c.spared = false
		left := time.Until(desired.Request.Expires.AsTime())
		if m.starting() {
			left = max(left, grace)
		}
		c.timer.Reset(left)
	}
	m.announce(id, c)
}

// starting reports whether the records are still being read.
func (m *Manager) starting() bool {
	select {
	case <-m.ready:
		return false
	default:
		return true
	}
}

// relink has a connection use the links to its endpoint and to the agents of other nodes
// that have a half of it. m.mu is held.
func (m *Manager) relink(c *connection, r *models.Request) {
	urls := []string{r.GetEndpointUrl()}
	for _, node := range nodesOf(r) {
		urls = append(urls, nodeURL(node))
	}
	for url, release := range c.links {
		if !slices.Contains(urls, url) {
			delete(c.links, url)
			go release() // closing a link does I/O
		}
	}
	for _, url := range urls {
		if c.links[url] != nil || url == "" || m.run.Err() != nil {
			continue
		}
		release, err := m.links.hold(url)
		if err != nil {
			m.Log.Warn("endpoint cannot be watched", "url", url, "err", err)
			continue
		}
		if c.links == nil {
			c.links = map[string]func(){}
		}
		c.links[url] = release
	}
}

// forget ends what is kept for a connection whose record is gone, whoever deleted it, and
// tells its endpoint. m.mu is held.
func (m *Manager) forget(id string, c *connection) {
	m.leaveEndpoint(c.record)
	delete(m.connections, id)
	delete(m.segments, c.segment)
	c.timer.Stop()
	c.healing.stop()
	m.claimed(c)
	m.relink(c, nil)
	gone := ours(c.conn)
	gone.State = networkservice.State_DOWN
	m.send(networkservice.ConnectionEventType_DELETE, c.record.Request, gone)
	m.durables.lost(id)
}

// announce tells monitors of a connection if what they see of it has changed. m.mu is held.
func (m *Manager) announce(id string, c *connection) {
	state := networkservice.State_UP
	c.was = c.was || c.status.GetState() == models.State_UP
	waits := !c.was && c.status.GetState() == models.State_DOWN
	switch {
	case c.lost != "" || c.status != nil && c.status.State != models.State_UP && !waits:
		state = networkservice.State_DOWN
	case c.leave:
		state = networkservice.State_RESELECT_REQUESTED
	}
	m.durables.touch(id)
	if c.told == c.conn && c.state == state {
		return
	}
	was, before := c.told, c.state
	c.told, c.state = c.conn, state
	if was != nil && before == state && proto.Equal(was, c.conn) {
		return
	}
	if was != nil && before != state {
		m.Log.Info("connection", "connection", id, "state", state.String(), "reason", reasonOf(c, state))
	}
	if len(m.monitors) > 0 {
		m.send(networkservice.ConnectionEventType_UPDATE, c.record.Request, c.event())
	}
}

// event is a connection as monitors see it, nil if they do not know it.
func (c *connection) event() *networkservice.Connection {
	if c.told == nil {
		return nil
	}
	e := ours(c.told)
	e.State = c.state
	return e
}

// reasonOf is why a connection is in a state. What its status says of a loss outlives that for
// a moment.
func reasonOf(c *connection, s networkservice.State) string {
	switch {
	case s == networkservice.State_UP:
		return ""
	case c.lost != "":
		return c.lost
	}
	return c.status.GetReason()
}

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

// known gives the connection on record under an id, nil if there is none.
func (m *Manager) known(id string) (*models.CrossConnect, *networkservice.Connection, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.connections[id]
	if c == nil {
		return nil, nil, false
	}
	return c.record, c.conn, c.lost == ""
}

// composed is a connection that is being put on record.
type composed struct {
	record *models.CrossConnect
	conn   *networkservice.Connection
}

// remember keeps what a record was composed of until forget, so that it is not read from it again.
func (m *Manager) remember(x *models.CrossConnect, conn *networkservice.Connection) (forget func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.composed[x.Id] = composed{x, conn}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.composed, x.Id)
	}
}

// repliedAt is the connection of a record, as it was composed or as it is read from it. m.mu is held.
func (m *Manager) repliedAt(id string, x *models.CrossConnect) (*networkservice.Connection, error) {
	if c, ok := m.composed[id]; ok && c.record == x {
		return c.conn, nil
	}
	return replied(x)
}

// replied reads the connection as it was last replied from a record.
func replied(x *models.CrossConnect) (*networkservice.Connection, error) {
	conn := &networkservice.Connection{}
	if err := x.GetRequest().GetConnection().UnmarshalTo(conn); err != nil {
		return nil, err
	}
	if len(conn.GetPath().GetPathSegments()) <= int(conn.GetPath().GetIndex()) {
		return nil, errNoPath
	}
	return conn, nil
}
