package reconcile

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// Stories of facts of the outside world.

func TestFactGoesAndComesBack(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		r.facts["ns/a"] = true
		r.want("c1", "link/a", "v1 ns/a", "join/a", "v1 link/a")
		r.expect("create link/a v1", "create join/a v1")
		r.Observe("ns/a", true) // nothing new
		r.Observe("ns/b", true) // nobody asked
		r.Observe("link/a", false)
		r.settle()
		r.expect()
		r.Observe("ns/a", false)
		r.settle()
		r.expect("delete join/a v1", "delete link/a v1")
		r.state("c1", Pending, "waits for the namespace a")
		r.Observe("ns/a", true)
		r.settle()
		r.expect("create link/a v1", "create join/a v1")
		r.heard("c1 applied", "c1 pending", "c1 applied")
	})
}

func TestDeleteAfterAFactIsRetried(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		r.facts["ns/a"] = true
		r.want("c1", "link/a", "v1 ns/a")
		r.failing("delete link/a", errFake)
		r.Observe("ns/a", false)
		r.settle()
		r.state("c1", Failed, "delete link/a")
		r.failing("delete link/a", nil)
		time.Sleep(time.Second)
		r.settle()
		r.expect("create link/a v1", "delete link/a v1", "delete link/a v1")
		r.state("c1", Pending)
	})
}

// A fact that is back before anything was deleted may be another one of the same name.
func TestFactThatFlickers(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		r.facts["ns/a"] = true
		r.want("c1", "link/a", "v1 ns/a", "join/a", "v1 link/a")
		r.expect("create link/a v1", "create join/a v1")
		r.failing("delete join/a", errFake)
		r.Observe("ns/a", false)
		r.settle()
		r.Observe("ns/a", true)
		r.settle()
		r.expect("delete join/a v1", "create link/a v1", "create join/a v1")
		r.state("c1", Applied)
	})
}

func TestFactGoesWhileItsDependentIsMade(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		r.facts["ns/a"] = true
		open := r.gate("create link/a")
		r.Apply(set("c1", "link/a", "v1 ns/a"))
		synctest.Wait()
		r.Observe("ns/a", false)
		open()
		r.settle()
		r.expect("create link/a v1", "delete link/a v1")
		r.state("c1", Pending, "the namespace a")
	})
}

func TestFactsAreWatchedOnceAndLetGo(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		watched := func(want ...string) {
			t.Helper()
			slices.Sort(r.watched)
			if !slices.Equal(r.watched, want) {
				t.Errorf("watched are %q, want %q", r.watched, want)
			}
		}
		r.facts["ns/a"] = true
		r.want("c1", "link/a", "v1 ns/a", "link/b", "v1 ns/a ns/b")
		r.want("c2", "join/c", "v1 ns/b")
		watched("ns/a", "ns/b")
		r.want("c1", "link/a", "v1 ns/a")
		watched("ns/a", "ns/b")
		r.want("c2")
		watched("ns/a")
		r.want("c1", "link/a", "v1")
		watched()
		r.want("c1", "link/a", "v1 ns/a")
		r.want("c1")
		watched()
		if n := len(r.kinds["ns"].values); n > 0 {
			t.Errorf("%d facts are remembered", n)
		}
	})
}

// What the source observes while it is asked is newer than its answer, but not than its
// answer when it is asked again.
func TestObserveDuringWatch(t *testing.T) {
	for _, tt := range []struct {
		name            string
		observed, panic bool
	}{{"then an answer", false, false}, {"then a panic", true, true}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := New(Options{})
				defer e.Stop()
				e.Facts("ns", "the namespace", &hasty{e: e, observed: tt.observed, panic: tt.panic})
				Register(e, "link", fake{&rig{t: t, begin: time.Now()}, "link"})
				if err := e.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				e.Apply(set("c1", "link/a", "v1 ns/a"))
				time.Sleep(time.Second)
				if err := e.Settle(t.Context()); err != nil {
					t.Fatal(err)
				}
				if s, _ := e.Status("c1"); s.State != Pending {
					t.Errorf("c1 is %v, want pending", s.State)
				}
			})
		})
	}
}

// hasty calls Observe before its answer is out, which is the contrary; or it panics the
// first time.
type hasty struct {
	e               *Engine
	observed, panic bool
	asked           int
}

func (h *hasty) Watch(key string) bool {
	if h.asked++; h.asked > 1 {
		return false
	}
	h.e.Observe(key, h.observed)
	if h.panic {
		panic("too hasty")
	}
	return !h.observed
}

func (h *hasty) Unwatch(string) {}
