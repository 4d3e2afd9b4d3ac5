package crossconnect

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/reconcile"
)

// ErrGone is answered to one who waits for a record that has been deleted meanwhile.
var ErrGone = errors.New("the cross-connect was deleted")

// record is what this room knows of one cross-connect.
type record struct {
	revision int64                // of the newest change, a deletion too
	desired  *models.CrossConnect // the last valid one
	invalid  string               // why the newest is not valid
	refused  []byte               // the newest, if it has never been valid
	deleted  bool
	ending   bool // it is being taken down, and its deletion is on its way to the disk
	engine   reconcile.Status
	settled  int64 // the revision that the engine, or the check before it, has answered
	status   *models.CrossConnectStatus
	note     string // why it carries nothing, as the manager knows
}

// EngineStatus takes in what the engine reports of a group; give it to the engine as
// its OnStatus.
func (p *Plugin) EngineStatus(s reconcile.Status) {
	p.mu.Lock()
	defer p.unlock()
	r := p.records[s.Group]
	if r == nil || s.State == reconcile.Applying || s.Revision == provisional {
		return
	}
	if r.deleted {
		r.engine = s
		if s.State == reconcile.Gone && s.Revision == r.revision {
			p.gone(s.Group, r)
		}
		return
	}
	p.answered(s.Group, r, s)
}

// answered takes in what the engine says of a record that is wanted. p.mu is held.
func (p *Plugin) answered(id string, r *record, s reconcile.Status) {
	r.engine = s
	r.settled = max(r.settled, s.Revision)
	p.update(id, r)
}

// LinkChanged recomputes the status after a mechanism has seen a link change.
func (p *Plugin) LinkChanged(id string) {
	p.mu.Lock()
	defer p.unlock()
	if r := p.records[id]; r != nil && !r.deleted && !r.ending && r.settled > 0 {
		p.update(id, r)
	}
}

// Note has the status say why a cross-connect that is programmed carries nothing: its
// endpoint is gone. Empty: as far as is known, it does. A new record begins without.
func (p *Plugin) Note(id, why string) {
	p.mu.Lock()
	defer p.unlock()
	r := p.records[id]
	if r == nil || r.note == why {
		return
	}
	r.note = why
	if !r.deleted && r.settled > 0 {
		p.update(id, r)
	}
}

// update recomputes, publishes and tells the status of a record. p.mu is held.
func (p *Plugin) update(id string, r *record) {
	status := p.statusOf(id, r)
	// The comparison by reflection is left out where it is known how it ends.
	if status.Revision != r.status.GetRevision() || !proto.Equal(status, r.status) {
		if r.status.GetState() != status.State || r.status.GetReason() != status.Reason {
			p.said = append(p.said, status)
		}
		r.status = status
		p.statuses.Touch(id)
		p.notify(id, r)
	}
	p.wake(id)
}

// unlock releases p.mu and only then logs what has changed: who waits does not wait for that.
func (p *Plugin) unlock() {
	said := p.said
	p.said = nil
	p.mu.Unlock()
	for _, s := range said {
		switch s.State {
		case models.State_STATE_UNSPECIFIED:
			p.log.Info("cross-connect", "connection", s.Id, "state", "GONE")
		case models.State_FAILED:
			p.log.Warn("cross-connect", "connection", s.Id, "state", s.State.String(), "reason", s.Reason)
		default:
			p.log.Info("cross-connect", "connection", s.Id, "state", s.State.String(), "reason", s.Reason)
		}
	}
}

// gone forgets a record of which nothing is left. p.mu is held.
func (p *Plugin) gone(id string, r *record) {
	delete(p.records, id)
	p.said = append(p.said, &models.CrossConnectStatus{Id: id})
	p.statuses.Touch(id)
	r.desired, r.status = nil, nil
	p.notify(id, r)
	p.wake(id)
}

func (p *Plugin) notify(id string, r *record) {
	e := Event{ID: id, Revision: r.revision, Desired: r.desired, Status: r.status}
	for _, fn := range p.subscribers {
		fn(e)
	}
}

// wake lets those go on who wait for a change of one record. p.mu is held.
func (p *Plugin) wake(id string) {
	if c := p.waiting[id]; c != nil {
		close(c)
		delete(p.waiting, id)
	}
}

