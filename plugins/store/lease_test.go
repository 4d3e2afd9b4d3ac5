package store

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"
)

// leases is how many there are in all.
func leases(t *testing.T, s *Store) int {
	t.Helper()
	r, err := s.session.client.Leases(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return len(r.Leases)
}

func TestLeasedKeyGoesByItself(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, s *Store) {
		v, _ := watch(t, s, "/e/")
		if _, err := s.PutLeased(t.Context(), "/e/a", []byte("1"), time.Second); err != nil {
			t.Fatal(err)
		}
		v.has(t, "/e/a", "1")
		v.has(t, "/e/a", "")
		if n := leases(t, s); n != 0 {
			t.Errorf("%d leases are left", n)
		}
	})
}

func TestLeaseIsRenewedAndNotLeaked(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, s *Store) {
		put := func(value string, ttl time.Duration) int64 {
			t.Helper()
			revision, err := s.PutLeased(t.Context(), "/e/a", []byte(value), ttl)
			if err != nil {
				t.Fatal(err)
			}
			if n := leases(t, s); n != 1 {
				t.Errorf("%d leases after a put of %s for %v", n, value, ttl)
			}
			return revision
		}
		first := put("1", time.Minute)
		for range 3 {
			if again := put("1", time.Minute); again != first {
				t.Errorf("a renewal wrote: revision %d after %d", again, first)
			}
		}
		second := put("2", time.Minute)
		third := put("2", 2*time.Minute)
		fourth := put("2", time.Minute)
		if !(first < second && second < third && third < fourth) {
			t.Error("revisions", first, second, third, fourth)
		}
		if _, err := s.Delete(t.Context(), "/e/a"); err != nil {
			t.Fatal(err)
		}
		if n := leases(t, s); n != 0 {
			t.Errorf("%d leases after the delete", n)
		}
		put("1", 300*time.Millisecond)
		if again := put("1", 300*time.Millisecond); again != put("1", 300*time.Millisecond) {
			t.Error("the least time to live is no reason for a new lease")
		}
	})
}

func TestRenewalKeepsAKey(t *testing.T) {
	t.Parallel()
	s := open(t, Config{DataDir: t.TempDir() + "/data"})
	v, _ := watch(t, s, "/")
	put := func(key string) {
		if _, err := s.PutLeased(t.Context(), key, []byte("1"), time.Second); err != nil {
			t.Fatal(err)
		}
	}
	put("/kept")
	put("/left")
	v.has(t, "/left", "1")
	stop := time.NewTicker(300 * time.Millisecond)
	defer stop.Stop()
	eventually(t, "the end of the key that is left alone", func() bool {
		<-stop.C
		put("/kept")
		_, err := s.Get(t.Context(), "/left")
		return errors.Is(err, ErrNotFound)
	})
	if kv, err := s.Get(t.Context(), "/kept"); err != nil || kv.Revision > 3 {
		t.Errorf("%+v, %v", kv, err)
	}
}

// A key on an operator's lease, with others, is renewed with the lease; to delete it does
// not take the others away.
func TestForeignLease(t *testing.T) {
	t.Parallel()
	s := open(t, Config{DataDir: t.TempDir() + "/data"})
	lease, err := s.session.client.Grant(t.Context(), 60)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"/e/a", "/e/b"} {
		if _, err := s.session.client.Put(t.Context(), key, "1", withLease(lease.ID)...); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Delete(t.Context(), "/e/a"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), "/e/b"); err != nil {
		t.Error(err)
	}
	if _, err := s.PutLeased(t.Context(), "/e/b", []byte("2"), time.Hour); err != nil {
		t.Fatal(err)
	}
	if n := leases(t, s); n != 1 {
		t.Errorf("%d leases", n)
	}
}

// hold runs Hold until stop is called.
func hold(t *testing.T, s *Store, key string, ttl time.Duration) (values chan<- []byte, stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	ch, done := make(chan []byte), make(chan struct{})
	go func() { defer close(done); s.Hold(ctx, key, ttl, ch) }()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return ch, stop
}

func TestHold(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, s *Store) {
		v, _ := watch(t, s, "/agents/")
		v.until(t, "a snapshot", func() bool { return v.snapshots == 1 })
		values, stop := hold(t, s, "/agents/n1", time.Minute)
		values <- []byte("one")
		v.has(t, "/agents/n1", "one")
		values <- []byte("two")
		v.has(t, "/agents/n1", "two")
		if n := leases(t, s); n != 1 {
			t.Errorf("%d leases", n)
		}
		stop()
		v.has(t, "/agents/n1", "")
		if n := leases(t, s); n != 0 {
			t.Errorf("%d leases at the end", n)
		}
	})
}

func TestHoldWithoutAValueWritesNothing(t *testing.T) {
	t.Parallel()
	s := open(t, Config{DataDir: t.TempDir() + "/data"})
	before := s.Revision()
	_, stop := hold(t, s, "/agents/n1", time.Minute)
	stop()
	if s.Revision() != before {
		t.Error("something was written")
	}
}

// Somebody takes the key away, or its lease.
func TestHoldPutsBackWhatIsTaken(t *testing.T) {
	t.Parallel()
	s := open(t, Config{DataDir: t.TempDir() + "/data"})
	v, _ := watch(t, s, "/agents/")
	values, _ := hold(t, s, "/agents/n1", 300*time.Millisecond)
	values <- []byte("one")
	for range 2 {
		v.has(t, "/agents/n1", "one")
		r, err := s.session.client.Get(t.Context(), "/agents/n1")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.session.client.Revoke(t.Context(), leaseID(r)); err != nil {
			t.Fatal(err)
		}
		revision := s.Revision()
		v.until(t, "the key put back", func() bool { return v.kvs["/agents/n1"].Revision > revision })
	}
}

func TestHoldSurvivesTheLossOfEtcd(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	s := server.client(t)
	values, stop := hold(t, s, "/agents/n1", time.Hour)
	values <- []byte("one")
	v, _ := watch(t, s, "/agents/")
	v.has(t, "/agents/n1", "one")
	server.stop()
	untilDown(t, s)
	values <- []byte("two")
	if err := os.RemoveAll(server.DataDir); err != nil {
		t.Fatal(err)
	}
	server.start()
	v.has(t, "/agents/n1", "two")
	server.stop()
	untilDown(t, s)
	stop() // does not wait for etcd
}
