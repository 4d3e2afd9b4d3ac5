package reconcile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Stories of groups and what is told of them.

func TestEveryChangeIsAnswered(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		for i := range 3 {
			c := set("c1", "link/a", "v1")
			c.Revision = int64(i + 10)
			r.Apply(c)
			r.settle()
			if r.last != (Status{Group: "c1", Revision: c.Revision, State: Applied}) {
				t.Errorf("told %+v", r.last)
			}
		}
		r.expect("create link/a v1") // wanted again is no reason to touch it
		r.want("c1")
		if _, ok := r.Status("c1"); ok {
			t.Error("c1 has a status after it is gone")
		}
		r.want("c1") // a group that nobody knows
		r.heard("c1 applied", "c1 applied", "c1 applied", "c1 gone", "c1 gone")
		if len(r.groups) > 0 || len(r.kinds["link"].values) > 0 {
			t.Error("what is gone is remembered")
		}
	})
}

// A change that only got another revision is answered at once, or later if it is still being
// applied, and compares nothing.
func TestConfirm(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		if _, ok := r.Confirm("c1", -1, 7); ok {
			t.Error("a group that nobody knows was confirmed")
		}
		c := set("c1", "link/a", "v1")
		c.Revision = -1
		open := r.gate("create link/a")
		r.Apply(c)
		if s, ok := r.Confirm("c1", -1, 7); !ok || s.State != Applying {
			t.Errorf("while it is being made: %+v, %v", s, ok)
		}
		open()
		r.settle()
		made := Status{Group: "c1", Revision: 7, State: Applied}
		if r.last != made {
			t.Errorf("told %+v", r.last)
		}
		if _, ok := r.Confirm("c1", -1, 8); ok {
			t.Error("a revision that it no longer has was confirmed")
		}
		if s, ok := r.Confirm("c1", 7, 9); !ok || s != (Status{Group: "c1", Revision: 9, State: Applied}) {
			t.Errorf("once it is made: %+v, %v", s, ok)
		}
		r.settle()
		if r.last != made {
			t.Errorf("told %+v besides", r.last)
		}
		r.expect("create link/a v1")
		r.failing("create link/a", errFake)
		r.Lost("link/a")
		synctest.Wait()
		if r.last.Revision != 9 || r.last.State != Failed {
			t.Errorf("told %+v when it could not be made again", r.last)
		}
	})
}

func TestKeyOfTwoGroups(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		r.want("first", "link/a", "v1")
		r.want("second", "link/a", "v2", "link/b", "v1")
		r.want("third", "link/a", "v3")
		r.expect("create link/a v1", "create link/b v1")
		r.state("first", Applied)
		r.state("second", Failed, "link/a", `"first"`)
		r.state("third", Failed, "link/a", `"first"`)
		r.want("first")
		r.expect("update link/a v1 v2")
		r.state("second", Applied)
		r.state("third", Failed, "link/a", `"second"`)
		r.want("third")
		r.want("second", "link/b", "v1")
		r.expect("delete link/a v2")
		r.heard("first applied", "second failed", "third failed",
			"first gone", "third failed", "second applied", "third gone", "second applied")
	})
}

// In one transaction a key may move from one group to another, in either order.
func TestKeyMovesInOneTransaction(t *testing.T) {
	for i := range 2 {
		begin(t, func(t *testing.T, r *rig) {
			r.want("first", "link/a", "v1")
			changes := []Change{set("first"), set("second", "link/a", "v1")}
			if i == 1 {
				slices.Reverse(changes)
			}
			r.Apply(changes...)
			r.settle()
			r.expect("create link/a v1")
			r.state("second", Applied)
		})
	}
}

func TestKeyTakenOverWhileItIsDeleted(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		r.want("first", "link/a", "v1")
		open := r.gate("delete link/a")
		r.Apply(set("first"))
		synctest.Wait()
		r.Apply(set("second", "link/a", "v2"))
		synctest.Wait()
		r.heard("first applied", "first gone")
		open()
		r.settle()
		r.expect("create link/a v1", "delete link/a v1", "create link/a v2")
		r.heard("second applied")
	})
}

func TestOfAKeyGivenTwiceTheLastCounts(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		r.want("c1", "link/a", "v1", "link/a", "v2 ns/a", "link/a", "v3")
		r.expect("create link/a v3")
		r.state("c1", Applied)
	})
}

