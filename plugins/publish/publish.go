// Package publish writes statuses to etcd beside the work.
package publish

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/store"
)

const (
	// settle is how long a status may wait for a newer one of the same record, so that
	// what changes twice at once is written once, and that it does not wait for the disk
	// together with the next record.
	settle = 50 * time.Millisecond
	// retry is the pause after a failed write.
	retry = time.Second
)

// Store is what this room needs of plugins/store.
type Store interface {
	List(ctx context.Context, prefix string) ([]store.KV, int64, error)
	Write(ctx context.Context, puts []store.KV, deletes []string) (int64, error)
}

// Publisher writes the statuses under one prefix: the newest of each record, and none that
// is there already. Its methods may be called at the same time.
type Publisher struct {
	store  Store
	prefix string
	log    *slog.Logger
	work   chan struct{} // of size one: there is something to write

	mu     sync.Mutex
	dirty  map[string]proto.Message // nil: to be removed
	exists func(id string) bool     // once set: statuses of other ids are removed
}

// New makes a Publisher of the statuses under a prefix, which ends with a slash.
func New(s Store, prefix string, log *slog.Logger) *Publisher {
	return &Publisher{store: s, prefix: prefix, log: log, work: make(chan struct{}, 1), dirty: map[string]proto.Message{}}
}

// Put has the status of a record written soon. The message must not change any more.
func (w *Publisher) Put(id string, s proto.Message) {
	w.mu.Lock()
	w.dirty[id] = s
	w.mu.Unlock()
	w.kick()
}

// Remove has the status of a record removed soon.
func (w *Publisher) Remove(id string) { w.Put(id, nil) }

// Prune has every status removed of whose id exists says no: what a record left that was
// deleted while the agent was away.
func (w *Publisher) Prune(exists func(id string) bool) {
	w.mu.Lock()
	w.exists = exists
	w.mu.Unlock()
	w.kick()
}

func (w *Publisher) kick() {
	select {
	case w.work <- struct{}{}:
	default:
	}
}

// Run writes until ctx ends.
func (w *Publisher) Run(ctx context.Context) {
	written, err := w.load(ctx)
	for err != nil {
		if !pause(ctx, retry) {
			return
		}
		written, err = w.load(ctx)
	}
	for {
		select {
		case <-w.work:
		case <-ctx.Done():
			return
		}
		if !pause(ctx, settle) {
			return
		}
		if err := w.flush(ctx, written); err != nil {
			w.log.Debug("statuses are written later", "err", err)
			if !pause(ctx, retry) {
				return
			}
			w.kick()
		}
	}
}

// load reads what is in etcd, so that a restart writes nothing again.
func (w *Publisher) load(ctx context.Context) (map[string][]byte, error) {
	kvs, _, err := w.store.List(ctx, w.prefix)
	if err != nil {
		return nil, err
	}
	written := make(map[string][]byte, len(kvs))
	for _, kv := range kvs {
		if id, err := models.Name(w.prefix, kv.Key); err == nil {
			written[id] = kv.Value
		}
	}
	return written, nil
}

// flush writes what is dirty; what fails stays dirty.
func (w *Publisher) flush(ctx context.Context, written map[string][]byte) error {
	w.mu.Lock()
	dirty, exists := w.dirty, w.exists
	w.dirty, w.exists = map[string]proto.Message{}, nil
	w.mu.Unlock()
	if exists != nil {
		for id := range written {
			if _, ok := dirty[id]; !ok && !exists(id) {
				dirty[id] = nil
			}
		}
	}
	var failed error
	var batch changes
	for id, s := range dirty {
		if failed == nil {
			failed = batch.add(w, written, id, s)
		}
		if failed == nil && len(batch.ids) == store.MaxWrite {
			failed = w.write(ctx, written, &batch)
		}
		if failed != nil {
			w.again(id, s)
		}
	}
	if failed == nil {
		failed = w.write(ctx, written, &batch)
	}
	if failed != nil {
		for _, id := range batch.ids {
			w.again(id, dirty[id])
		}
	}
	return failed
}

// changes are statuses that are written at once.
type changes struct {
	ids     []string
	puts    []store.KV
	deletes []string
}

// add adds a status, unless that is what is written already.
func (c *changes) add(w *Publisher, written map[string][]byte, id string, s proto.Message) error {
	key := w.prefix + models.Escape(id)
	if s == nil {
		if _, there := written[id]; there {
			c.ids, c.deletes = append(c.ids, id), append(c.deletes, key)
		}
		return nil
	}
	data, err := models.Marshal(s)
	if err == nil && !bytes.Equal(written[id], data) {
		c.ids, c.puts = append(c.ids, id), append(c.puts, store.KV{Key: key, Value: data})
	}
	return err
}

// again keeps a status for the next flush, unless a newer one has come.
func (w *Publisher) again(id string, s proto.Message) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, newer := w.dirty[id]; !newer {
		w.dirty[id] = s
	}
}

// write writes what was gathered and begins anew; what fails stays gathered.
func (w *Publisher) write(ctx context.Context, written map[string][]byte, c *changes) error {
	if len(c.ids) == 0 {
		return nil
	}
	if _, err := w.store.Write(ctx, c.puts, c.deletes); err != nil {
		return err
	}
	for _, id := range c.ids {
		delete(written, id)
	}
	for _, kv := range c.puts {
		if id, err := models.Name(w.prefix, kv.Key); err == nil {
			written[id] = kv.Value
		}
	}
	*c = changes{}
	return nil
}

// pause waits and reports whether ctx is still alive.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
