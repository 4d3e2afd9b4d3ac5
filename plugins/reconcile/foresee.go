package reconcile

// outlook is whether a value that is not firm will be. What waits has the outlook of what
// is at the end of what waits for one another; what waits in a circle is stuck.
type outlook uint8

const (
	coming  outlook = iota // unless something fails
	failing                // unless it fails again
	stuck                  // not before something changes that nobody is working on
)

// nature returns the outlook of a value that waits for no other.
func (v *value) nature() outlook {
	switch state := v.judge(); {
	case v.kind.facts != nil && !v.watched:
		return coming
	case state == Gone || state == Failed && v.wanted() && v.owner.bad != nil:
		return stuck
	case state == Failed || state == Pending:
		return failing
	default:
		return coming
	}
}

// foresee finds the outlooks after all that was touched is decided: of those that wait for
// something else than before, of those at an end that have changed, and of all that wait
// for these. Each value that waits is passed once.
func (e *Engine) foresee() {
	e.mark++
	begin := e.mark
	var path []*value // from the first to the end
	for _, v := range e.bound {
		e.mark++
		path = path[:0]
		end := v
		for end.wait.on != nil && end.mark < begin {
			end.mark = e.mark
			path = append(path, end)
			end = end.wait.on
		}
		o := end.outlook // of one that was passed before
		switch {
		case end.wait.on == nil:
			o = end.nature()
			e.spread(end, o)
		case end.mark == e.mark:
			o = stuck // in a circle
		}
		for _, v := range path {
			e.spread(v, o)
		}
	}
	clear(e.bound)
	e.bound = e.bound[:0]
}

// spread gives an outlook to a value and to all that wait for it.
func (e *Engine) spread(v *value, o outlook) {
	for todo := []*value{v}; len(todo) > 0; {
		v := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if v.outlook == o {
			continue
		}
		v.outlook = o
		e.setState(v, v.judge())
		for _, l := range v.waiters {
			todo = append(todo, l.from)
			if o == stuck {
				e.touch(l.from) // it may be hindered now
			}
		}
	}
}
