package store

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"time"

	"go.patchbay.dev/models"
)

const (
	// settle is how long what has changed waits for more: what changes twice at once is
	// written once, and nothing waits for the disk together with the next record.
	settle = 50 * time.Millisecond
	// writeAgain is the pause after a write that failed.
	writeAgain = time.Second
)

// Writer is what a Mirror needs of a [Store].
type Writer interface {
	List(ctx context.Context, prefix string) ([]KV, int64, error)
	Write(ctx context.Context, puts []KV, deletes []string) (int64, error)
}

// Tell gives what the key of a name is to hold. There is false: no such key. A value of nil
// that is there: it is not known yet, and the key stays as it is.
type Tell func(name string) (value []byte, there bool)

// Mirror keeps the keys under a prefix, one a name, as a room tells, beside that room's work:
// what changes together is written together, and nothing that is there already.
type Mirror struct {
	store  Writer
	prefix string
	tell   Tell
	log    *slog.Logger
	work   chan struct{} // of size one: there is something to do

	mu    sync.Mutex
	dirty map[string]bool // names to ask about
	all   bool            // ask about all that is written, too
}

// NewMirror makes a Mirror that writes nothing until Run. Tell is called with no lock held.
func NewMirror(s Writer, prefix string, tell Tell, log *slog.Logger) *Mirror {
	return &Mirror{store: s, prefix: prefix, tell: tell, log: log, work: make(chan struct{}, 1), dirty: map[string]bool{}}
}

// Touch has the value of a name looked at soon: it may have changed.
func (m *Mirror) Touch(name string) {
	m.mu.Lock()
	m.dirty[name] = true
	m.mu.Unlock()
	m.kick()
}

// TouchAll has every key looked at that there is: some may be left of what went while nobody
// was there to see.
func (m *Mirror) TouchAll() {
	m.mu.Lock()
	m.all = true
	m.mu.Unlock()
	m.kick()
}

func (m *Mirror) kick() {
	select {
	case m.work <- struct{}{}:
	default:
	}
}

// Run writes until ctx ends.
func (m *Mirror) Run(ctx context.Context) {
	written, err := m.load(ctx)
	for err != nil {
		if !Pause(ctx, writeAgain) {
			return
		}
		written, err = m.load(ctx)
	}
	for {
		select {
		case <-m.work:
		case <-ctx.Done():
			return
		}
		if !Pause(ctx, settle) {
			return
		}
		if err := m.flush(ctx, written); err != nil {
			m.log.Debug("written later", "key", m.prefix, "err", err)
			if !Pause(ctx, writeAgain) {
				return
			}
			m.kick()
		}
	}
}

// load reads what is in etcd, by name, so that a restart writes nothing again.
func (m *Mirror) load(ctx context.Context) (map[string][]byte, error) {
	kvs, _, err := m.store.List(ctx, m.prefix)
	if err != nil {
		return nil, err
	}
	written := make(map[string][]byte, len(kvs))
	for _, kv := range kvs {
		if name, err := models.Name(m.prefix, kv.Key); err == nil {
			written[name] = kv.Value
		}
	}
	return written, nil
}

// flush writes what is dirty and differs from what is written; what fails stays dirty.
func (m *Mirror) flush(ctx context.Context, written map[string][]byte) error {
	m.mu.Lock()
	dirty, all := m.dirty, m.all
	m.dirty, m.all = map[string]bool{}, false
	m.mu.Unlock()
	if all {
		for name := range written {
			dirty[name] = true
		}
	}
	now := map[string][]byte{} // of one write; nil: deleted
	for name := range dirty {
		value, there := m.tell(name)
		old, known := written[name]
		if there && (value == nil || known && bytes.Equal(old, value)) || !there && !known {
			delete(dirty, name)
			continue
		}
		now[name] = value
		if len(now) == MaxWrite {
			if err := m.write(ctx, written, now); err != nil {
				m.again(dirty)
				return err
			}
			for name := range now {
				delete(dirty, name)
			}
			clear(now)
		}
	}
	err := m.write(ctx, written, now)
	if err != nil {
		m.again(dirty)
	}
	return err
}

func (m *Mirror) again(dirty map[string]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name := range dirty {
		m.dirty[name] = true
	}
}

func (m *Mirror) write(ctx context.Context, written, now map[string][]byte) error {
	var puts []KV
	var deletes []string
	for name, value := range now {
		key := m.prefix + models.Escape(name)
		if value == nil {
			deletes = append(deletes, key)
		} else {
			puts = append(puts, KV{Key: key, Value: value})
		}
	}
	if len(now) > 0 {
		if _, err := m.store.Write(ctx, puts, deletes); err != nil {
			return err
		}
	}
	for name, value := range now {
		if value == nil {
			delete(written, name)
		} else {
			written[name] = value
		}
	}
	return nil
}

// Pause waits for d, or until ctx ends, and reports whether ctx is still alive.
func Pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
