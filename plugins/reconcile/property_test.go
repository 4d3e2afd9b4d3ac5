package reconcile

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

var (
	oneSeed = flag.Uint64("seed", 0, "run the property tests with this seed only")
	seeds   = flag.Int("seeds", 150, "run the property tests with so many seeds")
)

// shuffled runs f with many seeds, each in a bubble of virtual time.
func shuffled(t *testing.T, f func(t *testing.T, s *story)) {
	base, n := rand.Uint64()>>16, *seeds
	if *oneSeed != 0 {
		base, n = *oneSeed, 1
	}
	for i := range n {
		seed := base + uint64(i)
		ok := t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &story{t: t, seed: seed, rand: rand.New(rand.NewPCG(seed, 2)), world: newWorld(seed),
					want: map[string]map[string]spec{}, last: map[string]Status{}}
				defer s.crash()
				f(t, s)
				s.check()
			})
		})
		if !ok {
			t.Fatalf("to repeat: go test -run '%s' -seed %d", t.Name(), seed)
		}
	}
}

// calm lets the world work again and waits until nothing goes on any more.
func (s *story) calm() {
	s.world.mu.Lock()
	s.world.failures = 0
	s.world.mu.Unlock()
	for range 100 {
		if err := s.engine.Settle(s.t.Context()); err != nil {
			s.t.Fatal(err)
		}
		busy := 0
		s.engine.Stats(func(_ string, st State, n int) {
			if st == Applying || st == Failed {
				busy += n
			}
		})
		synctest.Wait()
		if busy == 0 && s.quiet() {
			return
		}
		time.Sleep(10 * time.Second)
	}
	s.t.Error("the engine does not come to rest")
}

// quiet reports whether no kind waits to be retrieved again.
func (s *story) quiet() bool {
	s.engine.mu.Lock()
	defer s.engine.mu.Unlock()
	for _, k := range s.engine.kinds {
		if k.paused > 0 {
			return false
		}
	}
	return true
}

// possible returns what is wanted and can be there: all that it needs is there, too.
func (s *story) possible() map[where]spec {
	out, there := map[where]spec{}, maps.Clone(s.world.facts)
	missing := func(need string) bool { return !there[need] }
	for n := -1; n < len(out); {
		n = len(out)
		for _, values := range s.want {
			for key, sp := range values {
				if !slices.ContainsFunc(sp.Needs, missing) {
					there[key], out[where{key, sp.Place}] = true, sp
				}
			}
		}
	}
	return out
}

// check compares the world and the statuses with what is wanted.
func (s *story) check() {
	s.calm()
	w := s.world
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range w.broken {
		s.t.Error(b)
	}
	if *oneSeed != 0 {
	}
	if *oneSeed != 0 {
	}
	if *oneSeed != 0 {
	}
	possible := s.possible()
	for at, sp := range possible {
		if t, there := w.things[at]; !there || !t.equal(sp) {
			s.t.Errorf("%v is %v (%v), want %v", at, t, there, sp)
		}
	}
	for at, t := range w.things {
		if _, want := possible[at]; !want {
			s.t.Errorf("%v is %v, want nothing", at, t)
		}
	}
	for g, values := range s.want {
		state := Applied
		if len(values) == 0 {
			state = Gone
		}
		for key, sp := range values {
			if _, ok := possible[where{key, sp.Place}]; !ok {
				state = Pending
			}
		}
		if got := s.last[g]; got.State != state && (state != Gone || got.Group != "") {
			s.t.Errorf("group %s was told to be %v, want %v: %s", g, got.State, state, got.Reason)
		}
		if got, ok := s.engine.Status(g); ok && got.State != state || ok == (state == Gone) {
			s.t.Errorf("group %s is %v, want %v: %s", g, got.State, state, got.Reason)
		}
	}
}

// Whatever happens, in whatever order, in the end the world is what is wanted; and on the
// way nothing is called but what Descriptor says, and nothing for what is not ours.
func TestWorldEndsAsWanted(t *testing.T) {
	shuffled(t, func(t *testing.T, s *story) {
		s.world.failures = []float64{0, 0.05, 0.2}[s.rand.IntN(3)]
		s.world.slowness = []time.Duration{0, time.Millisecond, time.Second}[s.rand.IntN(3)]
		s.litter()
		s.circles = s.rand.IntN(3) == 0
		for _, f := range facts {
			s.world.facts[f] = s.rand.IntN(2) == 0
		}
		s.start()
		for range 40 {
			s.event()
		}
	})
}

// What is as it should be is not touched: neither by a new life of the agent, nor by a
// Resync, nor by being wanted again. Only what differs is, and what depends on that.
func TestWhatMatchesIsNotTouched(t *testing.T) {
	shuffled(t, func(t *testing.T, s *story) {
		s.circles = s.rand.IntN(3) == 0
		for _, f := range facts {
			s.world.facts[f] = s.rand.IntN(3) > 0
		}
		s.start()
		for range 20 {
			s.apply(s.mutate())
		}
		s.check()
		clear(s.world.calls)
		before := s.needs(nil)

		differ := map[string]bool{}
		for range s.rand.IntN(3) {
			if key := s.world.damage(); key != "" {
				differ[key] = true
			}
		}
		var changed []string
		for range s.rand.IntN(2) {
			g := s.anyGroup()
			old := maps.Clone(s.want[g])
			for key := range old {
				if s.rand.IntN(2) == 0 {
					s.want[g][key] = s.anySpec(slices.Index(kinds, kindOf(key)))
					differ[key] = true
				}
			}
			changed = append(changed, g)
		}
		switch s.rand.IntN(3) {
		case 0:
			s.crash()
			s.start()
		case 1:
			if err := s.engine.Resync(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.apply(changed...)
		default:
			s.apply("A", "B", "C", "D")
			if err := s.engine.Resync(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		s.check()
		needs := s.needs(before)
		for spread := true; spread; {
			spread = false
			for key, list := range needs {
				if !differ[key] && slices.ContainsFunc(list, func(need string) bool { return differ[need] }) {
					differ[key], spread = true, true
				}
			}
		}
		for key := range s.world.calls {
			if !differ[key] {
				t.Errorf("%s was touched, and nothing it depends on is different", key)
			}
		}
	})
}

// needs returns what every wanted key needs, besides what it needed before.
func (s *story) needs(before map[string][]string) map[string][]string {
	out := maps.Clone(before)
	if out == nil {
		out = map[string][]string{}
	}
	for _, values := range s.want {
		for key, sp := range values {
			out[key] = append(slices.Clone(out[key]), sp.Needs...)
		}
	}
	return out
}
