package manager

import (
	"context"
	"maps"
	"strings"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.patchbay.dev/models"
)

// establish writes the record and waits until the dataplane matches it. When that fails,
// or the client has gone, what was before is restored: the record it had, or none.
func (m *Manager) establish(ctx context.Context, r *request, x *models.CrossConnect, conn *networkservice.Connection, data []byte) (*networkservice.Connection, error) {
	s, err := m.write(ctx, x.Id, data)
	if err == nil {
		err = ctx.Err()
	}
	if err == nil && (s.State == models.State_FAILED || s.State == models.State_PENDING) {
		code := codes.FailedPrecondition
		if strings.Contains(s.Reason, models.NoRoom) {
			code = codes.ResourceExhausted
		}
		err = status.Errorf(code, "the dataplane of node %s could not be programmed: %s", m.Keys.Node, s.Reason)
	}
	if err != nil {
		m.restore(x.Id, r.record)
		return nil, err
	}
	m.settled(x.Id)
	if r.peer.agent != nil {
		return conn.Clone(), nil // a tunnel's parameters are those that were agreed; its times are shifted
	}
	return withMechanism(conn, forClient(conn.Mechanism, s.GetClient().GetParameters())), nil
}

// forClient is a mechanism as the client gets it: with what the dataplane has settled, without what is ours alone.
func forClient(in *networkservice.Mechanism, status map[string]string) *networkservice.Mechanism {
	out := in.Clone()
	if out.Parameters == nil {
		out.Parameters = map[string]string{}
	}
	maps.Copy(out.Parameters, status)
	for _, name := range []string{paramNetns, paramOwner, paramPort} {
		delete(out.Parameters, name)
	}
	return out
}

// withMechanism is a connection with another mechanism; they share all else.
func withMechanism(conn *networkservice.Connection, mechanism *networkservice.Mechanism) *networkservice.Connection {
	out := &networkservice.Connection{Id: conn.Id, NetworkService: conn.NetworkService, Mechanism: mechanism, Context: conn.Context,
		Labels: conn.Labels, Path: conn.Path, NetworkServiceEndpointName: conn.NetworkServiceEndpointName, Payload: conn.Payload, State: conn.State}
	out.ProtoReflect().SetUnknown(conn.ProtoReflect().GetUnknown())
	return out
}

// write puts a record that was begun, and waits for what becomes of it.
func (m *Manager) write(ctx context.Context, id string, data []byte) (*models.CrossConnectStatus, error) {
	revision, err := m.Store.Put(ctx, m.Keys.CrossConnect(id), data)
	if err != nil {
		m.Records.Abandon(id)
		return nil, err
	}
	return m.Records.Await(ctx, id, revision)
}

// mark tells one failed request from the next.
type mark struct {
	goes bool // nothing is to be left of the connection
}

// restore brings back what was on record before a request failed: previous, or nothing.
// What fails now is tried until it succeeds or a later request makes it pointless.
func (m *Manager) restore(id string, previous *models.CrossConnect) {
	err := m.undo(id, previous)
	if err == nil {
		return
	}
	m.Log.Warn("a failed request is undone later", "connection", id, "err", err)
	mine := &mark{goes: previous == nil}
	m.mu.Lock()
	m.undoing[id] = mine
	m.mu.Unlock()
	m.done.Go(func() {
		for m.undoLater(id, previous, mine) != nil {
			select {
			case <-time.After(reconnect):
			case <-m.run.Done():
				return
			}
		}
	})
}

// undo has its own time: the client's is often up.
func (m *Manager) undo(id string, previous *models.CrossConnect) error {
	ctx, cancel := context.WithTimeout(m.run, DefaultTimeout)
	defer cancel()
	if previous != nil {
		data, err := m.Records.Begin(previous)
		if err == nil {
			_, err = m.write(ctx, id, data)
		}
		return err
	}
	revision, err := m.Store.Delete(ctx, m.Keys.CrossConnect(id))
	if err != nil {
		return err
	}
	waited, cancel := context.WithTimeout(ctx, undoWait)
	defer cancel()
	return m.Records.AwaitGone(waited, id, revision)
}

// undoWait is how long a request that failed waits until nothing is left of it: a dataplane
// that does not answer must not keep the reason from the client.
const undoWait = time.Second

func (m *Manager) undoLater(id string, previous *models.CrossConnect, mine *mark) error {
	unlock, err := m.ids.lock(m.run, id)
	if err != nil {
		return nil // the agent stops; the record expires by itself
	}
	defer unlock()
	m.mu.Lock()
	current := m.undoing[id]
	m.mu.Unlock()
	if current != mine {
		return nil
	}
	if err := m.undo(id, previous); err != nil {
		return err
	}
	m.settled(id)
	return nil
}

// goes tells whether a connection is only there because it could not be undone yet. m.mu is held.
func (m *Manager) goes(id string) bool { return m.undoing[id] != nil && m.undoing[id].goes }

// settled says that nothing of an id is to be undone any more.
func (m *Manager) settled(id string) {
	m.mu.Lock()
	delete(m.undoing, id)
	m.mu.Unlock()
}
