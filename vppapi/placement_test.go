package vppapi_test

import (
	"fmt"
	"slices"
	"testing"

	"go.fd.io/govpp/api"

	"go.patchbay.dev/vppapi"
	"go.patchbay.dev/vppapi/vppfake"
	"go.patchbay.dev/vppapi/vpptest"
)

// Where the queues of an interface are, and how they are moved, with one worker.
func TestPlacementContract(t *testing.T) {
	t.Run("fake", func(t *testing.T) { placement(t, onFake(t, vppfake.Workers(1))) })
	t.Run("vpp", func(t *testing.T) { placement(t, onVPP(t, vpptest.Workers(1))) })
}

func placement(t *testing.T, e *env) {
	c := e.client(t)
	if n := c.Workers(); n != 1 {
		t.Errorf("it has %d workers", n)
	}
	at := func(i vppapi.Index, workers ...int) {
		t.Helper()
		all, err := c.Queues(t.Context(), i)
		ok(t, "list queues", err)
		var got []int
		for n, q := range all {
			if got = append(got, q.Worker); q.At != i || q.Number != uint32(n) {
				t.Errorf("queue %d is %+v", n, q)
			}
		}
		if !slices.Equal(got, workers) {
			t.Errorf("queues are at %v, want %v", got, workers)
		}
	}
	m, n := e.memif(t, c, "patchbay:place:0")
	at(m)
	refused(t, "a queue that is not there", c.PlaceQueues(t.Context(), vppapi.Queue{At: m, Worker: 1}), api.UNIMPLEMENTED)
	ok(t, "no interface", c.PlaceQueues(t.Context(), vppapi.Queue{At: absent, Worker: 1}))
	ok(t, "nothing", c.PlaceQueues(t.Context()))

	u, err := c.CreateVhostUser(t.Context(), vppapi.VhostUser{Socket: e.path(number()), Server: true, MAC: [6]byte{2, 1}}, "patchbay:place:1")
	ok(t, "create vhost-user", err)
	at(u, 1)
	ok(t, "delete vhost-user", c.DeleteVhostUser(t.Context(), u))

	if e.fake != nil {
		ok(t, "link", e.fake.SetLink("patchbay:place:0", true))
	} else {
		e.real.CLI(fmt.Sprintf("create memif socket id 77 filename %s", e.path(n)))
		e.real.CLI("create interface memif id 0 socket-id 77 slave")
		e.real.CLI("set interface state memif77/0 up")
	}
	soon(t, "it has a peer", func() bool { got, _ := c.Tagged("patchbay:place:0"); return got.LinkUp })
	at(m, 1)
	for range 2 {
		ok(t, "to the main thread", c.PlaceQueues(t.Context(), vppapi.Queue{At: m}))
		at(m, 0)
	}
	ok(t, "to the worker", c.PlaceQueues(t.Context(), vppapi.Queue{At: m, Worker: 1}))
	at(m, 1)
	refused(t, "a worker that is not there", c.PlaceQueues(t.Context(), vppapi.Queue{At: m, Worker: 2}), api.UNIMPLEMENTED)
	refused(t, "a second queue", c.PlaceQueues(t.Context(), vppapi.Queue{At: m, Number: 1, Worker: 1}), api.UNIMPLEMENTED)
	all, err := c.Queues(t.Context(), vppapi.All)
	ok(t, "list all queues", err)
	if !slices.ContainsFunc(all, func(q vppapi.Queue) bool { return q.At == m && q.Worker == 1 }) {
		t.Errorf("all are %+v", all)
	}

	name, _ := veth(t)
	h, err := c.CreateHostIf(t.Context(), vppapi.HostIf{Name: name, MAC: [6]byte{2, 2}, Frame: 1514})
	ok(t, "create host interface", err)
	at(h, 1)
	ok(t, "delete host interface", c.DeleteHostIf(t.Context(), h, name))
}

// Queues that come go to the worker with the least to do, of those that may be used.
func TestQueuesGoToTheLeastBusyWorker(t *testing.T) {
	e := onFake(t, vppfake.Workers(3))
	c := e.client(t)
	workers := func() (all []int) {
		for _, i := range e.fake.Interfaces() {
			if i.LinkUp {
				all = append(all, i.Worker)
			}
		}
		slices.Sort(all)
		return all
	}
	come := func(p *vppapi.Placer, n int) (all []vppapi.Index) {
		for range n {
			tag := fmt.Sprintf("patchbay:busy%d:0", number())
			i, _ := e.memif(t, c, tag)
			ok(t, "link", e.fake.SetLink(tag, true))
			all = append(all, i)
		}
		for _, i := range all {
			p.Place(i)
		}
		soon(t, "all are placed", p.Idle) // VPP's own choice may look the same
		return all
	}
	is := func(want ...int) {
		t.Helper()
		soon(t, fmt.Sprintf("queues at %v", want), func() bool { return slices.Equal(workers(), want) })
	}
	p := vppapi.NewPlacer(c, vppapi.NewStats("/nowhere"), nil)
	six := come(p, 6)
	is(1, 1, 2, 2, 3, 3)
	for _, i := range six { // those at 2 go: VPP's next turn is 1's all the same
		for _, now := range e.fake.Interfaces() {
			if now.Index == i && now.Worker == 2 {
				ok(t, "link", e.fake.SetLink(now.Tag, false))
			}
		}
	}
	is(1, 1, 3, 3)
	come(p, 2)
	is(1, 1, 2, 2, 3, 3)
	come(vppapi.NewPlacer(c, vppapi.NewStats("/nowhere"), []int{1}), 3)
	is(1, 1, 2, 2, 2, 2, 2, 3, 3)
	come(vppapi.NewPlacer(c, vppapi.NewStats("/nowhere"), []int{7}), 3) // there is none: VPP's own choice
	soon(t, "three more", func() bool { return len(workers()) == 12 })
}

// Packets weigh more than queues, once there are many.
func TestPlaceWeighsPackets(t *testing.T) {
	queues := []vppapi.Queue{{At: 1, Worker: 1}, {At: 2, Worker: 2}, {At: 3, Worker: 2}, {At: 4, Worker: 2}, {At: 9, Worker: 1}, {At: 9, Number: 1, Worker: 2}}
	for _, c := range []struct {
		name  string
		rates []float64
		want  []int // of both queues of interface 9
	}{
		{"nothing is known", nil, []int{1, 1}},
		{"all are idle", []float64{0, 10, 20}, []int{1, 1}},
		{"the first is busy", []float64{0, 5e6, 100}, []int{2, 2}},
		{"the second is busy", []float64{0, 100, 5e6}, []int{1, 1}},
		{"both are", []float64{0, 35_000, 10_000}, []int{2, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := map[uint32]int{0: 1, 1: 2}
			for _, q := range vppapi.PlaceOf(queues, []vppapi.Index{9}, []int{1, 2}, c.rates) {
				if q.At != 9 || at[q.Number] == q.Worker {
					t.Errorf("moved for nothing: %+v", q)
				}
				at[q.Number] = q.Worker
			}
			if got := []int{at[0], at[1]}; !slices.Equal(got, c.want) {
				t.Errorf("they are at %v, want %v", got, c.want)
			}
		})
	}
}
