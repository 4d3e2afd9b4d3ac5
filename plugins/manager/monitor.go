package manager

import (
	"slices"
	"strings"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/identity"
)

// monitor is one client of MonitorConnections.
type monitor struct {
	selector *networkservice.MonitorScopeSelector
	owner    string         // empty: it may see every connection
	agent    *identity.Peer // another node's, which sees what it has the other half of
	events   chan *networkservice.ConnectionEvent
}

// MonitorConnections sends at once what there is, even when that is nothing, and then
// every change of the caller's connections. Connections are as this agent's own path
// segment sees them.
func (m *Manager) MonitorConnections(selector *networkservice.MonitorScopeSelector, out networkservice.MonitorConnection_MonitorConnectionsServer) error {
	p, err := peerOf(out.Context())
	if err != nil {
		return err
	}
	w := &monitor{selector: selector, agent: p.agent, events: make(chan *networkservice.ConnectionEvent, backlog)}
	if p.agent != nil {
		// It takes what it does not hear of for gone.
		if err := m.serving(out.Context()); err != nil {
			return err
		}
	} else if !m.isRoot(p) {
		w.owner = p.owner()
	}
	initial := &networkservice.ConnectionEvent{
		Type:        networkservice.ConnectionEventType_INITIAL_STATE_TRANSFER,
		Connections: map[string]*networkservice.Connection{},
	}
	m.mu.Lock()
	for _, c := range m.connections {
		if e := c.event(); e != nil && w.sees(c.record.Request, e) {
			initial.Connections[e.Id] = e
		}
	}
	for a := range m.asking {
		if node, _ := nodeOf(a.url); w.agent != nil && w.agent.Is(node) {
			initial.Connections[a.id] = &networkservice.Connection{Id: a.id, Path: &networkservice.Path{
				PathSegments: []*networkservice.PathSegment{{Name: m.Keys.Node, Id: a.id}}}}
		}
	}
	m.monitors[w] = struct{}{}
	m.mu.Unlock()
	defer m.unmonitor(w)
	if err := out.Send(initial); err != nil {
		return err
	}
	for {
		select {
		case e, ok := <-w.events:
			if !ok {
				return status.Error(codes.ResourceExhausted, "the monitor is too slow; monitor again")
			}
			if err := out.Send(e); err != nil {
				return err
			}
		case <-out.Context().Done():
			return out.Context().Err()
		case <-m.run.Done():
			return status.Error(codes.Unavailable, "the agent stops")
		}
	}
}

func (w *monitor) sees(r *models.Request, c *networkservice.Connection) bool {
	return w.may(r) && c.MatchesMonitorScopeSelector(w.selector)
}

func (w *monitor) may(r *models.Request) bool {
	if w.agent == nil {
		return w.owner == "" || w.owner == r.Owner
	}
	return slices.ContainsFunc(nodesOf(r), w.agent.Is)
}

// nodesOf are the other nodes that have a half of a connection.
func nodesOf(r *models.Request) (nodes []string) {
	if node, ok := strings.CutPrefix(r.GetOwner(), ownerNode); ok {
		nodes = append(nodes, node)
	}
	if node, ok := nodeOf(r.GetEndpointUrl()); ok {
		nodes = append(nodes, node)
	}
	return nodes
}

func (m *Manager) unmonitor(w *monitor) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.monitors, w)
}

// send tells the monitors that may see the connection. It must not change any more.
// m.mu is held.
func (m *Manager) send(t networkservice.ConnectionEventType, r *models.Request, c *networkservice.Connection) {
	var e *networkservice.ConnectionEvent
	for w := range m.monitors {
		if !w.sees(r, c) {
			continue
		}
		if e == nil {
			e = &networkservice.ConnectionEvent{Type: t, Connections: map[string]*networkservice.Connection{c.Id: c}}
		}
		select {
		case w.events <- e:
		default: // cut off rather than wait for: it finds the whole state anew
			delete(m.monitors, w)
			close(w.events)
		}
	}
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
