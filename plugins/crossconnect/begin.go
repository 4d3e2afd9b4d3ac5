package crossconnect

import "go.patchbay.dev/plugins/reconcile"

// provisional is the revision of what the engine was given before it was on record.
const provisional = -1

// Begin has the engine begin with a record that was prepared, while it is on its way to
// the disk: neither waits for the other. The record decides all the same: what was begun
// and is not followed by a put must be abandoned, and an agent that dies in between finds
// on its next start what nobody wants, and removes it.
func (p *Plugin) Begin(id string) {
	select {
	case <-p.ready:
	default:
		return // nothing begins before all records have been read
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if r, ok := p.prepared[id]; ok {
		p.engine.Apply(reconcile.Change{Group: id, Revision: provisional, Values: r.values})
	}
}

// Abandon takes back what Begin has begun: the record that there is counts, or none.
func (p *Plugin) Abandon(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.prepared, id)
	change := reconcile.Change{Group: id, Revision: provisional}
	if r := p.records[id]; r != nil && !r.deleted && r.desired != nil {
		values, err := p.Render(r.desired)
		if err != nil {
			return // what was programmed before stays, as for a record that is not valid
		}
		change.Revision, change.Values = r.revision, values
	}
	p.engine.Apply(change)
}
