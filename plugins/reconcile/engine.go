package reconcile

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// ErrStopped is returned by what cannot be done after Stop.
var ErrStopped = errors.New("the engine is stopped")

// Options of an Engine; the zero value is good.
type Options struct {
	Workers    int           // operations at the same time; 0: 16
	MinBackoff time.Duration // until something failed is tried again the first time; 0: 100 ms
	MaxBackoff time.Duration // between later attempts; 0: 30 s
	Log        *slog.Logger  // nil: no log

	// OnStatus is called when a group settles: when it becomes Pending, Applied, Failed
	// (it is still tried again) or Gone, for another reason than before, or for another
	// revision. Calls come one after another, in order; a group that changes faster than
	// calls return is told as it is in the end. It may call the engine, but not Stop.
	OnStatus func(Status)
	// OnCall is called after every Create, Update and Delete, by many goroutines at once.
	OnCall func(Call)
}

// Call is one call of a descriptor that may have changed the world.
type Call struct {
	Kind      string
	Operation string // create, update or delete
	Took      time.Duration
	Err       error // ErrRecreate is none that went wrong
}

// Engine makes the world match what is wanted. Its methods may be called by many
// goroutines at once, and none of them calls a descriptor with a lock held.
type Engine struct {
	opts     Options
	registry map[string]*kind // the kinds that are registered; constant after the first Apply
	ctx      context.Context  // ends with Stop
	cancel   context.CancelFunc
	wg       sync.WaitGroup // of all goroutines

	mu      sync.Mutex // guards what follows, and all that hangs from it
	kinds   map[string]*kind
	groups  map[string]*group
	turn    uint64   // of the last wish
	mark    uint64   // of the last walk
	touched []*value // to be decided
	bound   []*value // that began to wait, or stopped, or changed their nature
	changed []*group // to be reported on
	ready   queue[*value]
	news    queue[*group]

	started bool // Start was called
	open    bool // work may be done
	stopped bool
	workers int  // that work
	hired   int  // of them, those that did not begin yet
	resting int  // workers that wait for a call
	telling bool // OnStatus is being called
	passes  int  // surveys under way
	waits   []waiter

	call chan struct{} // has a worker begin that rests
}

// New returns an engine that only collects until Start.
func New(o Options) *Engine {
	if o.Workers <= 0 {
		o.Workers = 16
	}
	if o.MinBackoff <= 0 {
		o.MinBackoff = 100 * time.Millisecond
	}
	if o.MaxBackoff <= 0 {
		o.MaxBackoff = 30 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	e := &Engine{opts: o, registry: map[string]*kind{}, kinds: map[string]*kind{}, groups: map[string]*group{},
		call: make(chan struct{}, o.Workers)}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	return e
}

// register returns a kind that has no descriptor and no source of facts yet.
func (e *Engine) register(name string) *kind {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.started || e.registry[name] != nil {
		panic("reconcile: the kind " + name + " is registered twice, or after Start")
	}
	k := e.kindNamed(name)
	e.registry[name] = k
	return k
}

// unlock draws the consequences of what was done under the lock, and releases it.
func (e *Engine) unlock() {
	e.settle()
	e.hire()
	e.waits = slices.DeleteFunc(e.waits, func(w waiter) bool {
		if !w.until() && !e.stopped {
			return false
		}
		close(w.done)
		return true
	})
	e.mu.Unlock()
}

// waiter is somebody who waits for something that is looked at with the lock.
type waiter struct {
	until func() bool
	done  chan struct{}
}

// wait waits until something is so. It returns the error of ctx, or ErrStopped.
func (e *Engine) wait(ctx context.Context, until func() bool) error {
	w := waiter{until, make(chan struct{})}
	e.mu.Lock()
	e.waits = append(e.waits, w)
	e.unlock()
	select {
	case <-ctx.Done():
		e.mu.Lock()
		e.waits = slices.DeleteFunc(e.waits, func(o waiter) bool { return o.done == w.done })
		e.mu.Unlock()
		return ctx.Err()
	case <-w.done:
	}
	if e.ctx.Err() != nil {
		return ErrStopped
	}
	return nil
}

// Settle waits until nothing can be done: what is left waits for something outside or for
// its next attempt, and OnStatus has returned. It returns the error of ctx, or ErrStopped.
func (e *Engine) Settle(ctx context.Context) error {
	return e.wait(ctx, func() bool { return e.idle() && !e.telling && e.passes == 0 })
}

// idle reports whether no operation runs or could.
func (e *Engine) idle() bool { return e.workers == 0 && e.ready.len() == 0 }

// Stop waits for the operations and the OnStatus that are running and lets nothing new
// begin. It leaves the world as it is. An engine that was stopped cannot be started again.
func (e *Engine) Stop() {
	e.mu.Lock()
	e.stopped = true
	e.cancel()
	for _, k := range e.kinds {
		for _, v := range k.values {
			if v.timer != nil {
				v.timer.Stop()
			}
		}
		if k.retry != nil {
			k.retry.timer.Stop()
		}
	}
	e.unlock()
	e.wg.Wait()
}
