package reconcile

import (
	"testing"
	"testing/synctest"
	"time"
)

// Stories of Resync and Lost.

func TestResync(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		r.want("c1", "link/a", "v1", "join/a", "v1 link/a", "link/b", "v1")
		r.want("c2", "link/gone", "v1", "join/gone", "v1 link/gone")
		r.mu.Lock()
		r.calls, r.told = nil, nil
		r.mu.Unlock()
		r.exists("link/a", "v1")
		r.exists("link/b", "v0")
		r.exists("link/new", "v1")
		if err := r.Resync(t.Context(), "link"); err != nil {
			t.Fatal(err)
		}
		r.settle()
		r.expect("retrieve link", "delete join/gone v1; delete link/new v1; update link/b v0 v1; create link/gone v1; create join/gone v1")
		r.heard() // all is as it was told before
		if err := r.Resync(t.Context(), "tunnel"); err == nil {
			t.Error("a kind without a descriptor is resynced")
		}
	})
}

// While a kind is retrieved nothing of it is worked on, and the others go on.
func TestResyncWaitsForOperationsOfItsKind(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		created := r.gate("create link/a")
		r.Apply(set("c1", "link/a", "v1"))
		synctest.Wait()
		retrieved := r.gate("retrieve link")
		done := make(chan error)
		go func() { done <- r.Resync(t.Context(), "link") }()
		synctest.Wait()
		r.expect("create link/a v1")
		created()
		synctest.Wait()
		r.expect("retrieve link")
		r.Apply(set("c2", "link/b", "v1"), set("c3", "join/c3", "v1"))
		synctest.Wait()
		r.expect("create join/c3 v1")
		r.mu.Lock()
		r.found["link"] = []Found[string]{{"link/a", "v1"}}
		r.mu.Unlock()
		retrieved()
		if err := <-done; err != nil {
			t.Error(err)
		}
		r.settle()
		r.expect("create link/b v1")
	})
}

// Of two looks the one that began later counts, also when it ended first.
func TestOlderRetrievalDoesNotOverrideNewer(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		r.want("c1", "link/a", "v1")
		r.exists("link/a", "v1")
		slow := r.gate("retrieve join")
		both := make(chan error)
		go func() { both <- r.Resync(t.Context()) }() // has link/a, waits for join
		synctest.Wait()
		r.mu.Lock()
		r.found["link"], r.calls = nil, nil
		r.mu.Unlock()
		if err := r.Resync(t.Context(), "link"); err != nil { // it is gone
			t.Fatal(err)
		}
		slow()
		if err := <-both; err != nil {
			t.Fatal(err)
		}
		r.settle()
		r.expect("retrieve link", "create link/a v1")
	})
}

func TestChangeDuringResync(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		r.want("c1", "link/a", "v1")
		r.exists("link/a", "v1")
		open := r.gate("equal v1")
		done := make(chan error)
		go func() { done <- r.Resync(t.Context(), "link") }()
		synctest.Wait()
		r.Apply(set("c1", "link/a", "v2"))
		open()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		r.settle()
		r.expect("create link/a v1", "retrieve link", "update link/a v1 v2")
	})
}

// A look that succeeds makes the repetition of one that failed needless.
func TestResyncEndsTheRetries(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		slow := r.gate("retrieve join")
		r.failing("retrieve link", errFake)
		first, second := make(chan error), make(chan error)
		go func() { first <- r.Resync(t.Context()) }()
		synctest.Wait()
		r.failing("retrieve link", nil)
		open := r.gate("retrieve link")
		go func() { second <- r.Resync(t.Context(), "link") }()
		synctest.Wait()
		slow()
		if err := <-first; err != nil {
			t.Fatal(err)
		}
		open()
		if err := <-second; err != nil {
			t.Fatal(err)
		}
		r.want("c1", "link/a", "v1") // nothing keeps it waiting
		time.Sleep(time.Hour)
		r.expect("retrieve join; retrieve link", "retrieve link", "create link/a v1")
	})
}

// Two looks that fail are repeated once.
func TestResyncsThatFailTogether(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		slow := r.gate("retrieve join")
		r.failing("retrieve link", errFake)
		first := make(chan error)
		go func() { first <- r.Resync(t.Context()) }()
		synctest.Wait()
		if err := r.Resync(t.Context(), "link"); err != nil {
			t.Fatal(err)
		}
		slow()
		if err := <-first; err != nil {
			t.Fatal(err)
		}
		r.failing("retrieve link", nil)
		time.Sleep(time.Hour)
		r.want("c1", "link/a", "v1")
		r.expect("retrieve join; retrieve link", "retrieve link", "retrieve link", "create link/a v1")
	})
}

// What is lost is created again, and what depends on it after it, without a Delete.
func TestLost(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		r.want("c1", "link/a", "v1", "join/a", "v1 link/a", "link/top", "v1 join/a", "link/b", "v1")
		r.mu.Lock()
		r.calls, r.told = nil, nil
		r.mu.Unlock()
		r.Lost("link/a")
		r.settle()
		r.expect("create link/a v1", "create join/a v1", "create link/top v1")
		r.heard()
		r.Lost("link/unheard-of")
		r.settle()
		r.expect()
	})
}

func TestLostWhileBusy(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		r.want("c1", "link/a", "v1")
		open := r.gate("update link/a")
		r.Apply(set("c1", "link/a", "v2"))
		synctest.Wait()
		r.Lost("link/a")
		open()
		r.settle()
		r.expect("create link/a v1", "update link/a v1 v2", "create link/a v2")
	})
}

func TestLostAfterAFailedUpdate(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		r.want("c1", "link/a", "v1")
		r.failing("update link/a", errFake)
		r.want("c1", "link/a", "v2")
		r.Lost("link/a")
		time.Sleep(time.Second)
		r.settle()
		r.expect("create link/a v1", "update link/a v1 v2", "delete link/a v2", "delete link/a v1", "create link/a v2")
	})
}
