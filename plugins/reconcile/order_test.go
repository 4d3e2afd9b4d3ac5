package reconcile

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Stories of what is done in which order.

func TestDependenciesComeFirst(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		r.want("c1", "join/c1", "v1 link/a link/b", "link/a", "v1", "link/b", "v1")
		r.expect("create link/a v1; create link/b v1", "create join/c1 v1")
		r.state("c1", Applied)
		r.want("c1")
		r.expect("delete join/c1 v1", "delete link/a v1; delete link/b v1")
		r.heard("c1 applied", "c1 gone")
	})
}

func TestIndependentIsDoneAtTheSameTime(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		var values, want []string
		for i := range 17 {
			key := fmt.Sprintf("link/%02d", i)
			values = append(values, key, "v1")
			defer r.gate("create " + key)()
			want = append(want, "create "+key+" v1")
		}
		r.Apply(set("c1", values...))
		synctest.Wait()
		r.expect(strings.Join(want[:16], "; ")) // the 17th waits for a worker
	})
}

func TestIndependentGoesOnWhileOneFails(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		r.failing("create link/a", errFake)
		r.want("c1", "link/a", "v1", "join/c1", "v1 link/a", "link/b", "v1")
		r.expect("create link/a v1; create link/b v1")
		r.state("c1", Failed, "link/a", "no luck")
		if !errors.Is(r.last.Err, errFake) {
			t.Errorf("the error is %v, want %v", r.last.Err, errFake)
		}
		r.want("c2", "link/c", "v1")
		r.expect("create link/c v1")
		r.state("c2", Applied)
	})
}

func TestMissingDependencyIsPending(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		r.want("c1", "join/c1", "v1 link/a")
		r.state("c1", Pending, "join/c1 waits for link/a")
		r.want("c2", "link/a", "v1 ns/a")
		r.state("c2", Pending, "waits for the namespace a")
		r.Observe("ns/a", true)
		r.settle()
		r.expect("create link/a v1", "create join/c1 v1")
		r.state("c1", Applied)
		r.state("c2", Applied)
	})
}

func TestUpdateInPlaceLeavesDependents(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		r.want("c1", "link/a", "v1", "join/c1", "v1 link/a")
		r.expect("create link/a v1", "create join/c1 v1")
		r.want("c1", "link/a", "v2", "join/c1", "v1 link/a")
		r.expect("update link/a v1 v2")
	})
}

func TestDependencyIsUpdatedFirst(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		r.want("c1", "join/c1", "v1 link/a", "link/a", "v1")
		r.expect("create link/a v1", "create join/c1 v1")
		r.want("c1", "join/c1", "v2 link/a", "link/a", "v2")
		r.expect("update link/a v1 v2", "update join/c1 v1 v2")
	})
}

func TestRecreateTearsDownDependentsFirst(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		r.want("c1", "link/a", "v1", "join/c1", "v1 link/a")
		r.expect("create link/a v1", "create join/c1 v1")
		r.want("c1", "link/a", "w1", "join/c1", "v1 link/a")
		r.expect("delete join/c1 v1", "delete link/a v1", "create link/a w1", "create join/c1 v1")
		r.heard("c1 applied", "c1 applied")
	})
}

func TestChangeWhileBusyIsPickedUp(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		open := r.gate("create link/a")
		r.Apply(set("c1", "link/a", "v1"))
		synctest.Wait()
		r.Apply(set("c1", "link/a", "v2"))
		r.Apply(set("c1", "link/a", "v3"))
		synctest.Wait()
		r.expect("create link/a v1")
		open()
		r.settle()
		r.expect("update link/a v1 v3")
		r.heard("c1 applied")
	})
}

func TestChangeWhileBeingCompared(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		r.want("c1", "link/a", "v1")
		open := r.gate("equal v1")
		r.Apply(set("c1", "link/a", "v1"))
		synctest.Wait()
		r.Apply(set("c1", "link/a", "v2"))
		open()
		r.settle()
		r.expect("create link/a v1", "update link/a v1 v2")
	})
}

func TestDeletedWhileBusyEndsDeleted(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		open := r.gate("create link/a")
		r.Apply(set("c1", "link/a", "v1"))
		synctest.Wait()
		r.Apply(set("c1"))
		synctest.Wait()
		r.state("c1", Applying)
		open()
		r.settle()
		r.expect("create link/a v1", "delete link/a v1")
		r.heard("c1 gone")
	})
}

func TestWantedAgainWhileBeingDeleted(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		r.want("c1", "link/a", "v1")
		open := r.gate("delete link/a")
		r.Apply(set("c1"))
		synctest.Wait()
		r.Apply(set("c1", "link/a", "v1"))
		open()
		r.settle()
		r.expect("create link/a v1", "delete link/a v1", "create link/a v1")
		r.heard("c1 applied", "c1 applied")
	})
}

