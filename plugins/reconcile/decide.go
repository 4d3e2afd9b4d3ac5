package reconcile

// step is what is to be done about a value.
type step uint8

const (
	rest    step = iota // nothing
	await               // nothing before value.wait.on is firm
	vacate              // nothing before value.wait.on, which stands on it, is deleted
	compare             // ask whether what is there is what is wanted
	create
	update
	remove
	watch // ask the source of the fact to watch it
	unwatch
)

// work reports whether a worker does the step.
func (s step) work() bool { return s >= compare }

// touch has the value decided before the lock is released. Whoever changes anything
// that next, hollow or firm look at must touch the value.
func (e *Engine) touch(v *value) {
	if !v.touched {
		v.touched = true
		e.touched = append(e.touched, v)
	}
}

// settle decides what was touched, and what is touched by that. unlock does it, so that
// nobody sees anything undecided.
func (e *Engine) settle() {
	for len(e.touched) > 0 {
		for i := 0; i < len(e.touched); i++ {
			v := e.touched[i]
			v.touched = false
			e.decide(v)
		}
		clear(e.touched)
		e.touched = e.touched[:0]
		e.foresee()
	}
	if e.open {
		e.report()
	}
}

// decide draws the consequences of a change of the value: for itself, and for those that
// stand on it or wait for it.
func (e *Engine) decide(v *value) {
	if v.dead {
		return
	}
	if v.running { // its end decides
		e.setState(v, v.judge())
		return
	}
	e.weigh(v)
	step, on := v.next()
	v.step = step
	if on != v.wait.on {
		e.await(v, on)
		e.bound = append(e.bound, v)
	} else if on == nil && v.outlook != v.nature() {
		e.bound = append(e.bound, v)
	}
	e.setState(v, v.judge())
	switch {
	case step.work() && v.timer == nil:
		e.enqueue(v)
	case v.firm():
		e.wake(v)
	case step == rest && v.state == Gone:
		e.own(v, nil)
		e.forget(v)
	}
}

// weigh finds out whether the value must be deleted, and tells those that stand on it.
// What is to be updated stays while what it will need is on its way; when that is stuck it
// is deleted, and nothing that happens before it is gone changes that again.
func (e *Engine) weigh(v *value) {
	if v.is == present && v.fit == different && v.wanted() && v.hindered() {
		v.recreate = true
	}
	leaving := v.is != absent && v.unfit()
	if leaving != v.leaving {
		v.leaving = leaving
		e.calm(v)
	}
	if gone := v.hollow(); gone != v.gone {
		v.gone = gone
		for _, l := range v.holders {
			e.touch(l.from)
		}
	}
}

// unfit reports whether what is there of the value must be deleted.
func (v *value) unfit() bool {
	return !v.wanted() || v.recreate || v.undermined() ||
		v.is != present && v.fit == different // what was tried is not what is wanted
}

// next returns what is to be done about the value and, with await and vacate, for which
// other it waits.
func (v *value) next() (step, *value) {
	if v.kind.facts != nil {
		return v.nextOfFact(), nil
	}
	switch {
	case v.leaving && len(v.holders) > 0:
		return vacate, v.holders[0].from
	case v.leaving:
		return remove, nil
	case !v.wanted() || v.owner.bad != nil:
		return rest, nil
	case v.is != absent && v.fit == unknown:
		return compare, nil
	case v.is == present && v.fit == same:
		return rest, nil
	}
	if d := v.missing(); d != nil {
		return await, d
	}
	switch {
	case v.hollow() && len(v.holders) > 0:
		return vacate, v.holders[0].from
	case v.is == present || v.is == between:
		return update, nil
	default:
		return create, nil
	}
}

func (v *value) nextOfFact() step {
	used := v.users > 0 || len(v.holders) > 0
	switch {
	case used && !v.watched:
		return watch
	case !used && v.watched:
		return unwatch
	default:
		return rest
	}
}

// judge returns the state of the value; Gone: it does not count.
func (v *value) judge() State {
	switch {
	case !v.wanted() && v.is == absent:
		return Gone
	case v.wanted() && v.owner.bad != nil && !v.leaving:
		return Failed
	case v.running && v.err == nil:
		return Applying
	case v.wait.on != nil && v.outlook != coming:
		return Pending
	case v.wait.on != nil:
		return Applying
	case v.step == rest:
		return Applied
	case v.err != nil:
		return Failed
	case v.kind.paused > 0 && v.kind.err != nil:
		return Pending
	default:
		return Applying
	}
}

// setState counts the value, and its claim, by its state.
func (e *Engine) setState(v *value, s State) {
	if v.state != s {
		if v.state != Gone {
			v.kind.count[v.state]--
		}
		if s != Gone {
			v.kind.count[s]++
		}
		v.state = s
	}
	if v.owner != nil {
		e.move(v.owner, s)
	}
}
