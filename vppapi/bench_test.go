package vppapi_test

import (
	"path/filepath"
	"testing"

	"go.patchbay.dev/vppapi"
	"go.patchbay.dev/vppapi/vppfake"
	"go.patchbay.dev/vppapi/vpptest"
)

// BenchmarkPing is what a call costs: one after the other, from many goroutines, and many
// in one write (per call).
func BenchmarkPing(b *testing.B) {
	b.Run("fake", func(b *testing.B) {
		e := &env{socket: filepath.Join(shortDir(b), "api.sock")}
		v, err := vppfake.Start(e.socket)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(v.Close)
		benchmarkPing(b, e.client(b))
	})
	b.Run("vpp", func(b *testing.B) {
		e := &env{socket: vpptest.Start(b).APISocket}
		benchmarkPing(b, e.client(b))
	})
}

func benchmarkPing(b *testing.B, c *vppapi.Client) {
	b.Run("one by one", func(b *testing.B) {
		for b.Loop() {
			if err := c.Ask(b.Context(), ping()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("from 16 goroutines", func(b *testing.B) {
		b.SetParallelism(8)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := c.Ask(b.Context(), ping()); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
	b.Run("16 in one write", func(b *testing.B) {
		for n := 0; n < b.N; n += 16 {
			var pairs []vppapi.Pair
			for range 16 {
				pairs = append(pairs, ping())
			}
			if err := c.Ask(b.Context(), pairs...); err != nil {
				b.Fatal(err)
			}
		}
	})
}
