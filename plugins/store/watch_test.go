package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestWatchTellsTheStateThenTheChanges(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, s *Store) {
		mustPut(t, s, "/w/a", "before")
		mustPut(t, s, "/other", "elsewhere")
		v, stop := watch(t, s, "/w/")
		v.has(t, "/w/a", "before")
		mustPut(t, s, "/w/b", "after")
		v.has(t, "/w/b", "after")
		if _, err := s.Delete(t.Context(), "/w/a"); err != nil {
			t.Fatal(err)
		}
		v.has(t, "/w/a", "")
		v.equals(t, s, "/w/")
		if n := v.count(); n != 1 {
			t.Errorf("%d snapshots", n)
		}
		stop()
		mustPut(t, s, "/w/c", "unseen")
	})
}

func TestWatchOfNothingHasASnapshot(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, s *Store) {
		v, _ := watch(t, s, "/nothing/")
		v.until(t, "an empty snapshot", func() bool { return v.snapshots == 1 && len(v.kvs) == 0 })
	})
}

func TestBatchHasTheLastOfEveryKey(t *testing.T) {
	t.Parallel()
	event := func(kind, key string, revision int64) *clientv3.Event {
		e := &clientv3.Event{Type: clientv3.EventTypePut, Kv: &mvccpb.KeyValue{Key: []byte(key), ModRevision: revision}}
		if kind == "del" {
			e.Type = clientv3.EventTypeDelete
		}
		return e
	}
	for want, events := range map[string][]*clientv3.Event{
		"2: put a@2 del": {event("put", "a", 2)},
		"2: put del a":   {event("del", "a", 2)},
		"5: put a@5 del": {event("put", "a", 3), event("del", "a", 4), event("put", "a", 5)},
		"4: put del a":   {event("put", "a", 3), event("del", "a", 4)},
		"7: put b@5 c@7 del a": {
			event("put", "b", 3), event("put", "a", 4), event("put", "b", 5), event("del", "a", 6), event("put", "c", 7),
		},
	} {
		b := batch(events)
		got := fmt.Sprintf("%d: put", b.Revision)
		for _, kv := range b.Puts {
			got += fmt.Sprintf(" %s@%d", kv.Key, kv.Revision)
		}
		got = strings.Join(append([]string{got, "del"}, b.Deletes...), " ")
		if got != want || b.Snapshot {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// churner writes and deletes keys at random, from several goroutines, whatever fails. Once
// stop returns no write is under way.
func churner(t *testing.T, s *Store, prefix string) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	background := context.WithoutCancel(ctx)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 1))
			for i := 0; ctx.Err() == nil; i++ {
				key := fmt.Sprintf("%s%d", prefix, r.IntN(40))
				if r.IntN(4) == 0 {
					s.Delete(background, key)
				} else {
					s.Put(background, key, fmt.Append(nil, w, i))
				}
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}

// Several watchers, one of them slow, see the same in the end as a list, with many writers.
func TestWatchUnderConcurrentWriters(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, s *Store) {
		stop := churner(t, s, "/c/")
		var views []*view
		for range 4 {
			v, _ := watch(t, s, "/c/")
			views = append(views, v)
		}
		slow := views[0]
		slow.until(t, "a snapshot", func() bool { return slow.snapshots > 0 })
		slow.mu.Lock() // its next batch waits
		target := s.Revision() + 500
		eventually(t, "500 writes", func() bool { return s.Revision() > target })
		slow.mu.Unlock()
		stop()
		for _, v := range views {
			v.equals(t, s, "/c/")
			if n := v.count(); n != 1 {
				t.Errorf("%d snapshots", n)
			}
		}
	})
}

// The server forgets revisions faster than the watcher can be told of them.
func TestWatchSurvivesCompaction(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	p := newProxy(t, "unix", strings.TrimPrefix(server.Listen, "unix://"))
	s := open(t, Config{Endpoints: []string{p.url()}, Log: testLog(t)})
	v, _ := watch(t, s, "/c/")
	v.until(t, "a snapshot", func() bool { return v.snapshots == 1 })
	stop := churner(t, server.Store, "/c/")
	for round := range 5 {
		snapshots := v.count()
		p.freeze()
		p.cut()
		target := server.Revision() + 100
		eventually(t, "100 writes", func() bool { return server.Revision() > target })
		if _, err := server.session.client.Compact(t.Context(), server.Revision()); err != nil {
			t.Fatal(err)
		}
		p.thaw()
		v.until(t, fmt.Sprint("a new snapshot in round ", round), func() bool { return v.snapshots > snapshots })
	}
	stop()
	v.equals(t, server.Store, "/c/")
}

// A watch whose stream etcd itself ends with "compacted" begins again, though the
// connection has never failed.
func TestWatchAfterCompactedStream(t *testing.T) {
	t.Parallel()
	s := open(t, Config{DataDir: filepath.Join(t.TempDir(), "data"), Log: testLog(t)})
	mustPut(t, s, "/c/gone", "x")
	real := s.session.client.Watcher
	first := true
	s.session.client.Watcher = watcherFunc{real, func(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
		if first {
			first = false
			s.Delete(t.Context(), "/c/gone")
			revision := mustPut(t, s, "/c/a", "between the snapshot and the watch")
			if _, err := s.session.client.Compact(t.Context(), revision); err != nil {
				t.Error(err)
			}
		}
		return real.Watch(ctx, key, opts...)
	}}
	v, _ := watch(t, s, "/c/")
	v.until(t, "a second snapshot", func() bool { return v.snapshots == 2 })
	v.equals(t, s, "/c/")
	mustPut(t, s, "/c/b", "later")
	v.equals(t, s, "/c/")
}

type watcherFunc struct {
	clientv3.Watcher
	watch func(context.Context, string, ...clientv3.OpOption) clientv3.WatchChan
}

func (w watcherFunc) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	return w.watch(ctx, key, opts...)
}

// Connections are lost and the server restarts, while others go on writing.
func TestWatchSurvivesLostConnectionsAndRestarts(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	p := newProxy(t, "unix", strings.TrimPrefix(server.Listen, "unix://"))
	s := open(t, Config{Endpoints: []string{p.url()}, Log: testLog(t)})
	v, _ := watch(t, s, "/c/")
	for round := range 4 {
		stop := churner(t, server.Store, "/c/")
		eventually(t, "20 writes", seen(server, 20))
		p.cut()
		eventually(t, "20 writes", seen(server, 20))
		stop()
		if round%2 == 1 {
			server.stop()
			untilDown(t, s)
			server.start()
			mustPut(t, server.Store, "/c/0", fmt.Sprint("round ", round))
		}
		v.equals(t, server.Store, "/c/")
	}
}

func seen(s *server, n int64) func() bool {
	target := s.Revision() + n
	return func() bool { return s.Revision() > target }
}

// Somebody has put an empty etcd in the place of the old one: what there was is gone, and
// a watch from the old revision on would wait for good.
func TestWatchOfAnEtcdThatWasReplaced(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	s := server.client(t)
	for i := range 20 {
		mustPut(t, s, fmt.Sprint("/c/", i), "old")
	}
	v, _ := watch(t, s, "/c/")
	v.equals(t, s, "/c/")
	server.stop()
	if err := os.RemoveAll(server.DataDir); err != nil {
		t.Fatal(err)
	}
	server.start()
	mustPut(t, server.Store, "/c/a", "new")
	v.equals(t, server.Store, "/c/")
	if s.Revision() != server.Revision() {
		t.Errorf("revision %d, etcd is at %d", s.Revision(), server.Revision())
	}
}
