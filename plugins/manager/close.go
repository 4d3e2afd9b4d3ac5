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
