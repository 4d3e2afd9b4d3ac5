package store

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkPut is one durable write after another.
func BenchmarkPut(b *testing.B) {
	s := open(b, Config{DataDir: b.TempDir()})
	value := make([]byte, 1000)
	took := make([]time.Duration, 0, b.N)
	for b.Loop() {
		start := time.Now()
		if _, err := s.Put(b.Context(), "/bench/key", value); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	reportQuantiles(b, took, "")
}

// BenchmarkPutParallel is 100 writers at once: etcd makes one sync of several writes.
func BenchmarkPutParallel(b *testing.B) {
	s := open(b, Config{DataDir: b.TempDir()})
	b.SetParallelism(50)
	var n atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := s.Put(b.Context(), fmt.Sprintf("/bench/%d", n.Add(1)%1000), make([]byte, 1000)); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkWatch is the time from the return of a put to its arrival at a watch, and from
// the call of the put.
func BenchmarkWatch(b *testing.B) {
	s := open(b, Config{DataDir: b.TempDir()})
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	arrived := make(chan time.Time, 1)
	go s.Watch(ctx, "/bench/", func(Batch) { arrived <- time.Now() })
	<-arrived
	var afterReturn, afterCall []time.Duration
	for b.Loop() {
		call := time.Now()
		if _, err := s.Put(b.Context(), "/bench/key", make([]byte, 1000)); err != nil {
			b.Fatal(err)
		}
		returned := time.Now()
		at := <-arrived
		afterReturn = append(afterReturn, at.Sub(returned))
		afterCall = append(afterCall, at.Sub(call))
	}
	reportQuantiles(b, afterReturn, "after-return-")
	reportQuantiles(b, afterCall, "after-call-")
}

// BenchmarkOpen is a start with 1,000 keys on record.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	fill(b, open(b, Config{DataDir: dir}), 1000)
	for b.Loop() {
		s, err := Open(b.Context(), Config{DataDir: dir})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		s.Close()
		b.StartTimer()
	}
}

func fill(t testing.TB, s *Store, n int) {
	t.Helper()
	for i := range n {
		if _, err := s.Put(t.Context(), fmt.Sprintf("/filled/%04d", i), make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
}

func reportQuantiles(b *testing.B, d []time.Duration, name string) {
	slices.Sort(d)
	b.ReportMetric(float64(d[len(d)/2].Microseconds()), name+"median-µs")
	b.ReportMetric(float64(d[len(d)*99/100].Microseconds()), name+"p99-µs")
}
