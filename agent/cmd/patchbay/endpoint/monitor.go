package endpoint

import (
	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// backlog is how many events a monitor may lag behind before it is cut off.
const backlog = 1024

// monitor is one client of MonitorConnections.
type monitor struct {
	selector *networkservice.MonitorScopeSelector
	events   chan *networkservice.ConnectionEvent
}

// MonitorConnections sends at once what there is, even when that is nothing, and then
// every change, until the caller leaves or the endpoint stops.
func (s *Server) MonitorConnections(selector *networkservice.MonitorScopeSelector, out networkservice.MonitorConnection_MonitorConnectionsServer) error {
	w := &monitor{selector: selector, events: make(chan *networkservice.ConnectionEvent, backlog)}
	initial := &networkservice.ConnectionEvent{
		Type:        networkservice.ConnectionEventType_INITIAL_STATE_TRANSFER,
		Connections: map[string]*networkservice.Connection{},
	}
	s.mu.Lock()
	for _, c := range s.connections {
		if c.last.MatchesMonitorScopeSelector(selector) {
			initial.Connections[c.id] = c.last
		}
	}
	s.monitors[w] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.monitors, w)
		s.mu.Unlock()
	}()
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
		case <-s.stopped:
			return status.Error(codes.Unavailable, "the endpoint stops")
		}
	}
}

// tell passes a connection on that is new, or differs in more than its expiry. s.mu is held.
func (s *Server) tell(c *connection, now *networkservice.Connection) {
	same := proto.Equal(timeless(c.last), timeless(now))
	c.last = now
	if same {
		return
	}
	s.send(networkservice.ConnectionEventType_UPDATE, now)
	s.Changed(Event{Up: true, Connection: now})
}

// timeless is a connection without what every refresh changes.
func timeless(conn *networkservice.Connection) *networkservice.Connection {
	out := conn.Clone()
	for _, p := range out.GetPath().GetPathSegments() {
		p.Expires, p.Token = nil, ""
	}
	return out
}

// gone tells that a connection is no more. s.mu is held.
func (s *Server) gone(c *connection, why string) {
	last := c.last.Clone()
	last.State = networkservice.State_DOWN
	s.send(networkservice.ConnectionEventType_DELETE, last)
	s.Changed(Event{Reason: why, Connection: last})
}

// send passes an event to the monitors that asked for it. Neither it nor its connection
// may change any more. s.mu is held.
func (s *Server) send(t networkservice.ConnectionEventType, conn *networkservice.Connection) {
	e := &networkservice.ConnectionEvent{Type: t, Connections: map[string]*networkservice.Connection{conn.Id: conn}}
	for w := range s.monitors {
		if !conn.MatchesMonitorScopeSelector(w.selector) {
			continue
		}
		select {
		case w.events <- e:
		default:
			delete(s.monitors, w)
			close(w.events)
		}
	}
}