// A group that changes faster than OnStatus returns is told as it is in the end.
func TestSlowOnStatusHoldsUpNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []string
		e := New(Options{OnStatus: func(s Status) {
			time.Sleep(time.Hour)
			told = append(told, fmt.Sprint(s.Group, s.Revision))
		}})
		defer e.Stop()
		r := &rig{t: t, Engine: e, begin: time.Now()}
		Register(e, "link", fake{r, "link"})
		if err := e.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i := range 100 {
			c := set("c", "link/a", fmt.Sprint("v", i))
			c.Revision = int64(i)
			e.Apply(c)
			synctest.Wait()
		}
		if last := r.calls[len(r.calls)-1]; last != "update link/a v98 v99" {
			t.Errorf("the last call is %q", last)
		}
		if n := e.news.len(); n != 1 {
			t.Errorf("%d groups wait to be told, want 1", n)
		}
		if err := e.Settle(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(told, []string{"c0", "c99"}) {
			t.Errorf("told %q", told)
		}
	})
}

func TestOnStatusMayCallTheEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e *Engine
		e = New(Options{OnStatus: func(s Status) {
			if s.State == Applied {
				e.Apply(Change{Group: s.Group})
			}
			e.Status(s.Group)
			e.Stats(func(string, State, int) {})
		}})
		defer e.Stop()
		r := &rig{t: t, Engine: e, begin: time.Now()}
		Register(e, "link", fake{r, "link"})
		if err := e.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.want("c1", "link/a", "v1")
		r.expect("retrieve link", "create link/a v1", "delete link/a v1")
	})
}

func TestStats(t *testing.T) {
	var calls atomic.Int32
	var seconds atomic.Uint64
	o := Options{OnCall: func(c Call) { calls.Add(1); seconds.Add(uint64(c.Took.Seconds())) }}
	tell(t, o, func(t *testing.T, r *rig) {
		r.start()
		r.failing("create link/bad", errFake)
		open := r.gate("create link/slow")
		r.Apply(set("c1", "link/a", "v1", "link/bad", "v1", "link/slow", "v1", "join/a", "v1 ns/x"))
		time.Sleep(90 * time.Millisecond)
		want := map[string]int{"link applied": 1, "link failed": 1, "link applying": 1, "join pending": 1}
		got := map[string]int{}
		rows := 0
		r.Stats(func(kind string, s State, n int) {
			rows++
			if n > 0 {
				got[fmt.Sprint(kind, " ", s)] = n
			}
		})
		if !maps.Equal(got, want) || rows != 8 {
			t.Errorf("%d rows: %v, want 8 rows: %v", rows, got, want)
		}
		time.Sleep(10 * time.Second)
		open()
		r.settle()
		if calls.Load() < 4 || seconds.Load() < 10 {
			t.Errorf("%d calls of %d s are told", calls.Load(), seconds.Load())
		}
		r.want("c1")
		r.Stats(func(kind string, s State, n int) {
			if n != 0 {
				t.Errorf("in the end there are %d %v of %s", n, s, kind)
			}
		})
	})
}

// Workers stay and wait for more; no others are hired while they do, and Stop sends them home.
func TestWorkersStay(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		synctest.Wait()
		before := runtime.NumGoroutine()
		r.failing("create link/bad", errFake)
		r.want("c1", "link/a", "v1", "link/bad", "v1", "join/a", "v1 ns/a")
		synctest.Wait()
		hired := runtime.NumGoroutine() - before
		if hired < 1 || hired > r.opts.Workers {
			t.Errorf("%d goroutines stay, want 1 to %d", hired, r.opts.Workers)
		}
		for i := range 20 {
			r.want(fmt.Sprint("d", i), fmt.Sprint("link/d", i), "v1")
			synctest.Wait()
		}
		if n := runtime.NumGoroutine() - before; n > hired {
			t.Errorf("%d goroutines for more of the same, want %d", n, hired)
		}
		r.Stop()
		synctest.Wait()
		if n := runtime.NumGoroutine(); n > before {
			t.Errorf("%d goroutines after Stop, %d before there was work", n, before)
		}
	})
}

func TestSettleGivesUp(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		defer r.gate("create link/a")()
		r.Apply(set("c1", "link/a", "v1"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.Settle(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("settle: %v", err)
		}
		if len(r.waits) > 0 {
			t.Error("who has given up is remembered")
		}
	})
}

func TestStateString(t *testing.T) {
	var got []string
	for s := Applying - 1; s <= Gone+1; s++ {
		got = append(got, s.String())
	}
	if want := []string{"state(-1)", "applying", "pending", "applied", "failed", "gone", "state(5)"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
