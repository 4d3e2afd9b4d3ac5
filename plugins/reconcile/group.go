package reconcile

// group is a set of values that are wanted and reported on together.
type group struct {
	id       string
	revision int64
	by       [Gone][]*claim // its claims, by their state
	told     Status         // the last OnStatus since the last change, without Err
	reviewed bool           // in Engine.changed
	queued   bool           // in Engine.news
	gone     bool           // no claim is left; not in Engine.groups any more
}

// claim is the wish of one group for one value.
type claim struct {
	group    *group
	v        *value
	next     *claim // of another group on the same value
	spec     any
	needs    []*value // dependencies of spec
	bad      error    // why spec can never be applied
	turn     uint64   // of the last change: unique in the engine
	state    State    // of the value, as the group counts it
	at       int32    // place in group.by[state]
	released bool     // not wanted any more, but not deleted yet
}

// claimOf returns the claim of a group on the value, or nil.
func (v *value) claimOf(g *group) *claim {
	for c := v.owner; c != nil; c = c.next {
		if c.group == g {
			return c
		}
	}
	return nil
}

// stale returns the claims that were not renewed since a turn.
func (g *group) stale(turn uint64) (out []*claim) {
	for _, list := range g.by {
		for _, c := range list {
			if c.turn <= turn && !c.released {
				out = append(out, c)
			}
		}
	}
	return out
}

// move puts a claim among those of its group that have a state; Gone: among none.
func (e *Engine) move(c *claim, s State) {
	g := c.group
	e.review(g)
	if c.state == s {
		return
	}
	if c.state != Gone {
		list := g.by[c.state]
		last := len(list) - 1
		list[c.at] = list[last]
		list[c.at].at = c.at
		list[last] = nil
		if g.by[c.state] = list[:last]; last == 0 {
			g.by[c.state] = nil
		}
	}
	if c.state = s; s != Gone {
		c.at = int32(len(g.by[s]))
		g.by[s] = append(g.by[s], c)
	}
}

// review has the group reported on before the lock is released, if it has changed.
func (e *Engine) review(g *group) {
	if !g.reviewed {
		g.reviewed = true
		e.changed = append(e.changed, g)
	}
}

// state sums up the states of the group's values.
func (g *group) state() State {
	for _, s := range []State{Applying, Failed, Pending, Applied} {
		if len(g.by[s]) > 0 {
			return s
		}
	}
	return Gone
}
