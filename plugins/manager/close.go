package manager

import (
	"context"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"go.patchbay.dev/models"
)

// Close ends a connection on both sides; one that is not known is closed already. It
// answers when nothing of it is left on this node.
func (m *Manager) Close(ctx context.Context, in *networkservice.Connection) (*emptypb.Empty, error) {
	start := time.Now()
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, DefaultTimeout)
		defer cancel()
	}
	err := coded(m.close(ctx, in), codes.Internal)
	took := time.Since(start)
	m.Observer.Request("Close", status.Code(err), took)
	if err != nil {
		m.Log.Warn("close refused", "connection", in.GetId(), "code", status.Code(err).String(), "err", clean(err), "took", took)
		return nil, err
	}
	m.Log.Info("close", "connection", in.GetId(), "service", in.GetNetworkService(), "took", took)
	return &emptypb.Empty{}, nil
}

func (m *Manager) close(ctx context.Context, in *networkservice.Connection) error {
	p, err := peerOf(ctx)
	if err != nil {
		return err
	}
	if err := m.serving(ctx); err != nil {
		return err
	}
	conn := in.Clone()
	if conn == nil {
		return status.Error(codes.InvalidArgument, "connection is missing")
	}
	index, err := caller(conn)
	if err != nil {
		return err
	}
	if err := p.identify(conn, index); err != nil {
		return err
	}
	id := recordID(conn.Id)
	unlock, err := m.ids.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	record, _, _ := m.known(id)
	if record == nil {
		return nil
	}
	if !m.may(p, record.Request.Owner) {
		return status.Errorf(codes.PermissionDenied, "connection id %q belongs to another client", conn.Id)
	}
	return m.remove(ctx, record)
}

// remove deletes a record and waits until nothing is left; its endpoint is told when it
// is gone, as of every record that goes.
func (m *Manager) remove(ctx context.Context, record *models.CrossConnect) error {
	m.Records.BeginEnd(record.Id)
	revision, err := m.Store.Delete(ctx, m.Keys.CrossConnect(record.Id))
	if err != nil {
		m.Records.Abandon(record.Id)
		return err
	}
	m.settled(record.Id)
	return m.Records.AwaitGone(ctx, record.Id, revision)
}

// mark tells one failed request from the next. It is not empty, so that each has an
// address of its own.
type mark struct{ _ byte }

// restore brings back what was on record before a request failed: previous, or nothing.
// What fails now is tried until it succeeds or a later request makes it pointless.
func (m *Manager) restore(id string, previous *models.CrossConnect) {
	err := m.undo(id, previous)
	if err == nil {
		return
	}
	m.Log.Warn("a failed request is undone later", "connection", id, "err", err)
	mine := new(mark)
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
	return m.Records.AwaitGone(ctx, id, revision)
}

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

// settled says that nothing of an id is to be undone any more.
func (m *Manager) settled(id string) {
	m.mu.Lock()
	delete(m.undoing, id)
	m.mu.Unlock()
}