// statusOf puts together what the record, the engine and the mechanisms say.
func (p *Plugin) statusOf(id string, r *record) *models.CrossConnectStatus {
	s := &models.CrossConnectStatus{Id: id, Revision: r.revision, Decision: r.desired.GetDecision()}
	if r.desired != nil && r.engine.State == reconcile.Applied {
		s.Client = p.attachmentStatus(r.desired, models.ClientSide, r.desired.Client)
		s.Endpoint = p.attachmentStatus(r.desired, models.EndpointSide, r.desired.Endpoint)
	}
	switch {
	case r.invalid != "":
		s.State, s.Reason = models.State_FAILED, r.invalid
	case r.engine.State == reconcile.Pending:
		s.State, s.Reason = models.State_PENDING, r.engine.Reason
	case r.engine.State == reconcile.Failed:
		s.State, s.Reason = models.State_FAILED, r.engine.Reason
	case r.engine.State != reconcile.Applied:
		s.State, s.Reason = models.State_PENDING, "is being programmed"
	default:
		s.State, s.Reason = models.State_UP, ""
		var down []string
		for _, side := range []struct {
			side   models.Side
			status *models.AttachmentStatus
		}{{models.ClientSide, s.Client}, {models.EndpointSide, s.Endpoint}} {
			switch name := side.status.GetInterface(); {
			case side.status.GetLinkUp(): // some ends have no interface
			case name == "":
				down = append(down, string(side.side)+" interface is not there")
			default:
				down = append(down, string(side.side)+" interface "+name)
			}
		}
		if len(down) > 0 {
			s.State, s.Reason = models.State_DOWN, "link is down: "+strings.Join(down, ", ")
		}
	}
	if r.note != "" {
		if s.State == models.State_UP {
			s.State = models.State_DOWN
		}
		s.Reason = strings.TrimPrefix(s.Reason+"; "+r.note, "; ")
	}
	s.Reason = models.OneLine(s.Reason)
	return s
}

// tellStatus is a record's status as it is written to etcd.
func (p *Plugin) tellStatus(id string) (data []byte, there bool) {
	_, s, ok := p.Lookup(id)
	if !ok || s == nil {
		return nil, ok
	}
	data, err := models.Marshal(s)
	if err != nil {
		p.log.Error("a status cannot be written", "connection", id, "err", err)
	}
	return data, true
}

func (p *Plugin) attachmentStatus(x *models.CrossConnect, side models.Side, a *models.Attachment) *models.AttachmentStatus {
	if m := p.mechanisms[a.GetMechanism().GetType()]; m != nil {
		return m.Status(x, side)
	}
	return nil
}

func (p *Plugin) types() string {
	return strings.Join(slices.Sorted(maps.Keys(p.mechanisms)), ", ")
}

// Lookup gives the record and status of a cross-connect that is desired now.
func (p *Plugin) Lookup(id string) (*models.CrossConnect, *models.CrossConnectStatus, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.records[id]
	if r == nil {
		return nil, nil, false
	}
	return r.desired, r.status, true
}

// List gives every cross-connect, in the order of the ids.
func (p *Plugin) List() []Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]Event, 0, len(p.records))
	for _, id := range slices.Sorted(maps.Keys(p.records)) {
		r := p.records[id]
		list = append(list, Event{ID: id, Revision: r.revision, Desired: r.desired, Status: r.status})
	}
	return list
}

// Await waits until the record at revision, or a newer one, has been programmed or has
// failed, and gives its status. ErrGone: it was deleted. Else the error is the context's.
func (p *Plugin) Await(ctx context.Context, id string, revision int64) (*models.CrossConnectStatus, error) {
	var status *models.CrossConnectStatus
	err := p.await(ctx, id, func() (bool, error) {
		r := p.records[id]
		switch {
		case p.seen < revision:
			return false, nil
		case r == nil || r.deleted:
			return false, ErrGone
		}
		status = r.status
		return r.settled >= revision, nil
	})
	return status, err
}

// AwaitGone waits until nothing is left of a record that was deleted at revision, or
// until it is desired anew.
func (p *Plugin) AwaitGone(ctx context.Context, id string, revision int64) error {
	return p.await(ctx, id, func() (bool, error) {
		r := p.records[id]
		return p.seen >= revision && (r == nil || !r.deleted), nil
	})
}

// await checks done at each change of the record until it is true or fails.
func (p *Plugin) await(ctx context.Context, id string, done func() (bool, error)) error {
	for {
		p.mu.Lock()
		ok, err := done()
		if ok || err != nil {
			p.mu.Unlock()
			return err
		}
		c := p.waiting[id]
		if c == nil {
			c = make(chan struct{})
			p.waiting[id] = c
		}
		p.mu.Unlock()
		select {
		case <-c:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
