package manager

import "go.patchbay.dev/models"

// touch has the status of a durable request looked at that may have changed.
func (d *durables) touch(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.by[id] != nil {
		d.statuses.Touch(id)
	}
}

// tell is a durable request's status as it is written to etcd.
func (d *durables) tell(id string) (data []byte, there bool) {
	s := d.m.durableStatus(id)
	if s == nil {
		return nil, false
	}
	data, err := models.Marshal(s)
	if err != nil {
		d.m.Log.Error("a status cannot be written", "connection", id, "err", err)
	}
	return data, true
}

// durableStatus is what has become of a durable request, nil if there is none.
func (m *Manager) durableStatus(id string) *models.ConnectionStatus {
	m.mu.Lock()
	c := m.connections[id]
	var made connection
	if c != nil {
		made = connection{record: c.record, conn: c.conn, status: c.status, lost: c.lost}
	}
	m.mu.Unlock()
	m.durables.mu.Lock()
	defer m.durables.mu.Unlock()
	k := m.durables.by[id]
	if k == nil || k.gone && (c == nil || made.record.Request.Owner != ownerEtcd) {
		return nil
	}
	s := &models.ConnectionStatus{Id: id, Revision: k.revision, State: models.State_PENDING, Reason: "is being negotiated"}
	if c != nil && made.record.Request.Owner == ownerEtcd {
		m.describeMade(s, &made)
	}
	switch {
	case k.gone:
		s.State, s.Reason = models.State_PENDING, "is being closed"
	case k.invalid != "":
		s.State, s.Reason = models.State_FAILED, k.invalid
	case k.failed != "" && made.lost == "":
		s.State, s.Reason = models.State_FAILED, k.failed
	}
	return s
}

// describeMade fills in what has been connected.
func (m *Manager) describeMade(s *models.ConnectionStatus, c *connection) {
	x := c.record
	s.Endpoint, s.Mechanism, s.Decision = c.conn.GetNetworkServiceEndpointName(), x.Client.Mechanism.Type, x.Decision
	s.Addresses, s.PeerAddresses = x.Client.Addresses, x.Endpoint.Addresses
	s.Node = m.Keys.Node
	if node, ok := nodeOf(x.Request.EndpointUrl); ok {
		s.Node, s.Tunnel = node, x.Endpoint.Mechanism.Type
	}
	if c.status != nil {
		s.State, s.Reason = c.status.State, c.status.Reason
	}
	if c.lost != "" && s.State == models.State_UP {
		s.State, s.Reason = models.State_DOWN, c.lost
	}
}
