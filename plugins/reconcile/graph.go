package reconcile

import "slices"

// kind is what values with the same first part of the key share.
type kind struct {
	name       string
	descriptor descriptor // or
	facts      FactSource // or neither, for a kind that nobody registered
	words      string     // for one of the facts
	values     map[string]*value

	count   [Gone]int // of values, by state
	retries uint64

	// See resync.go.
	seen    uint64   // when what is known to exist of it was retrieved; 0: never
	paused  int      // retrievals for which its values must be left alone
	parked  []*value // the ready values that wait for those
	running int      // operations
	retry   *pass    // the retrieval to be repeated
	err     error    // why the last retrieval failed
}

// link is an edge of the graph: from stands on, or waits for, on.
type link struct {
	from, on *value
	at       int // its place in on.holders or on.waiters
}

func attach(list []*link, l *link) []*link {
	l.at = len(list)
	return append(list, l)
}

func detach(list []*link, l *link) []*link {
	last := len(list) - 1
	list[l.at] = list[last]
	list[l.at].at = l.at
	list[last] = nil
	return list[:last]
}

// kindNamed returns a kind, which it makes when there is none.
func (e *Engine) kindNamed(name string) *kind {
	k := e.kinds[name]
	if k == nil {
		k = &kind{name: name, values: map[string]*value{}}
		e.kinds[name] = k
	}
	return k
}

// find returns the node of a key, or nil.
func (e *Engine) find(key string) *value {
	if k := e.kinds[kindOf(key)]; k != nil {
		return k.values[key]
	}
	return nil
}

// node returns the node of a key, which it makes when there is none.
func (e *Engine) node(key string) *value {
	k := e.kindNamed(kindOf(key))
	v := k.values[key]
	if v == nil {
		v = &value{key: key, kind: k, state: Gone}
		v.wait.from = v
		v.gone = v.hollow()
		k.values[key] = v
	}
	return v
}

// nodes returns the nodes of keys.
func (e *Engine) nodes(keys []string) []*value {
	if len(keys) == 0 {
		return nil
	}
	out := make([]*value, len(keys))
	for i, key := range keys {
		out[i] = e.node(key)
	}
	return out
}

// forget drops a node that is of no use to anybody.
func (e *Engine) forget(v *value) {
	if v.users > 0 || len(v.holders) > 0 || v.owner != nil || v.is != absent || v.watched {
		return
	}
	e.calm(v)
	v.dead = true
	delete(v.kind.values, v.key)
	if k := v.kind; len(k.values) == 0 && k.descriptor == nil && k.facts == nil {
		delete(e.kinds, k.name)
	}
}

// hold makes v stand on needs, besides what it stands on already.
func (e *Engine) hold(v *value, needs []*value) {
	e.mark++
	for _, l := range v.holds {
		l.on.mark = e.mark
	}
	links := make([]link, 0, len(needs)) // one allocation for all
	for _, d := range needs {
		if d.mark == e.mark {
			continue
		}
		links = append(links, link{from: v, on: d})
		l := &links[len(links)-1]
		d.holders = attach(d.holders, l)
		v.holds = append(v.holds, l)
		if len(d.holders) == 1 {
			e.touch(d) // a fact that must be watched
		}
	}
}

// holdOnly makes v stand on needs only; it stands on all of them already.
func (e *Engine) holdOnly(v *value, needs []*value) {
	if len(v.holds) == len(needs) {
		return
	}
	e.mark++
	for _, d := range needs {
		d.mark = e.mark
	}
	v.holds = slices.DeleteFunc(v.holds, func(l *link) bool {
		if l.on.mark == e.mark {
			return false
		}
		l.on.holders = detach(l.on.holders, l)
		if len(l.on.holders) == 0 {
			e.touch(l.on)
		}
		return true
	})
	if len(v.holds) == 0 {
		v.holds = nil
	}
}

// await makes v wait for on, or for nothing.
func (e *Engine) await(v, on *value) {
	if old := v.wait.on; old != nil {
		old.waiters = detach(old.waiters, &v.wait)
	}
	if v.wait.on = on; on != nil {
		on.waiters = attach(on.waiters, &v.wait)
	}
}

// wake has all that wait for v decided anew.
func (e *Engine) wake(v *value) {
	for _, l := range v.waiters {
		e.touch(l.from)
	}
}

// circular reports whether v would stand on itself, by way of others, if it stood on needs.
func (e *Engine) circular(v *value, needs []*value) bool {
	if len(v.holders) == 0 {
		return slices.Contains(needs, v)
	}
	e.mark++
	for todo := slices.Clone(needs); len(todo) > 0; {
		d := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if d == v {
			return true
		}
		if d.mark == e.mark {
			continue
		}
		d.mark = e.mark
		for _, l := range d.holds {
			todo = append(todo, l.on)
		}
	}
	return false
}

// shake casts doubt on all that stands on v, directly or by way of others.
func (e *Engine) shake(v *value) {
	e.mark++
	for todo := []*value{v}; len(todo) > 0; {
		d := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, l := range d.holders {
			if h := l.from; h.mark != e.mark {
				h.mark = e.mark
				h.doubt()
				e.touch(h)
				todo = append(todo, h)
			}
		}
	}
}
