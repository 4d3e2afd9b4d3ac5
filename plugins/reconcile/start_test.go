package reconcile

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// Stories of Start.

func TestNothingIsCalledBeforeStart(t *testing.T) {
	tell(t, Options{}, func(t *testing.T, r *rig) {
		r.Apply(set("c1", "link/a", "v1 ns/a"), set("c2"))
		r.Apply(set("c1", "link/a", "v2 ns/a"))
		r.Observe("ns/a", true)
		r.Lost("link/a")
		if err := r.Resync(t.Context()); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Hour)
		r.expect()
		r.heard()
		if len(r.watched) > 0 {
			t.Errorf("watched %q", r.watched)
		}
		r.state("c1", Applying)
		r.facts["ns/a"] = true
		r.start()
		r.expect("retrieve join; retrieve link", "create link/a v2")
		r.heard("c2 gone", "c1 applied")
	})
}

// What is found is adopted, updated, deleted or completed; what depends on what goes first.
func TestStartAdoptsUpdatesPrunesAndCreates(t *testing.T) {
	tell(t, Options{}, func(t *testing.T, r *rig) {
		r.facts["ns/a"] = true
		r.exists("link/same", "v1 ns/a")
		r.exists("join/same", "v1 link/same")
		r.exists("link/other", "v1")
		r.exists("join/old", "v1 link/old")
		r.exists("link/old", "v1")
		r.exists("join/cut", "v1 link/new")
		r.exists("join/new", "v1 link/new")
		r.Apply(
			set("same", "link/same", "v1 ns/a", "join/same", "v1 link/same"),
			set("other", "link/other", "v2"),
			set("new", "link/new", "v1", "join/new", "v1 link/new"))
		r.start()
		r.mu.Lock()
		calls := r.calls
		r.mu.Unlock()
		at := func(call string) int {
			for i, c := range calls {
				if c == call {
					return i
				}
			}
			t.Errorf("there is no %q", call)
			return -1
		}
		if len(calls) != 9 {
			t.Errorf("%d calls, want 9: %q", len(calls), calls)
		}
		at("update link/other v1 v2")
		for _, order := range [][]string{
			{"delete join/old v1", "delete link/old v1"},
			{"delete join/cut v1", "create link/new v1"},
			{"delete join/new v1", "create link/new v1", "create join/new v1"},
		} {
			for i := 1; i < len(order); i++ {
				if at(order[i-1]) > at(order[i]) {
					t.Errorf("%q comes after %q", order[i-1], order[i])
				}
			}
		}
		for _, g := range []string{"same", "other", "new"} {
			r.state(g, Applied)
		}
	})
}

// A kind that cannot be retrieved is left alone until it can: nothing of it is deleted or
// made, and what waits says why. The others go on.
func TestRetrieveThatFails(t *testing.T) {
	tell(t, Options{}, func(t *testing.T, r *rig) {
		r.exists("link/old", "v1")
		r.exists("link/a", "v1")
		r.exists("join/j", "v1 link/a")
		r.failing("retrieve link", errFake)
		r.Apply(set("c1", "link/a", "v1", "link/b", "v1"), set("c2", "join/c2", "v1"), set("c3", "join/j", "v1 link/a"))
		r.start()
		r.expect("retrieve join; retrieve link", "create join/c2 v1")
		r.Apply(set("c4", "link/late", "v1", "join/late", "v1 link/late"))
		r.settle()
		r.state("c1", Pending, "link/", "no luck")
		r.state("c4", Pending, "link/late", "no luck")
		r.state("c2", Applied)
		r.state("c3", Applied)
		time.Sleep(time.Minute)
		r.settle()
		r.mu.Lock()
		for _, c := range r.calls {
			if c != "retrieve link" {
				t.Errorf("meanwhile: %s", c)
			}
		}
		r.calls = nil
		r.mu.Unlock()
		r.failing("retrieve link", nil)
		time.Sleep(time.Minute)
		r.settle()
		r.expect("retrieve link", "create link/b v1; delete link/old v1; create link/late v1; create join/late v1")
		r.state("c1", Applied)
	})
}

