package manager

import (
	"context"
	"errors"
	"maps"
	"strings"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"go.patchbay.dev/models"
)

// CheckConnection says why this node would refuse a durable request; a *models.FieldError
// names the field.
func (m *Manager) CheckConnection(c *models.Connection) error {
	if err := models.ValidateConnection(c); err != nil {
		return err
	}
	if !m.serves(c.Mechanism.Type) {
		return nil // negotiation says more, when it is tried
	}
	err := m.Records.CheckMechanism(models.ClientSide, c.Mechanism)
	var field *models.FieldError
	if errors.As(err, &field) {
		return &models.FieldError{Field: strings.TrimPrefix(field.Field, string(models.ClientSide)+"."), Reason: field.Reason}
	}
	return err
}

// requestDurable asks for what a durable request wants, as a client's Request does: it
// connects, refreshes, or changes what differs.
func (m *Manager) requestDurable(spec *models.Connection, revision int64) error {
	start := time.Now()
	ctx, cancel := context.WithTimeout(m.run, DefaultTimeout)
	defer cancel()
	err := coded(m.askDurable(ctx, spec, revision), codes.Internal)
	m.Observer.Request("Request", status.Code(err), time.Since(start))
	return err
}

func (m *Manager) askDurable(ctx context.Context, spec *models.Connection, revision int64) error {
	if err := m.serving(ctx); err != nil {
		return err
	}
	unlock, err := m.ids.lock(ctx, spec.Id)
	if err != nil {
		return err
	}
	defer unlock()
	defer m.releaseHeld(spec.Id)
	r := &request{peer: peer{as: ownerEtcd}, id: spec.Id, insist: true, pinned: spec.Endpoint != "", revision: revision}
	var well bool
	r.record, r.known, well = m.known(r.id)
	switch x, _, ok := m.Records.Lookup(r.id); {
	case r.record != nil && r.record.Request.Owner != ownerEtcd:
		return status.Errorf(codes.AlreadyExists, "a client's connection has the id %q; choose another id", r.id)
	case r.record == nil && ok && x.GetRequest() == nil:
		return status.Errorf(codes.AlreadyExists, "a cross-connect has the id %q; choose another id", r.id)
	}
	changed := r.record == nil || revision != 0 && r.record.Request.Revision != revision
	if !changed {
		r.revision = r.record.Request.Revision
		if !well {
			return errors.New("its endpoint is lost") // it is being healed
		}
	}
	r.conn = wanted(spec, r.known, changed)
	if r.index, err = caller(r.conn); err != nil {
		return err
	}
	until := timestamppb.New(time.Now().Add(DefaultLifetime))
	r.conn.Path.PathSegments[r.index].Expires = until
	enter(r.conn, r.index, m.Keys.Node, r.known)
	r.conn.Path.PathSegments[r.index+1].Expires = until
	mechanism := proto.CloneOf(spec.Mechanism)
	if mechanism.Parameters == nil {
		mechanism.Parameters = map[string]string{}
	}
	r.wants = []want{{nsm: mechanismToNSM(mechanism), record: mechanism}}
	if err := m.checkClient(r); err != nil {
		return err
	}
	if _, err = m.connect(ctx, r); !changed && status.Code(err) == codes.Unavailable {
		// An endpoint that died while no agent was there to see it is found out by this.
		m.mu.Lock()
		if m.connections[r.id] != nil {
			m.lose(r.id, "its endpoint does not answer: "+clean(err))
		}
		m.mu.Unlock()
	}
	return err
}

// wanted is the connection to ask for: the one that there is, so that its endpoint finds it
// again, or one as a request that is new or has changed wants it.
func wanted(spec *models.Connection, known *networkservice.Connection, changed bool) *networkservice.Connection {
	if !changed {
		return known.Clone()
	}
	conn := &networkservice.Connection{
		Id: spec.Id, NetworkService: spec.NetworkService, Payload: spec.Payload, Labels: maps.Clone(spec.Labels),
		NetworkServiceEndpointName: spec.Endpoint,
		Context: &networkservice.ConnectionContext{MTU: spec.Mtu,
			IpContext: &networkservice.IPContext{SrcIpAddrs: spec.Addresses}},
		Path: &networkservice.Path{PathSegments: []*networkservice.PathSegment{{Name: ownerEtcd, Id: spec.Id}}},
	}
	return conn.Clone()
}

// closeDurable closes the connection of a durable request that is deleted.
func (m *Manager) closeDurable(id string) error {
	start := time.Now()
	ctx, cancel := context.WithTimeout(m.run, DefaultTimeout)
	defer cancel()
	unlock, err := m.ids.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	record, _, _ := m.known(id)
	if record.GetRequest().GetOwner() != ownerEtcd {
		return nil
	}
	err = coded(m.remove(ctx, record), codes.Internal)
	m.Observer.Request("Close", status.Code(err), time.Since(start))
	return err
}
