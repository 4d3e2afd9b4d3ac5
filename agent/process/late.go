package process

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"sync"
	"time"
)

const (
	// late is how long lines of a log may wait for more. Who reads them is woken by each write, and on a small
	// machine takes the processor that a reply is about to need; so does putting them into words.
	late = 3 * time.Millisecond
	// lateLines may wait; who logs more than a reader takes waits for that.
	lateLines = 256
)

// LateLog gives a log on w, of the handler that writes it. What is logged is put into words and written a few milliseconds
// later, and together; at once what is a warning or worse, or may change until then, and what was logged before it. Flush
// writes what waits. A process that is killed loses the lines of its last milliseconds.
func LateLog(w io.Writer, handler func(w io.Writer) slog.Handler) (log *slog.Logger, flush func()) {
	l := &lateLog{w: w}
	return slog.New(lateHandler{handler(&l.text), l}), l.flush
}

// lateHandler leaves lines waiting that are of no weight.
type lateHandler struct {
	slog.Handler
	late *lateLog
}

// Handle is slog's.
func (h lateHandler) Handle(_ context.Context, r slog.Record) error {
	if h.late.add(line{h.Handler, r}) || r.Level >= slog.LevelWarn || changeable(r) {
		h.late.flush()
	}
	return nil
}

// WithAttrs is slog's.
func (h lateHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return lateHandler{h.Handler.WithAttrs(attrs), h.late}
}

// WithGroup is slog's.
func (h lateHandler) WithGroup(name string) slog.Handler {
	return lateHandler{h.Handler.WithGroup(name), h.late}
}

// changeable tells whether a value of the line may be another by the time that it is put into words.
func changeable(r slog.Record) (yes bool) {
	r.Attrs(func(a slog.Attr) bool {
		switch a.Value.Kind() {
		case slog.KindAny, slog.KindLogValuer, slog.KindGroup:
			yes = true
		}
		return !yes
	})
	return yes
}

// line is one that waits for the handler that puts it into words.
type line struct {
	handler slog.Handler
	record  slog.Record
}

// lateLog keeps what is logged until there is time.
type lateLog struct {
	order sync.Mutex // held while lines are written; taken before mu
	w     io.Writer
	text  bytes.Buffer // what the handlers write to

	mu      sync.Mutex
	waiting []line // a timer runs while there are any
}

// add has a line wait; full tells that no more should.
func (l *lateLog) add(n line) (full bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		time.AfterFunc(late, l.flush)
	}
	l.waiting = append(l.waiting, n)
	return len(l.waiting) >= lateLines
}

// flush leaves out what cannot be written: nobody could be told.
func (l *lateLog) flush() {
	l.order.Lock()
	defer l.order.Unlock()
	l.mu.Lock()
	lines := l.waiting
	l.waiting = nil
	l.mu.Unlock()
	for _, n := range lines {
		n.handler.Handle(context.Background(), n.record)
	}
	if l.text.Len() > 0 {
		l.w.Write(l.text.Bytes())
		l.text.Reset()
	}
}