// What stands on a value of which nothing is known stays until something is.
func TestWhatStandsOnTheUnknownStays(t *testing.T) {
	tell(t, Options{}, func(t *testing.T, r *rig) {
		r.exists("join/j", "v1 link/a")
		r.failing("retrieve link", errFake)
		r.Apply(set("c1", "join/j", "v1 link/a"))
		r.start()
		r.expect("retrieve join; retrieve link")
		r.state("c1", Applied)
		r.failing("retrieve link", nil)
		time.Sleep(time.Second)
		r.settle()
		r.expect("retrieve link", "delete join/j v1")
		r.state("c1", Pending, "join/j waits for link/a")
	})
}

// A fact is watched also when only what is there needs it, and not what is wanted.
func TestFactOfWhatIsThere(t *testing.T) {
	tell(t, Options{}, func(t *testing.T, r *rig) {
		r.exists("link/a", "v1 ns/a")
		r.facts["ns/a"] = true
		defer r.gate("create link/b")()
		r.Apply(set("c1", "link/a", "v2 link/b", "link/b", "v1"))
		if err := r.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		r.expect("retrieve join; retrieve link", "create link/b v1")
		r.Observe("ns/a", false)
		synctest.Wait()
		r.expect("delete link/a v1")
	})
}

func TestStartThatIsCancelled(t *testing.T) {
	tell(t, Options{}, func(t *testing.T, r *rig) {
		r.exists("link/old", "v1")
		open := r.gate("retrieve link")
		r.Apply(set("c1", "join/a", "v1"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		time.AfterFunc(time.Minute, open)
		if err := r.Start(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("start: %v", err)
		}
		time.Sleep(time.Hour)
		r.expect("retrieve join; retrieve link") // and nothing has begun
		r.start()
		r.expect("retrieve join; retrieve link", "create join/a v1; delete link/old v1")
	})
}

// Facts are watched before the look at what exists: none can go, take something with it
// and come back in between without being noticed.
func TestFactsAreWatchedBeforeTheLook(t *testing.T) {
	tell(t, Options{}, func(t *testing.T, r *rig) {
		open := r.gate("watch ns/a")
		r.Apply(set("c1", "link/a", "v1 ns/a"))
		done := make(chan error)
		go func() { done <- r.Start(t.Context()) }()
		synctest.Wait()
		r.expect()
		open()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		r.settle()
		r.expect("retrieve join; retrieve link")
		r.state("c1", Pending, "the namespace a")
	})
}

// What is found may say that it depends on itself; it is pruned all the same.
func TestCircleThatExists(t *testing.T) {
	tell(t, Options{}, func(t *testing.T, r *rig) {
		r.exists("link/a", "v1 link/b")
		r.exists("link/b", "v1 link/c")
		r.exists("link/c", "v1 link/a")
		r.exists("link/d", "v1 link/d")
		r.start()
		if len(r.calls) != 2+4 {
			t.Errorf("calls: %q", r.calls)
		}
	})
}

func TestRetrieveOfAnotherKindIsAnError(t *testing.T) {
	tell(t, Options{}, func(t *testing.T, r *rig) {
		r.found["link"] = []Found[string]{{"join/a", "v1"}}
		r.Apply(set("c1", "link/a", "v1"))
		r.start()
		r.state("c1", Pending, `not of the kind "link": "join/a"`)
	})
}

func TestStartIsQuick(t *testing.T) {
	tell(t, Options{}, func(t *testing.T, r *rig) {
		var values []string
		for i := range 100 {
			values = append(values, fmt.Sprintf("link/%d", i), "v1")
			defer r.gate(fmt.Sprintf("create link/%d", i))()
		}
		r.Apply(set("c1", values...))
		if err := r.Start(t.Context()); err != nil { // does not wait for what it has queued
			t.Fatal(err)
		}
	})
}
