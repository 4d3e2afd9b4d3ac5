package store

import (
	"context"
	"errors"
	"fmt"
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
	go func() { defer close(done); s.Hold(ctx, key, ttl, ch, nil) }()
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

func mine(who string) func([]byte) bool {
	return func(value []byte) bool { return string(value) == who }
}

// TestClaimedKeyIsNotTaken: whoever has the key keeps it while it is renewed, may take it
// again after a restart, and loses it with its lease.
func TestClaimedKeyIsNotTaken(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, s *Store) {
		claim := func(who string, ttl time.Duration) error {
			_, err := s.Claim(t.Context(), "/a/n1", []byte(who), ttl, mine(who))
			return err
		}
		if err := claim("first", time.Second); err != nil {
			t.Fatal(err)
		}
		if err := claim("second", time.Second); !errors.Is(err, ErrTaken) {
			t.Errorf("a second claim: %v, want ErrTaken", err)
		}
		if err := claim("first", time.Second); err != nil {
			t.Errorf("the first again: %v", err)
		}
		v, _ := watch(t, s, "/a/")
		v.has(t, "/a/n1", "first")
		v.has(t, "/a/n1", "")
		// etcd tells its watchers of a change just before a read sees it (mvcc, watchableStore).
		eventually(t, "a claim when the first is gone", func() bool { return claim("second", time.Minute) == nil })
		if n := leases(t, s); n != 1 {
			t.Errorf("%d leases are left, want 1", n)
		}
	})
}

func TestOfManyClaimsOneSucceeds(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, s *Store) {
		errs := make(chan error)
		for i := range 16 {
			who := fmt.Sprint(i)
			go func() {
				_, err := s.Claim(t.Context(), "/a/n1", []byte(who), time.Minute, mine(who))
				errs <- err
			}()
		}
		won := 0
		for range 16 {
			switch err := <-errs; {
			case err == nil:
				won++
			case !errors.Is(err, ErrTaken) && !errors.Is(err, ErrConflict):
				t.Error(err)
			}
		}
		if won != 1 {
			t.Errorf("%d of 16 have the key", won)
		}
	})
}

func TestHoldEndsWhenAnotherHasTheKey(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, s *Store) {
		values := make(chan []byte, 1)
		values <- []byte("first")
		ended := make(chan error)
		go func() { ended <- s.Hold(t.Context(), "/a/n1", 3*time.Second, values, mine("first")) }()
		v, _ := watch(t, s, "/a/")
		v.has(t, "/a/n1", "first")
		if _, err := s.Put(t.Context(), "/a/n1", []byte("second")); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; !errors.Is(err, ErrTaken) {
			t.Errorf("it ended with %v, want ErrTaken", err)
		}
		v.has(t, "/a/n1", "second")
	})
}
