package manager

import (
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
