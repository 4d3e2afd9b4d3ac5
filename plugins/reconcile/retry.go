package reconcile

import (
	"math/rand/v2"
	"time"
)

// backoff returns how long to wait after the nth failure in a row: Options.MinBackoff,
// doubled each time, and up to a quarter more, so that what failed together is not all
// tried again together; never more than Options.MaxBackoff.
func (e *Engine) backoff(n int) time.Duration {
	d := e.opts.MaxBackoff / 5 * 4
	if low := e.opts.MinBackoff << min(n-1, 30); low < d {
		d = low
	}
	return d + rand.N(d/4+1)
}

// failed has the value tried again later.
func (e *Engine) failed(v *value, err error) {
	v.err = err
	v.attempts++
	if e.stopped {
		return
	}
	var t *time.Timer
	t = time.AfterFunc(e.backoff(int(v.attempts)), func() {
		e.mu.Lock()
		defer e.unlock()
		if v.timer == t && !e.stopped {
			v.timer = nil
			v.kind.retries++
			e.touch(v)
		}
	})
	v.timer = t
}

// calm forgets the failures of the value: what comes next is done at once.
func (e *Engine) calm(v *value) {
	v.err, v.attempts = nil, 0
	if v.timer != nil {
		v.timer.Stop()
		v.timer = nil
	}
}

// Lost says that something that was applied is gone or damaged. It is created again, and
// after it all that depends on it.
func (e *Engine) Lost(key string) {
	e.mu.Lock()
	defer e.unlock()
	if v := e.find(key); v != nil && v.is != absent {
		v.doubt()
		e.shake(v)
		e.touch(v)
	}
}
