package reconcile

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// enqueue has a worker do the next step of the value.
func (e *Engine) enqueue(v *value) {
	if !v.queued {
		v.queued = true
		e.ready.push(v)
	}
}

// hire has as many workers begin as there is work for, and somebody to tell the news.
func (e *Engine) hire() {
	if !e.open || e.stopped {
		return
	}
	n := min(e.ready.len()-e.hired, e.opts.Workers-e.workers)
	for range n {
		e.workers++
		e.hired++
		if e.resting > 0 {
			e.resting--
			e.call <- struct{}{}
		} else {
			e.wg.Go(e.work)
		}
	}
	if n > 0 {
		// What was begun last waits for this goroutine to pause, or for another processor that looks for work
		// and then sleeps, some 50 µs and more, before it takes that (runtime, runqgrab). So that is not a worker.
		go func() {}()
	}
	if e.news.len() > 0 && !e.telling {
		e.telling = true
		e.wg.Go(func() { e.mu.Lock(); e.tell() })
	}
}

// work is a worker: it stays until Stop, since the stack of a new one is copied several times as it grows.
func (e *Engine) work() {
	for {
		e.shift()
		select {
		case <-e.call:
		case <-e.ctx.Done():
			return
		}
	}
}

// shift does what is ready until nothing is, and then tells the news if nobody does.
func (e *Engine) shift() {
	e.mu.Lock()
	e.hired--
	for {
		t, ok := e.take()
		if !ok {
			break
		}
		e.unlock()
		e.run(&t)
		e.mu.Lock()
		e.finish(&t)
		e.settle()
	}
	e.workers--
	if e.news.len() > 0 && !e.telling {
		e.tell()
		e.mu.Lock()
	}
	e.resting++
	e.unlock()
}

// task is a step of a value on its way through a worker.
type task struct {
	v      *value
	step   step
	old    any      // what is there; remove: what is to be deleted
	prev   any      // remove, after a failed Update: what is to be deleted besides
	want   any      // what is wanted
	needs  []*value // its dependencies
	turn   uint64   // of what was wanted at the start
	was    presence // at the start
	before error    // of the last attempt

	yes bool // compare: no change is needed; watch: the fact is there
	err error
}

// take starts the next task, if there is one.
func (e *Engine) take() (task, bool) {
	for e.ready.len() > 0 && !e.stopped {
		v := e.ready.pop()
		if v.kind.paused > 0 {
			v.kind.parked = append(v.kind.parked, v)
			e.touch(v)
			continue
		}
		v.queued = false
		if v.dead || v.running || v.timer != nil {
			continue
		}
		step, _ := v.next()
		switch {
		case (step == create || step == update) && e.circular(v, v.owner.needs):
			v.recreate = true // the circle falls apart, and all in it wait
		case step.work():
			return e.start(v, step), true
		}
		e.touch(v) // something came between
	}
	return task{}, false
}

// start notes that a step begins: from now on what is there is uncertain.
func (e *Engine) start(v *value, s step) task {
	t := task{v: v, step: s, old: v.spec, turn: v.turn(), was: v.is, before: v.err}
	v.step, v.running = s, true
	v.kind.running++
	if v.wanted() {
		t.want, t.needs = v.owner.spec, v.owner.needs
	}
	switch s {
	case create:
		e.hold(v, t.needs)
		v.is, v.spec, v.fit = unsure, t.want, same
	case update:
		e.hold(v, t.needs)
		if v.is == present {
			v.prev = v.spec
		}
		t.old = v.prev
		v.is, v.spec, v.fit = between, t.want, same
	case remove:
		if v.is == between {
			t.prev, v.recreate = v.prev, true
		} else {
			v.is = unsure
		}
	case watch:
		v.observed = false
	}
	return t
}

// run does the task, without the lock.
func (e *Engine) run(t *task) {
	k, key := t.v.kind, t.v.key
	ctx := context.Background()
	var what string
	switch t.step {
	case compare:
		what, t.err = "compare", e.guard(key, func() error { t.yes = k.descriptor.equal(t.old, t.want); return nil })
	case create:
		what, t.err = "create", e.timed("create", key, func() error { return k.descriptor.create(ctx, key, t.want) })
	case update:
		what, t.err = "update", e.timed("update", key, func() error { return k.descriptor.update(ctx, key, t.old, t.want) })
	case remove:
		what, t.err = "delete", e.timed("delete", key, func() error { return k.descriptor.delete(ctx, key, t.old) })
		if t.err == nil && t.was == between {
			t.err = e.timed("delete", key, func() error { return k.descriptor.delete(ctx, key, t.prev) })
		}
	case watch:
		what, t.err = "watch", e.guard(key, func() error { t.yes = k.facts.Watch(key); return nil })
	case unwatch:
		what, t.err = "unwatch", e.guard(key, func() error { k.facts.Unwatch(key); return nil })
	}
	if t.err == nil || t.recreate() {
		return
	}
	t.err = fmt.Errorf("%s %s: %w", what, key, t.err)
	if t.before == nil || t.before.Error() != t.err.Error() { // said once, not at every attempt
		e.opts.Log.Warn("cannot apply, will try again", "key", key, "err", t.err)
	}
}

// timed makes a call that changes the world.
func (e *Engine) timed(operation, key string, f func() error) error {
	if e.opts.OnCall == nil {
		return e.guard(key, f)
	}
	begin := time.Now()
	err := e.guard(key, f)
	e.opts.OnCall(Call{kindOf(key), operation, time.Since(begin), err})
	return err
}

// guard makes a panic of a descriptor or source an error.
func (e *Engine) guard(key string, f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
			e.opts.Log.Error("panic in a descriptor", "key", key, "panic", r, "stack", string(debug.Stack()))
		}
	}()
	return f()
}

// recreate reports whether an Update touched nothing because it cannot be done in place.
func (t *task) recreate() bool { return t.step == update && errors.Is(t.err, ErrRecreate) }

// finish notes what has become of a task.
func (e *Engine) finish(t *task) {
	v := t.v
	v.running = false
	v.kind.running--
	switch {
	case t.err == nil:
		e.succeeded(t)
	case t.recreate():
		e.refused(t)
	case t.turn == v.turn():
		e.failed(v, t.err)
	}
	if v.lost {
		v.lost = false
		v.doubt()
	}
	e.touch(v)
}

// succeeded notes what the world is like after a task.
func (e *Engine) succeeded(t *task) {
	v := t.v
	switch t.step {
	case compare:
		e.compared(t)
		return
	case create, update:
		v.is, v.prev = present, nil
		e.holdOnly(v, t.needs)
	case remove:
		v.clear()
		e.holdOnly(v, nil)
	case watch:
		v.watched = true
		if !v.observed {
			v.there = t.yes
		}
	case unwatch:
		v.watched, v.there = false, false
	}
	e.calm(v)
}

// compared notes whether what is there is what is wanted, unless that has changed meanwhile.
func (e *Engine) compared(t *task) {
	v := t.v
	switch {
	case t.turn != v.turn():
	case !t.yes:
		v.fit = different
	default:
		v.fit, v.spec = same, t.want
		if v.is == present {
			e.hold(v, t.needs)
			e.holdOnly(v, t.needs)
			e.calm(v)
		}
	}
}

// refused notes that an Update touched nothing: what was there is there still.
func (e *Engine) refused(t *task) {
	v := t.v
	if t.was == present {
		v.is, v.spec, v.prev = present, t.old, nil
	}
	if v.fit == same {
		v.fit, v.recreate = different, true
	}
}
