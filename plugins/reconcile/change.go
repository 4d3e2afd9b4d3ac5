package reconcile

import (
	"fmt"
	"slices"
)

// Change is the whole wanted set of a group of values that are reported on together. No
// values: the group goes away. Of a key that is given twice the last counts.
type Change struct {
	Group    string
	Revision int64 // the caller's; comes back in the Status
	Values   []Value
}

// Apply takes over changes, all of them before any of them is acted on, and returns at
// once. Each change is answered by at least one OnStatus for its group, unless a later
// change of the group overtakes it. Before Start, changes are only collected.
func (e *Engine) Apply(changes ...Change) {
	wishes := e.wishes(changes)
	e.mu.Lock()
	defer e.unlock()
	for i, c := range changes {
		e.change(c, wishes[i])
	}
}

// Confirm gives the last Change of a group another revision: it is wanted as it was, and
// nothing need be compared. It answers with the status; OnStatus follows when that changes.
// False: the group's last Change has not the revision was.
func (e *Engine) Confirm(group string, was, revision int64) (Status, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	g := e.groups[group]
	if g == nil || g.revision != was {
		return Status{}, false
	}
	g.revision = revision
	s := g.status()
	g.told = s.gist()
	return s, true
}

// wish is a wanted value as its descriptor sees it.
type wish struct {
	key   string
	spec  any
	needs []string
	bad   error // why it can never be applied
}

// wishes asks the descriptors about the values of changes, without the lock.
func (e *Engine) wishes(changes []Change) [][]wish {
	all := make([][]wish, len(changes))
	for i, c := range changes {
		all[i] = make([]wish, len(c.Values))
		for j, v := range c.Values {
			w := wish{key: v.Key, spec: v.Spec}
			d, err := e.descriptorOf(v.Key)
			if err == nil {
				err = d.check(v.Spec)
			}
			if err == nil {
				err = e.guard(v.Key, func() error { w.needs = d.dependencies(v.Key, v.Spec); return nil })
			}
			if err != nil {
				w.bad = fmt.Errorf("%s: %w", v.Key, err)
			}
			all[i][j] = w
		}
	}
	return all
}

// descriptorOf returns the descriptor of a key's kind.
func (e *Engine) descriptorOf(key string) (descriptor, error) {
	kind := kindOf(key)
	r := e.registry[kind]
	switch {
	case r == nil:
		return nil, fmt.Errorf("there is neither a descriptor nor a source of facts for the kind %q", kind)
	case r.descriptor == nil:
		return nil, fmt.Errorf("the kind %q is a fact of the outside world and cannot be made", kind)
	default:
		return r.descriptor, nil
	}
}

// change makes wishes the wanted set of the group.
func (e *Engine) change(c Change, wishes []wish) {
	g := e.groups[c.Group]
	if g == nil {
		g = &group{id: c.Group}
		e.groups[c.Group] = g
	}
	g.revision, g.told = c.Revision, Status{}
	e.review(g)
	before := e.turn
	for _, w := range wishes {
		e.want(g, w)
	}
	for _, claim := range g.stale(before) {
		e.release(claim)
	}
}

// want makes or renews the claim of a group.
func (e *Engine) want(g *group, w wish) {
	v := e.node(w.key)
	c := v.claimOf(g)
	if c == nil {
		c = &claim{group: g, v: v, state: Gone}
		if v.wanted() {
			last := v.owner
			for last.next != nil {
				last = last.next
			}
			last.next = c
			e.move(c, Failed)
		} else {
			e.own(v, c)
		}
	}
	e.turn++
	c.turn, c.released, c.spec, c.bad = e.turn, false, w.spec, w.bad
	e.need(c, w.needs)
	e.wished(c)
}

// need replaces what a claim needs.
func (e *Engine) need(c *claim, keys []string) {
	if slices.EqualFunc(c.needs, keys, func(v *value, key string) bool { return v.key == key }) {
		return
	}
	old := c.needs
	c.needs = e.nodes(keys)
	for _, d := range c.needs {
		if d.users++; d.users == 1 {
			e.touch(d)
		}
	}
	for _, d := range old {
		if d.users--; d.users == 0 {
			e.touch(d)
		}
	}
}

// release ends a claim. The next rival gets the value; without one it is deleted, and
// the claim stays until that is done.
func (e *Engine) release(c *claim) {
	v := c.v
	e.need(c, nil)
	switch {
	case c != v.owner:
		before := v.owner
		for before.next != c {
			before = before.next
		}
		before.next = c.next
		e.move(c, Gone)
	case c.next != nil:
		e.own(v, c.next)
		for r := v.owner.next; r != nil; r = r.next {
			e.review(r.group) // their reason names another group now
		}
		e.wished(v.owner)
	default:
		e.turn++
		c.turn, c.released, c.spec, c.bad = e.turn, true, nil, nil
		e.wished(c)
	}
}

// own makes c, or nobody, the owner of a value.
func (e *Engine) own(v *value, c *claim) {
	if v.owner != nil {
		e.move(v.owner, Gone)
	}
	if v.owner = c; c != nil {
		e.setState(v, Applying) // until it is decided
	}
}

// wished has a value decided after its owner changed what is wanted.
func (e *Engine) wished(c *claim) {
	v := c.v
	if c != v.owner {
		return
	}
	v.fit = unknown
	if v.is == present {
		v.recreate = false
	}
	e.calm(v)
	e.touch(v)
}
