package manager

import (
	"github.com/networkservicemesh/api/pkg/api/networkservice"

	"go.patchbay.dev/models"
)

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
