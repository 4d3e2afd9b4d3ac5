package manager

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"go.patchbay.dev/plugins/store"
)

// memory is an etcd in memory that several nodes share, each by a view of its own.
type memory struct {
	mu       sync.Mutex
	changed  *sync.Cond
	revision int64
	kvs      map[string]store.KV
	history  []change
}

type change struct {
	revision int64
	key      string
	value    []byte // nil: deleted
}

func newMemory() *memory {
	e := &memory{kvs: map[string]store.KV{}}
	e.changed = sync.NewCond(&e.mu)
	return e
}

func (e *memory) put(key string, value []byte) int64 {
	e.revision++
	e.kvs[key] = store.KV{Key: key, Value: value, Revision: e.revision}
	e.history = append(e.history, change{e.revision, key, value})
	e.changed.Broadcast()
	return e.revision
}

func (e *memory) drop(key string) int64 {
	if _, ok := e.kvs[key]; !ok {
		return 0
	}
	e.revision++
	delete(e.kvs, key)
	e.history = append(e.history, change{e.revision, key, nil})
	e.changed.Broadcast()
	return e.revision
}

// under gives the keys with a prefix, in order.
func (e *memory) under(prefix string) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.DeleteFunc(slices.Sorted(maps.Keys(e.kvs)), func(k string) bool { return !strings.HasPrefix(k, prefix) })
}

func (e *memory) get(key string) []byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.kvs[key].Value
}

// view is one node's way to the etcd, which can be cut.
type view struct {
	*memory
	mu   sync.Mutex
	down bool
}

func (v *view) cut(down bool) {
	v.mu.Lock()
	v.down = down
	v.mu.Unlock()
	v.memory.mu.Lock()
	v.changed.Broadcast()
	v.memory.mu.Unlock()
}

func (v *view) Up() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.down {
		return store.ErrUnavailable
	}
	return nil
}

// with does a request while the etcd is there.
func (v *view) with(f func() int64) (int64, error) {
	if err := v.Up(); err != nil {
		return 0, err
	}
	v.memory.mu.Lock()
	defer v.memory.mu.Unlock()
	return f(), nil
}

func (v *view) Put(_ context.Context, key string, value []byte) (int64, error) {
	return v.with(func() int64 { return v.put(key, value) })
}

func (v *view) PutLeased(ctx context.Context, key string, value []byte, _ time.Duration) (int64, error) {
	return v.Put(ctx, key, value)
}

func (v *view) Delete(_ context.Context, key string) (int64, error) {
	return v.with(func() int64 { return v.drop(key) })
}

func (v *view) Write(_ context.Context, puts []store.KV, deletes []string) (int64, error) {
	return v.with(func() int64 {
		for _, kv := range puts {
			v.put(kv.Key, kv.Value)
		}
		for _, key := range deletes {
			v.drop(key)
		}
		return v.revision
	})
}

func (v *view) List(_ context.Context, prefix string) (list []store.KV, revision int64, err error) {
	revision, err = v.with(func() int64 { list = v.list(prefix); return v.revision })
	return list, revision, err
}

// list is List with the lock held.
func (v *view) list(prefix string) (list []store.KV) {
	for _, key := range slices.Sorted(maps.Keys(v.kvs)) {
		if strings.HasPrefix(key, prefix) {
			list = append(list, v.kvs[key])
		}
	}
	return list
}

func (v *view) Watch(ctx context.Context, prefix string, fn func(store.Batch)) error {
	stop := context.AfterFunc(ctx, func() {
		v.memory.mu.Lock()
		defer v.memory.mu.Unlock()
		v.changed.Broadcast()
	})
	defer stop()
	v.memory.mu.Lock()
	seen, snapshot := v.revision, true
	b := store.Batch{Snapshot: true, Revision: seen, Puts: v.list(prefix)}
	for ctx.Err() == nil {
		if snapshot || len(b.Puts)+len(b.Deletes) > 0 {
			v.memory.mu.Unlock()
			fn(b)
			v.memory.mu.Lock()
			snapshot = false
		}
		for ctx.Err() == nil && (v.revision == seen || v.Up() != nil) {
			v.changed.Wait()
		}
		b = store.Batch{Revision: v.revision}
		last := map[string]change{}
		for _, c := range v.history[seen:] { // a revision each
			if strings.HasPrefix(c.key, prefix) {
				last[c.key] = c
			}
		}
		for key, c := range last {
			if c.value == nil {
				b.Deletes = append(b.Deletes, key)
			} else {
				b.Puts = append(b.Puts, store.KV{Key: key, Value: c.value, Revision: c.revision})
			}
		}
		seen = v.revision
	}
	v.memory.mu.Unlock()
	return ctx.Err()
}
