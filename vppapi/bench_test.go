package vppapi_test

import (
	"fmt"
	"testing"

	"go.patchbay.dev/vppapi"
	"go.patchbay.dev/vppapi/vpptest"
)

// BenchmarkPing is what a call costs: one after the other, from many goroutines, and many
// in one write (per call).
func BenchmarkPing(b *testing.B) {
	b.Run("fake", func(b *testing.B) { benchmarkPing(b, onFake(b).client(b)) })
	b.Run("vpp", func(b *testing.B) { benchmarkPing(b, onVPP(b).client(b)) })
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

// BenchmarkLook is a look at all interfaces and joins, with 1,000 joins.
func BenchmarkLook(b *testing.B) {
	v := vpptest.Start(b, vpptest.Config("memory { main-heap-size 2G }"))
	e := &env{socket: v.APISocket, dir: v.Dir, real: v}
	c := e.client(b)
	ctx := b.Context()
	if err := c.ReserveMemifs(ctx, 9000, e.path(9000), 2000); err != nil {
		b.Fatal(err)
	}
	for n := uint32(1); n <= 2000; n += 2 {
		var at [2]vppapi.Index
		for i := range at {
			var err error
			if at[i], err = c.CreateMemif(ctx, n+uint32(i), vppapi.Memif{Socket: e.path(n + uint32(i))}); err == nil {
				err = c.Finish(ctx, at[i], vppapi.Setup{Tag: fmt.Sprintf("patchbay:c%d:%d", n, i), Down: true})
			}
			if err != nil {
				b.Fatal(err)
			}
		}
		if err := c.ConnectL2(ctx, at[0], at[1]); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		all, err := c.Refresh(ctx)
		if err != nil || len(all) != 2001 {
			b.Fatal(len(all), err)
		}
		if to, err := c.L2Connections(ctx); err != nil || len(to) != 2000 {
			b.Fatal(len(to), err)
		}
		if _, _, err := c.L3Connections(ctx); err != nil {
			b.Fatal(err)
		}
	}
}
