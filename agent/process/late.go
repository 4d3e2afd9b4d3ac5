package process

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"
)

const (
	// late is how long lines of a log may wait for more. Who reads them is woken by each write, and on a small
	// machine takes the processor that a reply is about to need.
	late = 3 * time.Millisecond
	// lateBytes may wait; who logs more than a reader takes waits for that.
	lateBytes = 64 << 10
)

// LateLog gives a log on w, of the handler that writes it. What is logged is written a few milliseconds later, and together;
// warnings and errors, and what was logged before, at once. Flush writes what waits. A process that is killed loses
// the lines of its last milliseconds.
func LateLog(w io.Writer, handler func(w io.Writer) slog.Handler) (log *slog.Logger, flush func()) {
	l := &lateWriter{w: w}
	return slog.New(lateHandler{handler(l), l}), l.flush
}

// lateHandler does not leave lines waiting that are of weight.
type lateHandler struct {
	slog.Handler
	late *lateWriter
}

// Handle is slog's.
func (h lateHandler) Handle(ctx context.Context, r slog.Record) error {
	err := h.Handler.Handle(ctx, r)
	if r.Level >= slog.LevelWarn {
		h.late.flush()
	}
	return err
}

// WithAttrs is slog's.
func (h lateHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return lateHandler{h.Handler.WithAttrs(attrs), h.late}
}

// WithGroup is slog's.
func (h lateHandler) WithGroup(name string) slog.Handler {
	return lateHandler{h.Handler.WithGroup(name), h.late}
}

// lateWriter keeps what is written until there is time.
type lateWriter struct {
	w     io.Writer
	order sync.Mutex // held while w is written to; taken before mu

	mu      sync.Mutex
	waiting []byte // a timer runs while there are any
}

// Write never fails: nobody could be told.
func (l *lateWriter) Write(line []byte) (int, error) {
	l.mu.Lock()
	if len(l.waiting) == 0 {
		time.AfterFunc(late, l.flush)
	}
	l.waiting = append(l.waiting, line...)
	full := len(l.waiting) > lateBytes
	l.mu.Unlock()
	if full {
		l.flush()
	}
	return len(line), nil
}

func (l *lateWriter) flush() {
	l.order.Lock()
	defer l.order.Unlock()
	l.mu.Lock()
	lines := l.waiting
	l.waiting = nil
	l.mu.Unlock()
	if len(lines) > 0 {
		l.w.Write(lines)
	}
}