// A change that needs what is on its way waits for it; one that needs what is not deletes
// the old, as if there had never been an old.
func TestUpdateThatWaits(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		r.want("c1", "link/a", "v1", "join/c1", "v1 link/a")
		r.expect("create link/a v1", "create join/c1 v1")
		r.want("c1", "link/a", "v1", "join/c1", "v2 link/b", "link/b", "v1")
		r.expect("create link/b v1", "update join/c1 v1 v2")
		r.want("c1", "join/c1", "v2 link/b", "link/b", "v1") // does not need link/a any more
		r.expect("delete link/a v1")
		r.want("c1", "link/b", "v1", "join/c1", "v3 link/c")
		r.expect("delete join/c1 v2")
		r.state("c1", Pending, "join/c1 waits for link/c")
		r.want("c1", "link/b", "v1", "join/c1", "v4 link/b ns/x")
		r.state("c1", Pending, "waits for the namespace x")
		r.Observe("ns/x", true)
		r.settle()
		r.expect("create join/c1 v4")
	})
}

func TestManyOnOne(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		values := []string{"link/a", "v1 ns/a"}
		for i := range 100 {
			values = append(values, fmt.Sprintf("join/%d", i), "v1 link/a ns/a")
		}
		r.want("c1", values...)
		r.expect()
		r.Observe("ns/a", true)
		r.settle()
		r.state("c1", Applied)
		r.Observe("ns/a", false)
		r.settle()
		r.state("c1", Pending, "the namespace a")
		r.mu.Lock()
		defer r.mu.Unlock()
		if n := len(r.calls); n != 202 || r.calls[0] != "create link/a v1" || r.calls[201] != "delete link/a v1" {
			t.Errorf("%d calls: %q", n, r.calls)
		}
	})
}

// The three ways to go round in a circle: before anything is there, by an update, and alone.
func TestCirclesArePending(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		r.want("c1", "link/a", "v1 join/b", "join/b", "v1 link/c", "link/c", "v1 link/a")
		r.state("c1", Pending, "circle", "link/a → join/b", "join/b → link/c", "link/c → link/a")
		r.want("c2", "link/z", "v1 link/z")
		r.state("c2", Pending, "link/z → link/z")
		r.expect()
		r.want("c1", "link/a", "v1", "join/b", "v1 link/c", "link/c", "v1 link/a")
		r.expect("create link/a v1", "create link/c v1", "create join/b v1")
		r.want("c1", "link/a", "v2 join/b", "join/b", "v1 link/c", "link/c", "v1 link/a")
		r.expect("delete join/b v1", "delete link/c v1", "delete link/a v1")
		r.state("c1", Pending, "circle", "link/a", "join/b", "link/c")
		r.want("c1", "link/a", "v3", "join/b", "v1 link/c", "link/c", "v1 link/a")
		r.expect("create link/a v3", "create link/c v1", "create join/b v1")
		r.want("c1")
		r.want("c2")
		r.expect("delete join/b v1", "delete link/c v1", "delete link/a v3")
	})
}

// A circle of what is there and what is not: what is there goes, once.
func TestCircleByAChange(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		r.want("c1", "link/a", "v1", "join/top", "v1 link/a")
		r.expect("create link/a v1", "create join/top v1")
		r.want("c1", "link/a", "v2 join/d", "join/top", "v1 link/a", "join/d", "v1 link/a")
		r.expect("delete join/top v1", "delete link/a v1")
		r.state("c1", Pending, "circle", "link/a → join/d", "join/d → link/a")
		r.want("c1", "link/a", "v2", "join/top", "v1 link/a", "join/d", "v1 link/a")
		r.expect("create link/a v2", "create join/top v1; create join/d v1")
	})
}

func TestLongChain(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		const n = 20_000
		values := []string{"link/0", "v1 ns/a"}
		for i := 1; i < n; i++ {
			values = append(values, fmt.Sprintf("link/%d", i), fmt.Sprintf("v1 link/%d", i-1))
		}
		r.want("c1", values...)
		r.state("c1", Pending)
		for _, there := range []bool{true, false} {
			r.Observe("ns/a", there)
			r.settle()
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.calls) != 2*n || r.calls[0] != "create link/0 v1" || r.calls[n] != fmt.Sprintf("delete link/%d v1", n-1) {
			t.Errorf("%d calls, the first deleted: %s", len(r.calls), r.calls[min(n, len(r.calls)-1)])
		}
	})
}

func TestStopWaitsAndLeavesTheWorld(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		open := r.gate("create link/a")
		r.Apply(set("c1", "link/a", "v1", "join/c1", "v1 link/a"))
		synctest.Wait()
		stopped := make(chan struct{})
		go func() { r.Stop(); close(stopped) }()
		time.Sleep(time.Minute)
		select {
		case <-stopped:
			t.Error("stop does not wait for the operation")
		default:
		}
		open()
		<-stopped
		r.Apply(set("c1"))
		synctest.Wait()
		r.expect("create link/a v1")
		for what, err := range map[string]error{
			"settle": r.Settle(t.Context()), "resync": r.Resync(t.Context()), "start": r.Start(t.Context()),
		} {
			if !errors.Is(err, ErrStopped) {
				t.Errorf("%s after stop: %v", what, err)
			}
		}
	})
}
