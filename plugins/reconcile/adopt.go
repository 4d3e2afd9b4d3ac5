package reconcile

import (
	"fmt"
	"slices"
)

// match compares what was found with what is wanted, a few at a time, so that what is
// as it should be costs next to nothing while the lock is held.
func (e *Engine) match(p *pass) error {
	for few := range slices.Chunk(p.found, 100) {
		var want [100]any
		e.mu.Lock()
		for i := range few {
			want[i] = p.kind.lookup(&few[i])
		}
		e.mu.Unlock()
		for i := range few {
			if err := e.matchOne(p.kind, &few[i], want[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// lookup completes what was found by what is known, and returns what is wanted.
func (k *kind) lookup(f *found) (want any) {
	f.v = k.values[f.key]
	if f.v == nil || !f.v.wanted() || f.v.owner.bad != nil {
		return nil
	}
	f.turn = f.v.owner.turn
	return f.v.owner.spec
}

// matchOne asks the descriptor about one thing that was found, without the lock.
func (e *Engine) matchOne(k *kind, f *found, want any) error {
	if kindOf(f.key) != k.name {
		return fmt.Errorf("what was found is not of the kind %q: %q", k.name, f.key)
	}
	err := e.guard(f.key, func() error {
		f.needs = k.descriptor.dependencies(f.key, f.spec)
		f.same = f.turn > 0 && k.descriptor.equal(f.spec, want)
		return nil
	})
	if err != nil {
		return fmt.Errorf("%s: %w", f.key, err)
	}
	return nil
}

// adopt takes what was found for what there is of a kind.
func (e *Engine) adopt(p *pass) {
	k := p.kind
	first := k.seen == 0 // so far none of its values was hollow
	k.seen, k.err = p.begun, nil
	for i := range p.found {
		f := &p.found[i]
		if f.v == nil || f.v.dead {
			f.v = e.node(f.key)
		}
		f.v.pass = p.begun
		e.adoptOne(f)
	}
	for _, v := range k.values {
		if v.pass == p.begun {
			continue
		}
		if v.is != absent {
			v.clear()
			e.calm(v)
			e.holdOnly(v, nil)
			e.touch(v)
		} else if first {
			e.touch(v)
		}
	}
}

// adoptOne takes one thing that was found for what there is of its value.
func (e *Engine) adoptOne(f *found) {
	v := f.v
	isWant := f.same && f.turn == v.turn()
	if isWant && v.is == present && v.fit == same {
		return // as known
	}
	v.clear()
	e.calm(v)
	v.is, v.spec = present, f.spec
	var needs []*value
	if isWant {
		v.fit, v.spec, needs = same, v.owner.spec, v.owner.needs
	} else {
		needs = e.nodes(f.needs)
	}
	if e.circular(v, needs) { // nonsense, but nothing to wait for ever after
		needs = nil
	}
	e.hold(v, needs)
	e.holdOnly(v, needs)
	e.touch(v)
}
