package vppapi_test

import (
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/bfd"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/ip_types"

	"go.patchbay.dev/vppapi"
)

// Sessions need no route to their peer, and come up only with one.
func bfdLife(t *testing.T, e *env) {
	var told atomic.Int32
	c := e.client(t, watch(vppapi.Watcher{BFD: func() { told.Add(1) }}))
	for _, ends := range [][2]string{{"10.9.8.1", "10.9.8.2"}, {"fd09:8::1", "fd09:8::2"}} {
		b := vppapi.BFD{Local: netip.MustParseAddr(ends[0]), Remote: netip.MustParseAddr(ends[1]), Interval: 500 * time.Millisecond, Multiplier: 4}
		listed := func(what string, want ...vppapi.BFDSession) {
			t.Helper()
			all, err := c.BFDs(t.Context())
			ok(t, "list", err)
			if !slices.Equal(all, want) {
				t.Errorf("%s: %+v, not %+v", what, all, want)
			}
		}
		ok(t, "delete what is not there", c.DeleteBFD(t.Context(), b.Local, b.Remote))
		for range 2 {
			ok(t, "set", c.SetBFD(t.Context(), b))
			listed("set", vppapi.BFDSession{BFD: b})
		}
		b.Interval = 250 * time.Millisecond
		ok(t, "change", c.SetBFD(t.Context(), b))
		listed("changed", vppapi.BFDSession{BFD: b})

		before := told.Load()
		local, err := ip_types.ParseAddress(ends[0])
		ok(t, "parse", err)
		peer, err := ip_types.ParseAddress(ends[1])
		ok(t, "parse", err)
		ok(t, "take it down", c.Ask(t.Context(), vppapi.Pair{Request: &bfd.BfdUDPSessionSetFlags{
			SwIfIndex: interface_types.InterfaceIndex(vppapi.All), LocalAddr: local, PeerAddr: peer}, Reply: &bfd.BfdUDPSessionSetFlagsReply{}}))
		soon(t, "the watcher is told", func() bool { return told.Load() > before })

		for range 2 {
			ok(t, "delete", c.DeleteBFD(t.Context(), b.Local, b.Remote))
			listed("deleted")
		}
	}
	a, b := netip.MustParseAddr("10.9.8.1"), netip.MustParseAddr("fd09:8::2")
	refused(t, "two families", c.SetBFD(t.Context(), vppapi.BFD{Local: a, Remote: b, Interval: time.Second, Multiplier: 3}), api.INVALID_ARGUMENT)
	refused(t, "no times", c.SetBFD(t.Context(), vppapi.BFD{Local: a, Remote: a.Next()}), api.INVALID_ARGUMENT)
}
