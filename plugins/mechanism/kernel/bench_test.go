package kernel

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/linux/nstest"
	"go.patchbay.dev/plugins/reconcile"
)

// numbered is the i-th of many small connections between the namespaces.
func numbered(i int, refs []string) *models.CrossConnect {
	address := func(j int) string { return fmt.Sprintf("10.%d.%d.%d/32", i>>15&0xff, i>>7&0xff, i<<1&0xff|j) }
	name := fmt.Sprintf("nsm%d", i)
	return cross(fmt.Sprintf("c%d", i),
		end(refs[2*i%len(refs)], name, address(0)), end(refs[(2*i+1)%len(refs)], name, address(1)))
}

// namespaces makes several at once.
func namespaces(t testing.TB, count int) (refs []string) {
	t.Helper()
	nstest.Need(t)
	dir := t.TempDir()
	for i := range count {
		refs = append(refs, filepath.Join(dir, fmt.Sprint(i)))
		nstest.At(t, refs[i])
	}
	return refs
}

// BenchmarkConnect is from a rendered record to packets being able to flow.
func BenchmarkConnect(b *testing.B) {
	for _, live := range []int{10, 1000} {
		b.Run(fmt.Sprintf("floor, %d live", live), func(b *testing.B) { benchmarkFloor(b, live) })
	}
	for _, live := range []int{10, 1000} {
		b.Run(fmt.Sprintf("engine, %d live", live), func(b *testing.B) {
			refs := namespaces(b, 2)
			settled := make(chan reconcile.Status, 1)
			n, i := benchmarkNode(b, func(s reconcile.Status) { settled <- s }), 0
			connect := func() {
				x := numbered(i, refs)
				i++
				values, err := n.m.Pair(x)
				check(b, err)
				n.e.Apply(reconcile.Change{Group: x.Id, Values: values})
				if s := <-settled; s.State != reconcile.Applied {
					b.Fatalf("%+v", s)
				}
			}
			check(b, n.e.Start(context.Background()))
			for range live {
				connect()
			}
			b.ResetTimer()
			for range b.N {
				connect()
			}
		})
	}
}

// benchmarkFloor makes the same changing calls to the kernel, one after the other, in
// namespaces that are open, with nothing looked at that need not be.
func benchmarkFloor(b *testing.B, live int) {
	refs := namespaces(b, 2)
	ns, err := linux.New(options(b))
	check(b, err)
	var at [2]*linux.Namespace
	for i := range at {
		at[i], err = ns.Open(refs[i])
		check(b, err)
	}
	i := 0
	connect := func() {
		values, err := new(Mechanism).Pair(numbered(i, refs))
		check(b, err)
		i++
		v := values[0].Spec.(Veth)
		var ends [2]linux.End
		for j, e := range v.Ends {
			ends[j] = linux.End{NS: at[j], Name: e.Name, MAC: e.MAC, MTU: v.MTU}
		}
		check(b, ns.CreatePair(ends[0], ends[1]))
		for j, tag := range tagsOf(values[0].Key) {
			_, err := at[j].SetLink(i+1, linux.Change{Alias: tag.String(), Up: true}) // indexes count from 2
			check(b, err)
			check(b, at[j].ConfigureNew(i+1, values[1+j].Spec.(IPConfig).Config))
		}
	}
	for range live {
		connect()
	}
	b.ResetTimer()
	for range b.N {
		connect()
	}
	check(b, errors.Join(at[0].Close(), at[1].Close(), ns.Close()))
}

func benchmarkNode(b *testing.B, onStatus func(reconcile.Status)) *node {
	b.Helper()
	ns, err := linux.New(options(b))
	check(b, err)
	n := &node{t: b, ns: ns, m: New(ns, nil)}
	n.e = reconcile.New(reconcile.Options{OnStatus: onStatus})
	n.m.Register(n.e, func(string) {})
	check(b, ns.Start())
	b.Cleanup(func() {
		n.e.Stop()
		check(b, ns.Close())
	})
	return n
}

// BenchmarkStart is an agent's start with 1,000 connections that are there: everything
// is retrieved and found to be right.
func BenchmarkStart(b *testing.B) {
	for _, count := range []int{2, 2000} {
		b.Run(fmt.Sprintf("1000 connections in %d namespaces", count), func(b *testing.B) {
			refs := namespaces(b, count)
			for i := -1; i < b.N; i++ { // the first makes them
				b.StopTimer()
				n := benchmarkNode(b, nil)
				for j := range 1000 {
					n.apply(numbered(j, refs))
				}
				b.StartTimer()
				check(b, n.e.Start(context.Background()))
				check(b, n.e.Settle(context.Background()))
				if calls := n.ns.Mutations(); i >= 0 && calls > 0 {
					b.Fatalf("%d changing calls to the kernel", calls)
				}
				if i < 0 {
					b.ResetTimer()
				}
			}
		})
	}
}
