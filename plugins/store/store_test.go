package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// both runs a test on an embedded and on an external etcd.
func both(t *testing.T, f func(*testing.T, *Store)) {
	t.Run("embedded", func(t *testing.T) {
		f(t, open(t, Config{DataDir: filepath.Join(t.TempDir(), "data"), Log: testLog(t)}))
	})
	t.Run("external", func(t *testing.T) {
		f(t, newServer(t).client(t))
	})
}

func TestKeys(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		if _, err := s.Get(ctx, "/a/1"); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), `get "/a/1"`) {
			t.Errorf("get of an absent key: %v", err)
		}
		put := mustPut(t, s, "/a/1", "one")
		kv, err := s.Get(ctx, "/a/1")
		if err != nil || string(kv.Value) != "one" || kv.Key != "/a/1" || kv.Revision != put {
			t.Errorf("get after a put at %d: %+v, %v", put, kv, err)
		}
		if _, err := s.Create(ctx, "/a/1", []byte("other")); !errors.Is(err, ErrExists) {
			t.Errorf("create of a key that is there: %v", err)
		}
		if _, err := s.Create(ctx, "/a/2", []byte("two")); err != nil {
			t.Errorf("create: %v", err)
		}
		replaced, err := s.Replace(ctx, "/a/1", []byte("uno"), put)
		if err != nil || replaced <= put {
			t.Errorf("replace: %d, %v", replaced, err)
		}
		if _, err := s.Replace(ctx, "/a/1", []byte("eins"), put); !errors.Is(err, ErrConflict) {
			t.Errorf("replace of a key that has changed: %v", err)
		}
		mustPut(t, s, "/b/1", "elsewhere")
		kvs, revision, err := s.List(ctx, "/a/")
		got := fmt.Sprint(len(kvs))
		for _, kv := range kvs {
			got += " " + kv.Key + "=" + string(kv.Value)
		}
		if err != nil || got != "2 /a/1=uno /a/2=two" || revision != s.Revision() {
			t.Errorf("list: %s at %d of %d, %v", got, revision, s.Revision(), err)
		}
		deleted, err := s.Delete(ctx, "/a/1")
		if err != nil || deleted <= revision {
			t.Errorf("delete: %d, %v", deleted, err)
		}
		if again, err := s.Delete(ctx, "/a/1"); err != nil || again != 0 {
			t.Errorf("delete of an absent key: %d, %v", again, err)
		}
		if _, err := s.Replace(ctx, "/a/1", nil, replaced); !errors.Is(err, ErrConflict) {
			t.Errorf("replace of a key that is gone: %v", err)
		}
	})
}

func TestNothingIsBegunForWhoHasGone(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, s *Store) {
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		for i := range 50 { // once, the embedded etcd may or may not take it
			key := fmt.Sprint("/gone/", i)
			_, err1 := s.Put(gone, key, []byte("x"))
			_, err2 := s.PutLeased(gone, key, []byte("x"), time.Minute)
			if !errors.Is(err1, context.Canceled) || !errors.Is(err2, context.Canceled) {
				t.Errorf("put: %v, %v", err1, err2)
			}
		}
		if kvs, _, err := s.List(t.Context(), "/gone/"); err != nil || len(kvs) > 0 {
			t.Errorf("%d keys are there, %v", len(kvs), err)
		}
	})
}

func TestBadRequestIsNotAbsence(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, s *Store) {
		for what, value := range map[string]int{"": 1, "/large": 10 << 20} {
			if _, err := s.Put(t.Context(), what, make([]byte, value)); err == nil || errors.Is(err, ErrUnavailable) {
				t.Errorf("put of key %q with %d bytes: %v", what, value, err)
			}
		}
		if err := s.Up(); err != nil {
			t.Error(err)
		}
	})
}

func TestDeadlineIsTheCallers(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, s *Store) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Put(ctx, "/a", nil); !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnavailable) {
			t.Error(err)
		}
	})
}

