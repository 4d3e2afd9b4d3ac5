package reconcile

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// The speed of the engine alone: descriptors that do nothing. A connection is two
// attachments and a join that depends on both.

const many = 10_000

type end struct{ Interface string }

type join struct{ A, B string }

// noop is a descriptor that does nothing, finds all that it is given, and fails on demand.
type noop[S comparable] struct {
	needs func(S) []string
	fail  *atomic.Bool
}

var errDemanded = errors.New("on demand")

func (d *noop[S]) do() error {
	if d.fail.Load() {
		return errDemanded
	}
	return nil
}

func (d *noop[S]) Create(context.Context, string, S) error    { return d.do() }
func (d *noop[S]) Update(context.Context, string, S, S) error { return d.do() }
func (d *noop[S]) Delete(context.Context, string, S) error    { return d.do() }
func (d *noop[S]) Dependencies(_ string, spec S) []string     { return d.needs(spec) }
func (d *noop[S]) Equal(found, want S) bool                   { return found == want }

func (d *noop[S]) Retrieve(_ context.Context, want iter.Seq2[string, S]) ([]Found[S], error) {
	all := make([]Found[S], 0, 2*many)
	for key, spec := range want {
		all = append(all, Found[S]{key, spec})
	}
	return all, nil
}

// bench is an engine with n connections applied.
type bench struct {
	*Engine
	told chan Status
	fail atomic.Bool // of joins
}

func newBench(tb testing.TB, n int) *bench {
	b := &bench{told: make(chan Status, 2*many)}
	b.Engine = New(Options{OnStatus: func(s Status) { b.told <- s }, MinBackoff: time.Microsecond, MaxBackoff: 2 * time.Microsecond})
	Register(b.Engine, "end", &noop[end]{needs: func(end) []string { return nil }, fail: new(atomic.Bool)})
	Register(b.Engine, "join", &noop[join]{needs: func(j join) []string { return []string{j.A, j.B} }, fail: &b.fail})
	if err := b.Start(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	b.Apply(connections(0, n)...)
	b.await(tb, n, Applied)
	return b
}

func (b *bench) await(tb testing.TB, n int, want State) {
	for range n {
		if s := <-b.told; s.State != want {
			tb.Fatalf("group %s is %v, want %v: %s", s.Group, s.State, want, s.Reason)
		}
	}
}

func connection(i int) Change {
	id := strconv.Itoa(i)
	a, z := "end/"+id+":client", "end/"+id+":endpoint"
	return Change{Group: id, Revision: int64(i), Values: []Value{
		{a, end{"pb" + id + "c"}}, {z, end{"pb" + id + "e"}}, {"join/" + id, join{a, z}},
	}}
}

func connections(from, n int) []Change {
	all := make([]Change, n)
	for i := range all {
		all[i] = connection(from + i)
	}
	return all
}

// memory reports the live heap and what of the process is resident, in MB.
func memory(b *testing.B) {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b.ReportMetric(float64(m.HeapAlloc)/1e6, "heap-MB")
	b.ReportMetric(resident("VmRSS"), "rss-MB")
	b.ReportMetric(resident("VmHWM"), "peak-rss-MB")
}

func resident(field string) float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(status), field+":")
	var kb float64
	if _, err := fmt.Sscan(rest, &kb); err != nil {
		return 0
	}
	return kb / 1e3
}

// sizes runs f with few and with many connections present: the time must be the same.
func sizes(b *testing.B, f func(b *testing.B, e *bench)) {
	for _, n := range []int{100, many} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			e := newBench(b, n)
			defer e.Stop()
			f(b, e)
		})
	}
}

// BenchmarkAdd is one more connection with others present, from Apply to OnStatus; the
// median as well, for machines that do something else besides.
func BenchmarkAdd(b *testing.B) {
	sizes(b, func(b *testing.B, e *bench) {
		c := connection(many)
		var took []time.Duration
		for b.Loop() {
			begin := time.Now()
			e.Apply(c)
			e.await(b, 1, Applied)
			took = append(took, time.Since(begin))
			e.Apply(Change{Group: c.Group})
			e.await(b, 1, Gone)
		}
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)/2]), "median-ns/add")
		b.ReportMetric(float64(took[len(took)*9/10]), "p90-ns/add")
	})
}

// BenchmarkRefresh is a connection that is applied again unchanged.
func BenchmarkRefresh(b *testing.B) {
	sizes(b, func(b *testing.B, e *bench) {
		c := connection(7)
		for b.Loop() {
			c.Revision++
			e.Apply(c)
			e.await(b, 1, Applied)
		}
	})
}

// BenchmarkRetry is a join that fails, ten attempts after a microsecond each.
func BenchmarkRetry(b *testing.B) {
	const attempts = 10
	sizes(b, func(b *testing.B, e *bench) {
		e.fail.Store(true)
		e.Apply(connection(many))
		e.await(b, 1, Failed)
		retries := func() (n uint64) {
			e.Retries(func(_ string, r uint64) { n += r })
			return n
		}
		for b.Loop() {
			for end := retries() + attempts; retries() < end; {
				runtime.Gosched()
			}
		}
		e.fail.Store(false)
		e.await(b, 1, Applied)
	})
}

// BenchmarkTransaction is many connections in one Apply, until the last is Applied.
func BenchmarkTransaction(b *testing.B) {
	all := connections(0, many)
	for b.Loop() {
		b.StopTimer()
		e := newBench(b, 0)
		b.StartTimer()
		e.Apply(all...)
		e.await(b, many, Applied)
		b.StopTimer()
		memory(b)
		e.Stop()
		b.StartTimer()
	}
}

// BenchmarkResync is a Resync of many connections that finds nothing to do, until all is settled.
func BenchmarkResync(b *testing.B) {
	e := newBench(b, many)
	defer e.Stop()
	for b.Loop() {
		if err := e.Resync(b.Context()); err != nil {
			b.Fatal(err)
		}
		if err := e.Settle(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	memory(b)
}
