package crossconnect

import (
	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/reconcile"
)

// provisional is the revision of what the engine was given before it was on record.
const provisional = -1

// prepared is a record that was checked and rendered before it was put.
type prepared struct {
	data   []byte
	x      *models.CrossConnect
	values []reconcile.Value
	begun  bool // the engine has got them
}

// maxPrepared bounds what is kept for puts that never came.
const maxPrepared = 1024

// Begin checks a cross-connect as the watch does, has the engine begin with it, and gives
// the JSON to put: the dataplane and the disk do not wait for each other. The record
// decides all the same: what was begun and is not put must be abandoned, and an agent that
// dies in between finds on its next start what nobody wants, and removes it. When the watch
// delivers just what was begun, it is not parsed and rendered again, which a client would
// wait for. The message must not change any more.
func (p *Plugin) Begin(x *models.CrossConnect) ([]byte, error) {
	values, err := p.Render(x)
	if err != nil {
		return nil, err
	}
	begun := p.begun(x.Id, values)
	data, err := models.Marshal(x)
	if err != nil {
		if begun {
			p.Abandon(x.Id)
		}
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.prepared) >= maxPrepared {
		clear(p.prepared)
	}
	p.prepared[x.Id] = prepared{data, x, values, begun}
	return data, nil
}

// begun has the engine begin; not before all records have been read.
func (p *Plugin) begun(id string, values []reconcile.Value) bool {
	select {
	case <-p.ready:
	default:
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.engine.Apply(reconcile.Change{Group: id, Revision: provisional, Values: values})
	return true
}

// BeginEnd has the engine take down a cross-connect whose record is about to be deleted:
// the dataplane and the disk do not wait for each other. A deletion that fails must be
// abandoned.
func (p *Plugin) BeginEnd(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.prepared, id)
	if r := p.records[id]; r != nil && !r.deleted {
		r.ending = true
		p.engine.Apply(reconcile.Change{Group: id, Revision: provisional})
	}
}

// Abandon takes back what Begin or BeginEnd has begun: the record that there is counts, or none.
func (p *Plugin) Abandon(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.prepared, id)
	change := reconcile.Change{Group: id, Revision: provisional}
	if r := p.records[id]; r != nil && !r.deleted && r.desired != nil {
		r.ending = false
		values, err := p.Render(r.desired)
		if err != nil {
			return // what was programmed before stays, as for a record that is not valid
		}
		change.Revision, change.Values = r.revision, values
	}
	p.engine.Apply(change)
}