func TestClosed(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, s *Store) {
		watching := make(chan struct{})
		watched := make(chan error)
		go func() { watched <- s.Watch(t.Context(), "/", func(Batch) { close(watching) }) }()
		<-watching
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error("second close:", err)
		}
		if err := <-watched; !errors.Is(err, ErrUnavailable) {
			t.Error("watch:", err)
		}
		if _, err := s.Get(t.Context(), "/a"); !errors.Is(err, ErrUnavailable) {
			t.Error("get:", err)
		}
		if err := s.Up(); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "closed") {
			t.Error("up:", err)
		}
	})
}

func TestManyWriters(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, s *Store) {
		const writers, each = 20, 25
		revisions := make(chan int64, writers*each)
		failed := make(chan error, writers)
		for w := range writers {
			go func() {
				for i := range each {
					r, err := s.Put(t.Context(), fmt.Sprintf("/w/%d/%d", w, i), nil)
					if err != nil {
						failed <- err
						return
					}
					revisions <- r
				}
				failed <- nil
			}()
		}
		for range writers {
			if err := <-failed; err != nil {
				t.Fatal(err)
			}
		}
		close(revisions)
		var all []int64
		for r := range revisions {
			all = append(all, r)
		}
		slices.Sort(all)
		if n := len(slices.Compact(all)); n != writers*each {
			t.Errorf("%d revisions for %d puts", n, writers*each)
		}
	})
}

func TestWriteIsAllOrNothing(t *testing.T) {
	s := open(t, Config{DataDir: t.TempDir(), Log: testLog(t)})
	if _, err := s.Put(t.Context(), "/w/old", []byte("old")); err != nil {
		t.Fatal(err)
	}
	revision, err := s.Write(t.Context(), []KV{{Key: "/w/a", Value: []byte("1")}, {Key: "/w/b", Value: []byte("2")}}, []string{"/w/old", "/w/never"})
	if err != nil {
		t.Fatal(err)
	}
	kvs, _, err := s.List(t.Context(), "/w/")
	if err != nil || len(kvs) != 2 || kvs[0].Revision != revision || kvs[1].Revision != revision {
		t.Fatalf("%v, %v", kvs, err)
	}
	many := make([]KV, MaxWrite)
	for i := range many {
		many[i] = KV{Key: fmt.Sprintf("/m/%d", i), Value: []byte("x")}
	}
	if _, err := s.Write(t.Context(), many, nil); err != nil {
		t.Errorf("%d keys: %v", MaxWrite, err)
	}
	if _, err := s.Write(t.Context(), []KV{{Key: "/n/a"}, {Key: "/n/a"}}, nil); err == nil {
		t.Error("a key was taken twice")
	}
	if kvs, _, _ := s.List(t.Context(), "/n/"); len(kvs) != 0 {
		t.Errorf("half of it was written: %v", kvs)
	}
	if revision, err := s.Write(t.Context(), nil, nil); revision != 0 || err != nil {
		t.Errorf("nothing to write: %d, %v", revision, err)
	}
}

func TestAWriteThatDependsOnOthersIsAllOrNothing(t *testing.T) {
	s := open(t, Config{DataDir: t.TempDir(), Log: testLog(t)})
	kv := func(key, value string) KV { return KV{Key: key, Value: []byte(value)} }
	old := mustPut(t, s, "/c/old", "old")
	first, err := s.WriteIf(t.Context(), []KV{{Key: "/c/a"}, {Key: "/c/old", Revision: old}}, []KV{kv("/c/a", "1"), kv("/c/b", "1")}, []string{"/c/old"})
	if err != nil {
		t.Fatal(err)
	}
	for _, same := range [][]KV{{{Key: "/c/a"}}, {{Key: "/c/c"}, {Key: "/c/b", Revision: old}}, {{Key: "/c/old", Revision: old}}} {
		if _, err := s.WriteIf(t.Context(), same, []KV{kv("/c/c", "2")}, []string{"/c/a"}); !errors.Is(err, ErrConflict) {
			t.Errorf("%v: %v", same, err)
		}
	}
	again := mustPut(t, s, "/c/a", "3")
	kvs, _, err := s.List(t.Context(), "/c/")
	if err != nil {
		t.Fatal(err)
	}
	want := []KV{{"/c/a", []byte("3"), again, first}, {"/c/b", []byte("1"), first, first}}
	if !reflect.DeepEqual(kvs, want) {
		t.Errorf("%v, want %v", kvs, want)
	}
}
