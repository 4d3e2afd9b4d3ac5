package reconcile

import (
	"slices"
	"strconv"
	"testing"
	"time"
)

// A change costs what it touches: with ten thousand connections present it takes about
// what it takes with a hundred. A step that walks everything would take a hundred times
// that, so the limit leaves room for caches and for other jobs on the machine.
func TestCostDoesNotGrowWithWhatExists(t *testing.T) {
	const limit, rounds, tries = 5, 200, 5
	few, lots := newBench(t, 100), newBench(t, many)
	defer few.Stop()
	defer lots.Stop()
	for b, n := range map[*bench]int{few: 100, lots: many} { // as many joins on one hub, too
		b.Apply(hub(0))
		b.await(t, 1, Applied)
		b.Apply(spokes(n)...)
		b.await(t, n, Applied)
	}
	for _, tt := range []struct {
		name string
		do   func(b *bench, i int)
	}{
		{"one more and one less", func(b *bench, _ int) {
			b.Apply(connection(many))
			b.await(t, 1, Applied)
			b.Apply(Change{Group: strconv.Itoa(many)})
			b.await(t, 1, Gone)
		}},
		{"a failure and its retries", func(b *bench, _ int) {
			b.fail.Store(true)
			b.Apply(connection(many))
			b.await(t, 1, Failed)
			b.fail.Store(false)
			b.await(t, 1, Applied)
			b.Apply(Change{Group: strconv.Itoa(many)})
			b.await(t, 1, Gone)
		}},
		{"wanted again", func(b *bench, _ int) {
			b.Apply(connection(7))
			b.await(t, 1, Applied)
		}},
		{"lost", func(b *bench, _ int) {
			b.Lost("end/7:client")
			settle(t, b)
		}},
		{"one more on a hub and one less", func(b *bench, _ int) {
			b.Apply(spoke(many))
			b.await(t, 1, Applied)
			b.Apply(Change{Group: spoke(many).Group})
			b.await(t, 1, Gone)
		}},
		{"update of a hub", func(b *bench, i int) {
			b.Apply(hub(i))
			b.await(t, 1, Applied)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var small, big time.Duration
			for range tries {
				small, big = medians(few, lots, rounds, tt.do)
				if big <= limit*small {
					return
				}
			}
			t.Errorf("%v with 100 present, %v with %d", small, big, many)
		})
	}
}

// medians measures both by turns, so that what else runs on the machine hits both.
func medians(a, b *bench, rounds int, do func(b *bench, i int)) (x, y time.Duration) {
	var took [2][]time.Duration
	for i := range rounds {
		for j, e := range []*bench{a, b} {
			begin := time.Now()
			do(e, i+1)
			took[j] = append(took[j], time.Since(begin))
		}
	}
	slices.Sort(took[0])
	slices.Sort(took[1])
	return took[0][rounds/2], took[1][rounds/2]
}

func hub(i int) Change {
	return Change{Group: "hub", Values: []Value{{"end/hub", end{strconv.Itoa(i)}}}}
}

func spoke(i int) Change {
	key := "end/spoke" + strconv.Itoa(i)
	return Change{Group: key, Values: []Value{{key, end{}}, {"join/spoke" + strconv.Itoa(i), join{"end/hub", key}}}}
}

func spokes(n int) []Change {
	all := make([]Change, n)
	for i := range all {
		all[i] = spoke(i)
	}
	return all
}

func settle(t *testing.T, b *bench) {
	if err := b.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
}
