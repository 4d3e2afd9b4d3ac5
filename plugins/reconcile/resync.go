package reconcile

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"time"
)

// pass is one look at what exists of a kind. The values of the kind are left alone meanwhile.
type pass struct {
	kind    *kind
	begun   uint64 // the turn when it was last begun
	found   []found
	err     error
	attempt int         // that failed, so far
	timer   *time.Timer // of the next attempt
}

// Start retrieves what exists of every kind, all kinds at once, adopts it and lets work
// begin: what is there and equal to what is wanted is left alone, what differs is updated,
// what nobody wants is deleted, what is missing is created. So what is wanted must have
// been applied before. Start returns when what was retrieved is adopted and the work is
// queued. A kind that cannot be retrieved is left alone, and tried again with backoff.
// The error is that of ctx, and then nothing has begun, or ErrStopped.
func (e *Engine) Start(ctx context.Context) error {
	e.mu.Lock()
	passes, err := e.pause(nil)
	first := !e.started
	if err == nil {
		e.started, e.open = true, true
	}
	e.unlock()
	if err != nil {
		return err
	}
	return e.survey(ctx, passes, first)
}

// Resync does the same as Start for some kinds again, or with none named for all, because
// their world may have changed behind the engine's back. The others go on meanwhile. A kind
// that cannot be retrieved is tried again in the background, also when ctx has ended, whose
// error is returned then. Before Start it does nothing.
func (e *Engine) Resync(ctx context.Context, kinds ...string) error {
	e.mu.Lock()
	if !e.started {
		e.mu.Unlock()
		return nil
	}
	passes, err := e.pause(kinds)
	e.mu.Unlock()
	if err != nil {
		return err
	}
	return e.survey(ctx, passes, false)
}

// pause has the values of some kinds left alone, or with none named of all, for a
// survey that must follow.
func (e *Engine) pause(names []string) ([]*pass, error) {
	if e.stopped {
		return nil, ErrStopped
	}
	kinds, err := e.described(names)
	if err != nil {
		return nil, err
	}
	e.wg.Add(1)
	e.passes++
	var passes []*pass
	for _, k := range kinds {
		k.paused++
		passes = append(passes, &pass{kind: k})
	}
	return passes, nil
}

// described returns the named kinds, or with none named all that have a descriptor.
func (e *Engine) described(names []string) (kinds []*kind, err error) {
	for _, name := range names {
		k := e.registry[name]
		if k == nil || k.descriptor == nil {
			return nil, fmt.Errorf("there is no descriptor for the kind %q", name)
		}
		kinds = append(kinds, k)
	}
	if len(names) > 0 {
		return kinds, nil
	}
	for _, k := range e.registry {
		if k.descriptor != nil {
			kinds = append(kinds, k)
		}
	}
	return kinds, nil
}

// survey retrieves what exists of all paused kinds before it adopts any of it, so that
// what depends on what is known before something is deleted.
func (e *Engine) survey(ctx context.Context, passes []*pass, first bool) error {
	defer e.wg.Done()
	var err error
	if first { // a fact that is watched cannot take what was found with it unnoticed
		err = e.wait(ctx, e.idle)
	}
	if err == nil {
		e.retrieveAll(ctx, passes)
		err = ctx.Err()
	}
	e.mu.Lock()
	defer e.unlock()
	e.passes--
	switch {
	case e.stopped:
		return ErrStopped
	case err != nil && first:
		e.started, e.open = false, false
		for _, p := range passes {
			e.resume(p.kind)
		}
		return err
	}
	for _, p := range passes {
		if p.err == nil && p.begun > p.kind.seen { // else another look was newer
			e.adopt(p)
		}
	}
	for _, p := range passes {
		e.conclude(p)
	}
	return err
}

// retrieveAll retrieves what exists of some kinds, all at once, until ctx or the engine ends.
func (e *Engine) retrieveAll(ctx context.Context, passes []*pass) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.ctx, cancel)()
	var wg sync.WaitGroup
	for _, p := range passes {
		wg.Go(func() { e.retrieve(ctx, p) })
	}
	wg.Wait()
}

// retrieve asks the descriptor what exists, after the operations on its kind have ended.
func (e *Engine) retrieve(ctx context.Context, p *pass) {
	k, before := p.kind, p.err
	if p.err = e.drain(ctx, p); p.err == nil {
		p.err = e.guard(k.name, func() (err error) {
			p.found, err = k.descriptor.retrieve(ctx, e.wantedOf(k))
			return err
		})
	}
	if p.err == nil {
		p.err = e.match(p)
	}
	if p.err != nil && (before == nil || before.Error() != p.err.Error()) {
		e.opts.Log.Warn("cannot retrieve what exists, will try again", "kind", k.name, "err", p.err)
	}
}

// drain waits until no operation runs on a paused kind.
func (e *Engine) drain(ctx context.Context, p *pass) error {
	err := e.wait(ctx, func() bool { return p.kind.running == 0 })
	e.mu.Lock()
	defer e.mu.Unlock()
	e.turn++
	p.begun = e.turn
	return err
}

// wantedOf yields what is wanted of a kind when it is asked.
func (e *Engine) wantedOf(k *kind) iter.Seq2[string, any] {
	return func(yield func(string, any) bool) {
		e.mu.Lock()
		all := make([]Value, 0, len(k.values))
		for _, v := range k.values {
			if v.wanted() && v.owner.bad == nil {
				all = append(all, Value{v.key, v.owner.spec})
			}
		}
		e.mu.Unlock()
		for _, v := range all {
			if !yield(v.Key, v.Spec) {
				return
			}
		}
	}
}

// conclude lets the values of a retrieved kind be worked on, or sees to it that it is
// retrieved again.
func (e *Engine) conclude(p *pass) {
	k := p.kind
	switch {
	case p.err == nil || p.begun < k.seen:
		if k.retry != nil && k.retry.timer.Stop() {
			k.retry = nil
			e.resume(k)
		}
		e.resume(k)
	case k.retry != nil:
		e.resume(k) // that one will do
	default:
		p.attempt++
		k.retry = p
		k.err = p.err
		for _, v := range k.parked {
			e.touch(v)
		}
		p.timer = time.AfterFunc(e.backoff(p.attempt), func() { e.repeat(p) })
	}
}

// repeat is the next attempt of a pass.
func (e *Engine) repeat(p *pass) {
	e.mu.Lock()
	if e.stopped {
		e.mu.Unlock()
		return
	}
	p.kind.retry = nil
	p.kind.retries++
	e.passes++
	e.wg.Add(1)
	e.mu.Unlock()
	if err := e.survey(e.ctx, []*pass{p}, false); err != nil {
		e.opts.Log.Debug("stopped while retrieving", "kind", p.kind.name)
	}
}

// resume ends a pause; after the last one the values of the kind are worked on again.
func (e *Engine) resume(k *kind) {
	if k.paused--; k.paused > 0 {
		return
	}
	for _, v := range k.parked {
		v.queued = false
		e.touch(v)
	}
	k.parked = nil
}
