package reconcile

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// Stories of what goes wrong.

func TestBackoff(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		r.failing("create link/a", errFake)
		r.want("c1", "link/a", "v1")
		time.Sleep(10 * time.Minute)
		r.mu.Lock()
		times := r.times
		r.mu.Unlock()
		low := 100 * time.Millisecond
		for i := 1; i < len(times); i++ {
			if pause := times[i] - times[i-1]; pause < low || pause > low*5/4 {
				t.Errorf("attempt %d after %v, want %v to %v", i+1, pause, low, low*5/4)
			}
			low = min(2*low, 24*time.Second)
		}
		if n := len(times); n < 25 || n > 40 {
			t.Errorf("%d attempts in ten minutes", n)
		}
		r.Retries(func(kind string, n uint64) {
			if kind == "link" && n != uint64(len(times)-1) {
				t.Errorf("%d retries are counted, want %d", n, len(times)-1)
			}
		})
		r.state("c1", Failed, "link/a")
		r.heard("c1 failed") // once, for one reason
	})
}

func TestBackoffEndsWithANewSpecAndWithSuccess(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		r.failing("create link/a", errFake)
		r.want("c1", "link/a", "v1")
		time.Sleep(10 * time.Minute)
		r.mu.Lock()
		r.calls, r.times = nil, nil
		r.mu.Unlock()
		r.failing("create link/a", nil)
		r.want("c1", "link/a", "v2") // at once
		r.expect("delete link/a v1", "create link/a v2")
		r.failing("update link/a", errFake)
		r.want("c1", "link/a", "v3")
		time.Sleep(99 * time.Millisecond)
		r.expect("update link/a v2 v3")
		time.Sleep(27 * time.Millisecond) // tried again as after the first failure
		r.settle()
		r.expect("update link/a v2 v3")
		r.state("c1", Failed)
		r.failing("update link/a", nil)
		time.Sleep(time.Second)
		r.settle()
		r.expect("update link/a v2 v3")
		r.state("c1", Applied)
	})
}

// What a failed attempt left is deleted before something else is tried; nothing that was
// tried is forgotten, and the same is tried again as it was.
func TestFailedAttemptsAreCleanedUp(t *testing.T) {
	type is = []string
	for _, tt := range []struct {
		name  string
		story func(r *rig)
		want  is
	}{
		{"create, then the same", func(r *rig) {
			r.failing("create link/a", errFake)
			r.want("c1", "link/a", "v1")
			r.failing("create link/a", nil)
			r.want("c1", "link/a", "v1")
		}, is{"create link/a v1", "create link/a v1"}},
		{"create, then another", func(r *rig) {
			r.failing("create link/a", errFake)
			r.want("c1", "link/a", "v1")
			r.failing("create link/a", nil)
			r.want("c1", "link/a", "v2")
		}, is{"create link/a v1", "delete link/a v1", "create link/a v2"}},
		{"create, then nothing", func(r *rig) {
			r.failing("create link/a", errFake)
			r.want("c1", "link/a", "v1")
			r.want("c1")
		}, is{"create link/a v1", "delete link/a v1"}},
		{"create, then another that must wait", func(r *rig) {
			r.failing("create link/a", errFake)
			r.want("c1", "link/a", "v1")
			r.want("c1", "link/a", "v2 ns/x")
		}, is{"create link/a v1", "delete link/a v1"}},
		{"update, then the same", func(r *rig) {
			r.want("c1", "link/a", "v1")
			r.failing("update link/a", errFake)
			r.want("c1", "link/a", "v2")
			r.failing("update link/a", nil)
			r.want("c1", "link/a", "v2")
		}, is{"create link/a v1", "update link/a v1 v2", "update link/a v1 v2"}},
		{"update, then another", func(r *rig) {
			r.want("c1", "link/a", "v1")
			r.failing("update link/a", errFake)
			r.want("c1", "link/a", "v2")
			r.want("c1", "link/a", "v3")
		}, is{"create link/a v1", "update link/a v1 v2", "delete link/a v2", "delete link/a v1", "create link/a v3"}},
		{"update, then as before", func(r *rig) {
			r.want("c1", "link/a", "v1")
			r.failing("update link/a", errFake)
			r.want("c1", "link/a", "v2")
			r.want("c1", "link/a", "v1")
		}, is{"create link/a v1", "update link/a v1 v2", "delete link/a v2", "delete link/a v1", "create link/a v1"}},
		{"update, then nothing", func(r *rig) {
			r.want("c1", "link/a", "v1")
			r.failing("update link/a", errFake)
			r.want("c1", "link/a", "v2")
			r.want("c1")
		}, is{"create link/a v1", "update link/a v1 v2", "delete link/a v2", "delete link/a v1"}},
		{"update that refuses, then as before", func(r *rig) {
			r.want("c1", "link/a", "v1", "join/a", "v1 link/a")
			r.failing("delete join/a", errFake)
			r.want("c1", "link/a", "w1", "join/a", "v1 link/a")
			r.want("c1", "link/a", "v1", "join/a", "v1 link/a")
		}, is{"create link/a v1", "create join/a v1", "delete join/a v1", "create join/a v1"}},
		{"update, then delete, then wanted again", func(r *rig) {
			r.want("c1", "link/a", "v1")
			r.failing("update link/a", errFake)
			r.want("c1", "link/a", "v2")
			r.failing("delete link/a", errFake)
			r.want("c1")
			r.failing("delete link/a", nil)
			r.want("c1", "link/a", "v2")
		}, is{"create link/a v1", "update link/a v1 v2", "delete link/a v2",
			"delete link/a v2", "delete link/a v1", "create link/a v2"}},
		{"delete, then wanted again", func(r *rig) {
			r.want("c1", "link/a", "v1")
			r.failing("delete link/a", errFake)
			r.want("c1")
			r.want("c1", "link/a", "v1")
		}, is{"create link/a v1", "delete link/a v1", "create link/a v1"}},
		{"delete, then another", func(r *rig) {
			r.want("c1", "link/a", "v1")
			r.failing("delete link/a", errFake)
			r.want("c1")
			r.failing("delete link/a", nil)
			r.want("c1", "link/a", "v2")
		}, is{"create link/a v1", "delete link/a v1", "delete link/a v1", "create link/a v2"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			begin(t, func(t *testing.T, r *rig) {
				tt.story(r)
				r.expect(tt.want...)
			})
		})
	}
}

