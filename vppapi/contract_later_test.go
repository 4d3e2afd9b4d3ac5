package vppapi_test

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/interface_types"

	"go.patchbay.dev/vppapi"
	"go.patchbay.dev/vppapi/vppfake"
)

// What is left of new interfaces for later is done by the call that joins them, also when
// somebody has looked meanwhile.
func finishLater(t *testing.T, e *env) {
	c := e.client(t)
	for _, join := range []struct {
		name string
		ip   bool
		do   func(a, b vppapi.Index) error
	}{
		{"l2", false, func(a, b vppapi.Index) error { return c.ConnectL2(t.Context(), a, b) }},
		{"l3", true, func(a, b vppapi.Index) error {
			return c.ConnectL3(t.Context(), []vppapi.Neighbor{{At: b, Address: netip.MustParseAddr("10.1.0.2"), MAC: [6]byte{2, 7}}},
				[]vppapi.L3Path{{From: a, To: b, NextHop: netip.MustParseAddr("10.1.0.2")}, {From: b, To: a, NextHop: netip.MustParseAddr("10.1.0.1")}})
		}},
	} {
		t.Run(join.name, func(t *testing.T) {
			var at [2]vppapi.Index
			var tags [2]string
			for i := range at {
				index, n := e.memif(t, c, "")
				at[i], tags[i] = index, fmt.Sprintf("patchbay:later%d:%d", n, i)
				c.Later(index, vppapi.MemifName(n), vppapi.Setup{Tag: tags[i], MTU: 1400, IP: join.ip})
				if got, there := c.Tagged(tags[i]); !there || got.Index != index || got.Name != vppapi.MemifName(n) {
					t.Errorf("before it is joined: %+v, %v", got, there)
				}
			}
			if got := find(t, c, at[0]); got.Tag != "" || got.AdminUp {
				t.Errorf("in VPP, before it is joined: %+v", got)
			}
			if got, there := c.Tagged(tags[0]); !there || got.Index != at[0] {
				t.Errorf("after a look: %+v, %v", got, there)
			}
			ok(t, "join", join.do(at[0], at[1]))
			for i, index := range at {
				if got := find(t, c, index); got.Tag != tags[i] || !got.AdminUp || got.MTU != 1400 {
					t.Errorf("once it is joined: %+v", got)
				}
			}
			if join.ip {
				paths, neighbors, err := c.L3Connections(t.Context())
				ok(t, "list", err)
				ok(t, "disconnect", c.DisconnectL3(t.Context(), neighbors, paths))
			}
		})
	}
}

// Of a new interface VPP tells that it is there; that is no reason to look at it before it is
// joined. That somebody has deleted it is.
func unjoined(t *testing.T, e *env) {
	var l links
	c, other := e.client(t, watch(l.watcher())), e.client(t)
	seen := fmt.Sprintf("patchbay:seen%d:0", number())
	e.memif(t, c, seen)
	soon(t, "one that is joined is looked at", func() bool { return l.told(seen) })
	l.forget()
	var tags []string
	var last vppapi.Index
	var socket uint32
	for range 50 {
		last, socket = e.memif(t, c, "")
		tags = append(tags, fmt.Sprintf("patchbay:unjoined%d:0", socket))
		c.Later(last, vppapi.MemifName(socket), vppapi.Setup{Tag: tags[len(tags)-1]})
	}
	i, _ := c.Tagged(seen)
	ok(t, "set down", other.Ask(t.Context(), vppapi.Pair{
		Request: &interfaces.SwInterfaceSetFlags{SwIfIndex: interface_types.InterfaceIndex(i.Index)}, Reply: &interfaces.SwInterfaceSetFlagsReply{}}))
	soon(t, "what came after them is told", func() bool { return l.told(seen) })
	for _, tag := range tags {
		if l.told(tag) {
			t.Errorf("%s was looked at", tag)
		}
	}
	ok(t, "delete by another", other.DeleteMemif(t.Context(), last, socket))
	soon(t, "it is gone", func() bool { _, there := c.Tagged(tags[len(tags)-1]); return !there })
}

// VPP is made to have room for many memif interfaces, and has none of them afterwards.
func reserve(t *testing.T, e *env) {
	c := e.client(t)
	before, sockets, err := c.Memifs(t.Context())
	ok(t, "list", err)
	n := number()
	ok(t, "reserve", c.ReserveMemifs(t.Context(), n, e.path(n), 150))
	after, socketsAfter, err := c.Memifs(t.Context())
	ok(t, "list", err)
	if len(after) != len(before) || len(socketsAfter) != len(sockets) {
		t.Errorf("%d memifs and %d sockets, before %d and %d", len(after), len(socketsAfter), len(before), len(sockets))
	}
	ok(t, "drop what is not there", c.DropMemifs(t.Context(), n, []vppapi.Index{absent}))

	// Setting up waits while the list may grow; making does not.
	release := c.HoldSetups()
	i, number := e.memif(t, c, "")
	done := make(chan error, 1)
	go func() { done <- c.Finish(t.Context(), i, vppapi.Setup{Tag: fmt.Sprintf("patchbay:hold%d:0", number)}) }()
	if got := find(t, c, i); got.AdminUp {
		t.Errorf("it was set up: %+v", got)
	}
	release()
	release()
	ok(t, "finish", <-done)
	if got := find(t, c, i); !got.AdminUp {
		t.Errorf("it was not set up: %+v", got)
	}
}

// VPP looks through its memif interfaces when there is the first, and the list must not grow meanwhile.
func TestTheListOfMemifsGrowsWhenVPPHasLooked(t *testing.T) {
	e := onFake(t, vppfake.Look(5*time.Millisecond))
	ok(t, "reserve", e.client(t).ReserveMemifs(t.Context(), 1, e.path(1), 150))
}

// So it does when all that is on record is made at once: the first is alone.
func TestTheFirstMemifIsMadeAlone(t *testing.T) {
	e := onFake(t, vppfake.Look(5*time.Millisecond))
	c := e.client(t)
	release := c.HoldSetups()
	var wg sync.WaitGroup
	for range 150 {
		n := number()
		wg.Go(func() {
			if _, err := c.CreateMemif(t.Context(), n, vppapi.Memif{Socket: e.path(n)}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	release()
}
