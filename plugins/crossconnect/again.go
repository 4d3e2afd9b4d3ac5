package crossconnect

import "go.patchbay.dev/plugins/reconcile"

// Again checks and renders records once more, as they are: what they are checked against or
// made from, a bridge for instance, has changed. What comes out the same is left alone.
func (p *Plugin) Again(ids ...string) {
	p.mu.Lock()
	defer p.unlock()
	var changes []reconcile.Change
	for _, id := range ids {
		if r := p.records[id]; r != nil && !r.deleted && !r.ending {
			changes = p.again(changes, id, r)
		}
	}
	p.engine.Apply(changes...)
}

func (p *Plugin) again(changes []reconcile.Change, id string, r *record) []reconcile.Change {
	x := r.desired
	var values []reconcile.Value
	var err error
	if r.refused != nil {
		x, values, err = p.parse(id, r.refused)
	} else {
		values, err = p.Render(x)
	}
	switch {
	case err != nil && err.Error() == r.invalid:
		return changes
	case err != nil:
		p.refuse(id, r, err)
		return changes
	}
	r.invalid, r.refused = "", nil
	if r.desired != x {
		r.desired = x
		p.notify(id, r)
	}
	return append(changes, reconcile.Change{Group: id, Revision: r.revision, Values: values})
}
