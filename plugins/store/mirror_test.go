package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"go.patchbay.dev/models"
)

// shelf is a Writer in memory that tells of each write.
type shelf struct {
	mu     sync.Mutex
	keys   map[string]string
	fail   int        // so many writes fail
	writes chan []int // puts and deletes of each that did not
}

func (s *shelf) List(_ context.Context, prefix string) (all []KV, _ int64, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, v := range s.keys {
		if strings.HasPrefix(k, prefix) {
			all = append(all, KV{Key: k, Value: []byte(v)})
		}
	}
	return all, 1, nil
}

func (s *shelf) Write(_ context.Context, puts []KV, deletes []string) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail > 0 {
		s.fail--
		return 0, errors.New("not now")
	}
	for _, kv := range puts {
		s.keys[kv.Key] = string(kv.Value)
	}
	for _, key := range deletes {
		delete(s.keys, key)
	}
	s.writes <- []int{len(puts), len(deletes)}
	return 1, nil
}

// teller is what a Mirror shows: the value of each name, "" for one that is not known yet.
type teller struct {
	mu    sync.Mutex
	names map[string]string
}

func (r *teller) tell(name string) ([]byte, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	v, ok := r.names[name]
	if v == "" {
		return nil, ok
	}
	return []byte(v), ok
}

// mirrored runs a Mirror of names over what is written, keys and values by name.
func mirrored(t *testing.T, names, written map[string]string, fail int) (*Mirror, *shelf) {
	t.Helper()
	s := &shelf{keys: map[string]string{}, fail: fail, writes: make(chan []int, 16)}
	for name, v := range written {
		s.keys["/m/"+models.Escape(name)] = v
	}
	m := NewMirror(s, "/m/", (&teller{names: names}).tell, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { m.Run(ctx) })
	t.Cleanup(func() { cancel(); done.Wait() })
	return m, s
}

func (s *shelf) next(t *testing.T) []int {
	t.Helper()
	select {
	case w := <-s.writes:
		return w
	case <-time.After(patience):
		t.Fatal("nothing was written")
		return nil
	}
}

func (s *shelf) holds(t *testing.T, want map[string]string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !maps.Equal(s.keys, want) {
		t.Errorf("etcd holds %v, want %v", s.keys, want)
	}
}

func TestMirrorWritesWhatDiffersAtOnce(t *testing.T) {
	m, s := mirrored(t, map[string]string{"same": "1", "new": "2", "changed": "3", "a/b": "4", "unknown": ""},
		map[string]string{"same": "1", "changed": "0", "gone": "5", "unknown": "6", "left": "7"}, 1)
	for _, name := range []string{"same", "new", "changed", "a/b", "gone", "unknown", "never"} {
		m.Touch(name)
	}
	if w := s.next(t); w[0] != 3 || w[1] != 1 {
		t.Errorf("%d puts and %d deletes in one write, want 3 and 1", w[0], w[1])
	}
	s.holds(t, map[string]string{"/m/same": "1", "/m/new": "2", "/m/changed": "3", "/m/a%2Fb": "4", "/m/unknown": "6", "/m/left": "7"})
	m.TouchAll()
	if w := s.next(t); w[0] != 0 || w[1] != 1 {
		t.Errorf("%d puts and %d deletes, want only what was left deleted", w[0], w[1])
	}
	s.holds(t, map[string]string{"/m/same": "1", "/m/new": "2", "/m/changed": "3", "/m/a%2Fb": "4", "/m/unknown": "6"})
}

func TestMirrorWritesNoMoreThanEtcdTakesAtOnce(t *testing.T) {
	names := map[string]string{}
	for i := range MaxWrite + 2 {
		names[fmt.Sprint(i)] = "x"
	}
	m, s := mirrored(t, names, nil, 0)
	for name := range names {
		m.Touch(name)
	}
	for written := 0; written < len(names); {
		w := s.next(t)
		if w[0] > MaxWrite {
			t.Fatalf("%d keys in one write", w[0])
		}
		written += w[0]
	}
}
