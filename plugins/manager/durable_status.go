package manager

import (
	"bytes"
	"context"
	"time"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/store"
)

// Statuses of durable requests are written like those of cross-connects: those of one
// moment at once, and none that is there already.
const (
	statusSettle = 50 * time.Millisecond
	statusRetry  = time.Second
)

// touch has the status of a durable request looked at that may have changed.
func (d *durables) touch(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.by[id] != nil {
		d.soil(id)
	}
}

// soil is touch, with d.mu held.
func (d *durables) soil(id string) {
	d.dirty[id] = true
	select {
	case d.work <- struct{}{}:
	default:
	}
}

// publish writes statuses until the manager stops.
func (d *durables) publish() {
	ctx := d.m.run
	written, err := d.written(ctx)
	for err != nil && pause(ctx, statusRetry) {
		written, err = d.written(ctx)
	}
	for {
		select {
		case <-d.work:
		case <-ctx.Done():
			return
		}
		if !pause(ctx, statusSettle) {
			return
		}
		if err := d.flush(ctx, written); err != nil {
			d.m.Log.Debug("statuses are written later", "err", err)
			if !pause(ctx, statusRetry) {
				return
			}
		}
	}
}

// written reads what is in etcd, and has looked at whether it is still so.
func (d *durables) written(ctx context.Context) (map[string][]byte, error) {
	select {
	case <-d.m.ready:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	prefix := d.m.Keys.ConnectionStatuses()
	kvs, _, err := d.m.Store.List(ctx, prefix)
	if err != nil {
		return nil, err
	}
	written := map[string][]byte{}
	for _, kv := range kvs {
		if id, err := models.Name(prefix, kv.Key); err == nil {
			written[id] = kv.Value
			d.mu.Lock()
			d.soil(id)
			d.mu.Unlock()
		}
	}
	return written, nil
}

// flush writes what has changed; what fails is written later.
func (d *durables) flush(ctx context.Context, written map[string][]byte) error {
	d.mu.Lock()
	dirty := d.dirty
	d.dirty = map[string]bool{}
	d.mu.Unlock()
	var puts []store.KV
	var deletes []string
	now := map[string][]byte{}
	write := func() error {
		if len(puts)+len(deletes) == 0 {
			return nil
		}
		_, err := d.m.Store.Write(ctx, puts, deletes)
		puts, deletes = nil, nil
		return err
	}
	var failed error
	for id := range dirty {
		s := d.m.durableStatus(id)
		var data []byte
		if s != nil {
			data, failed = models.Marshal(s)
		}
		switch old, there := written[id]; {
		case s != nil && !bytes.Equal(old, data):
			puts, now[id] = append(puts, store.KV{Key: d.m.Keys.ConnectionStatus(id), Value: data}), data
		case s == nil && there:
			deletes, now[id] = append(deletes, d.m.Keys.ConnectionStatus(id)), nil
		}
		if failed == nil && len(puts)+len(deletes) == store.MaxWrite {
			failed = write()
		}
		if failed != nil {
			break
		}
	}
	if failed == nil {
		failed = write()
	}
	if failed != nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		for id := range dirty {
			d.soil(id)
		}
		return failed
	}
	for id, data := range now {
		if written[id] = data; data == nil {
			delete(written, id)
		}
	}
	return nil
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

// pause waits and reports whether ctx is still alive.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