func TestFailureOfWhatIsNotWantedAnyMore(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		open := r.gate("create link/a")
		r.failing("create link/a", errFake)
		r.Apply(set("c1", "link/a", "v1"))
		synctest.Wait()
		r.failing("create link/a", nil)
		r.Apply(set("c1", "link/a", "v2"))
		open()
		r.settle() // at once, without backoff
		r.expect("create link/a v1", "delete link/a v1", "create link/a v2")
		r.heard("c1 applied")
	})
}

// While it is not known how far an update has got, the value stands on what the old spec
// needs and on what the new one needs.
func TestFailedUpdateStandsOnBoth(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		r.want("c1", "link/a", "v1", "link/b", "v1")
		r.want("c2", "join/c", "v1 link/a")
		r.failing("update join/c", errFake)
		r.want("c2", "join/c", "v2 link/b")
		r.mu.Lock()
		r.calls = nil
		r.mu.Unlock()
		r.want("c1")
		r.expect("delete join/c v2", "delete join/c v1", "delete link/a v1; delete link/b v1")
		r.state("c2", Pending, "join/c waits for link/b")
	})
}

func TestDeleteThatFailsIsRetried(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		r.want("c1", "link/a", "v1", "join/c1", "v1 link/a")
		r.failing("delete join/c1", errFake)
		r.want("c1")
		r.state("c1", Failed, "delete join/c1", "no luck")
		r.failing("delete join/c1", nil)
		time.Sleep(time.Second)
		r.settle()
		r.expect("create link/a v1", "create join/c1 v1", "delete join/c1 v1", "delete join/c1 v1", "delete link/a v1")
		r.heard("c1 applied", "c1 failed", "c1 gone")
	})
}

func TestPanicIsAFailure(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		r.failing("create link/a", errors.New("panic"))
		r.want("c1", "link/a", "v1")
		r.state("c1", Failed, "link/a", "panic: at the disco")
		r.failing("create link/a", nil)
		time.Sleep(time.Second)
		r.settle()
		r.state("c1", Applied)
	})
}

// What can never be applied is said; what was there before stays.
func TestBadValues(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		r.want("c1", "link/a", "v1", "join/c1", "v1 link/a")
		r.expect("create link/a v1", "create join/c1 v1")
		for _, tt := range []struct {
			value  Value
			reason string
		}{
			{Value{"link/a", 42}, "link/a: the spec is a int, not a string"},
			{Value{"link/a", nil}, "link/a: the spec is a <nil>, not a string"},
			{Value{"link/a", "bad"}, "link/a: panic: no such spec"},
			{Value{"tunnel/a", "v1"}, `tunnel/a: there is neither a descriptor nor a source of facts for the kind "tunnel"`},
			{Value{"", "v1"}, `: there is neither a descriptor nor a source of facts for the kind ""`},
			{Value{"ns/a", "v1"}, `ns/a: the kind "ns" is a fact`},
		} {
			c := set("c1", "link/a", "v1", "join/c1", "v1 link/a")
			c.Values = append(c.Values, tt.value)
			r.Apply(c)
			r.settle()
			r.state("c1", Failed, tt.reason)
			r.expect()
		}
		r.want("c2", "join/c2", "v1 tunnel/x")
		r.state("c2", Pending, "join/c2 waits for tunnel/x", `kind "tunnel"`)
		r.want("c1", "link/a", "v1", "join/c1", "v1 link/a")
		r.state("c1", Applied)
		r.expect()
	})
}

func TestRegisteringTwicePanics(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		for _, register := range []func(){
			func() { Register(r.Engine, "link", fake{r, "link"}) },
			func() { r.Facts("link", "the link", r) },
			func() { r.Facts("late", "the last", r) },
		} {
			func() {
				defer func() {
					if recover() == nil {
						t.Error("it does not panic")
					}
				}()
				register()
			}()
		}
	})
}

// Failures and retries cost what they touch: ten thousand that fail do not keep the
// others from being applied, and one that fails beside them is tried as often as alone.
func TestManyFailuresGoOnAlone(t *testing.T) {
	begin(t, func(t *testing.T, r *rig) {
		var values []string
		for i := range 10_000 {
			values = append(values, fmt.Sprintf("join/%d", i), "v1 link/a")
			r.failing(fmt.Sprintf("create join/%d", i), errFake)
		}
		r.Apply(set("many", values...), set("one", "link/a", "v1"))
		r.settle()
		r.state("one", Applied)
		r.state("many", Failed)
		r.mu.Lock()
		clear(r.fail)
		r.mu.Unlock()
		time.Sleep(time.Second)
		r.settle()
		r.state("many", Applied)
	})
}
