package vppapi_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/interface_types"
	binl2 "go.fd.io/govpp/binapi/l2"
	"go.fd.io/govpp/binapi/l3xc"

	"go.patchbay.dev/vppapi"
)

func l2(t *testing.T, e *env) {
	c := e.client(t)
	a, _ := e.memif(t, c, "")
	b, _ := e.memif(t, c, "")
	for range 2 {
		ok(t, "connect", c.ConnectL2(t.Context(), a, b))
		all, err := c.L2Connections(t.Context())
		ok(t, "list", err)
		if all[a] != b || all[b] != a {
			t.Errorf("%v; want %d and %d", all, a, b)
		}
	}
	for range 2 {
		ok(t, "disconnect", c.DisconnectL2(t.Context(), a, b))
		all, err := c.L2Connections(t.Context())
		ok(t, "list", err)
		if _, there := all[a]; there {
			t.Errorf("after disconnect: %v", all)
		}
	}
	refused(t, "connect to what is not there", c.ConnectL2(t.Context(), a, absent), api.INVALID_SW_IF_INDEX)
	ok(t, "disconnect what is not there", c.DisconnectL2(t.Context(), absent))
	refused(t, "sw_interface_set_l2_xconnect", c.Ask(t.Context(), vppapi.Pair{
		Request: &binl2.SwInterfaceSetL2Xconnect{RxSwIfIndex: interface_types.InterfaceIndex(absent)}, Reply: &binl2.SwInterfaceSetL2XconnectReply{}}), api.INVALID_SW_IF_INDEX)
	ok(t, "disconnect", c.DisconnectL2(t.Context(), a, b))
}

func l2Deleted(t *testing.T, e *env) {
	c := e.client(t)
	a, _ := e.memif(t, c, "")
	b, n := e.memif(t, c, "")
	ok(t, "connect", c.ConnectL2(t.Context(), a, b))
	ok(t, "delete", c.DeleteMemif(t.Context(), b, n))
	all, err := c.L2Connections(t.Context())
	ok(t, "list", err)
	if _, there := all[a]; there {
		t.Errorf("after the other was deleted: %v", all)
	}
	ok(t, "disconnect", c.DisconnectL2(t.Context(), a, b))
}

// ipPorts are two memifs that carry IP and one with Ethernet frames.
func ipPorts(t *testing.T, e *env, c *vppapi.Client) (a, b, eth vppapi.Index) {
	t.Helper()
	var all []vppapi.Index
	for _, ip := range []bool{true, true, false} {
		n := number()
		i, err := c.CreateMemif(t.Context(), n, vppapi.Memif{Socket: e.path(n), IP: ip})
		ok(t, "create", err)
		ok(t, "finish", c.Finish(t.Context(), i, vppapi.Setup{Tag: "patchbay:l3:" + e.path(n)[len(e.dir)+1:], IP: true}))
		t.Cleanup(func() {
			if err := c.DeleteMemif(t.Context(), i, n); err != nil && t.Context().Err() == nil {
				t.Error(err)
			}
		})
		all = append(all, i)
	}
	return all[0], all[1], all[2]
}

func l3(t *testing.T, e *env) {
	c := e.client(t)
	a, b, eth := ipPorts(t, e, c)
	four, six := netip.MustParseAddr("10.9.0.2"), netip.MustParseAddr("fd00::2")
	neighbors := []vppapi.Neighbor{{At: eth, Address: four, MAC: [6]byte{2, 7}}, {At: eth, Address: six, MAC: [6]byte{2, 7}}}
	paths := []vppapi.L3Path{
		{From: a, To: eth, NextHop: four}, {From: a, To: eth, IPv6: true, NextHop: six},
		{From: eth, To: b}, {From: eth, To: b, IPv6: true},
	}
	for range 2 {
		ok(t, "connect", c.ConnectL3(t.Context(), neighbors, paths))
		gotPaths, gotNeighbors, err := c.L3Connections(t.Context())
		ok(t, "list", err)
		for _, want := range paths {
			if !slices.Contains(gotPaths, want) {
				t.Errorf("paths %+v lack %+v", gotPaths, want)
			}
		}
		for _, want := range neighbors {
			if !slices.Contains(gotNeighbors, want) {
				t.Errorf("neighbours %+v lack %+v", gotNeighbors, want)
			}
		}
	}
	changed := vppapi.Neighbor{At: eth, Address: four, MAC: [6]byte{2, 8}}
	ok(t, "another address", c.ConnectL3(t.Context(), []vppapi.Neighbor{changed}, []vppapi.L3Path{{From: a, To: b}}))
	gotPaths, gotNeighbors, err := c.L3Connections(t.Context())
	ok(t, "list", err)
	if !slices.Contains(gotNeighbors, changed) || !slices.Contains(gotPaths, vppapi.L3Path{From: a, To: b}) {
		t.Errorf("%+v, %+v", gotPaths, gotNeighbors)
	}
	if e.fake != nil {
		for _, i := range e.fake.Interfaces() {
			if i.Index == a && !slices.Contains(i.L3, vppapi.L3Path{From: a, To: b}) {
				t.Errorf("it forwards by %+v", i.L3)
			}
		}
	}
	for range 2 {
		ok(t, "disconnect", c.DisconnectL3(t.Context(), neighbors, paths))
	}
	gotPaths, gotNeighbors, err = c.L3Connections(t.Context())
	ok(t, "list", err)
	for _, p := range gotPaths {
		if p.From == a || p.From == eth {
			t.Errorf("after disconnect: %+v", p)
		}
	}
	for _, n := range gotNeighbors {
		if n.At == eth {
			t.Errorf("after disconnect: %+v", n)
		}
	}
}

func l3Absent(t *testing.T, e *env) {
	c := e.client(t)
	a, _, _ := ipPorts(t, e, c)
	refused(t, "from what is not there", c.ConnectL3(t.Context(), nil, []vppapi.L3Path{{From: absent, To: a}}), api.INVALID_SW_IF_INDEX)
	refused(t, "to what is not there", c.ConnectL3(t.Context(), nil, []vppapi.L3Path{{From: a, To: absent}}), api.NO_MATCHING_INTERFACE)
	four := netip.MustParseAddr("10.9.0.3")
	refused(t, "a neighbour at what is not there", c.ConnectL3(t.Context(), []vppapi.Neighbor{{At: absent, Address: four}}, nil), api.INVALID_SW_IF_INDEX)
	ok(t, "disconnect", c.DisconnectL3(t.Context(), []vppapi.Neighbor{{At: absent, Address: four}, {At: a, Address: four}}, []vppapi.L3Path{{From: absent}, {From: a}}))
	del := func(i vppapi.Index) error {
		return c.Ask(t.Context(), vppapi.Pair{Request: &l3xc.L3xcDel{SwIfIndex: interface_types.InterfaceIndex(i)}, Reply: &l3xc.L3xcDelReply{}})
	}
	refused(t, "l3xc_del of none", del(a), api.INVALID_VALUE)
	refused(t, "l3xc_del where no interface is", del(absent), api.INVALID_SW_IF_INDEX)
}

// VPP keeps both when their interface is deleted, and has them for whoever gets its index.
func l3Outlives(t *testing.T, e *env) {
	c := e.client(t)
	_, to, _ := ipPorts(t, e, c)
	old, n := e.memif(t, c, "")
	left := vppapi.Neighbor{At: old, Address: netip.MustParseAddr("10.9.0.4"), MAC: [6]byte{2, 9}}
	path := vppapi.L3Path{From: old, To: to}
	ok(t, "connect", c.ConnectL3(t.Context(), []vppapi.Neighbor{left}, []vppapi.L3Path{path}))
	ok(t, "delete", c.DeleteMemif(t.Context(), old, n))
	for _, what := range []string{"after its interface was deleted", "when another has its index"} {
		paths, neighbors, err := c.L3Connections(t.Context())
		ok(t, "list", err)
		if !slices.Contains(paths, path) || !slices.Contains(neighbors, left) {
			t.Errorf("%s: %+v, %+v", what, paths, neighbors)
		}
		if got, _ := e.memif(t, c, ""); got != old && what[0] == 'a' {
			t.Fatalf("the new interface has index %d, not %d", got, old)
		}
	}
	ok(t, "connect", c.ConnectL3(t.Context(), nil, []vppapi.L3Path{path}))
	if e.real != nil {
		if got := e.real.CLI("show interface features " + find(t, c, old).Name); !strings.Contains(got, "l3xc-input-ip4") {
			t.Errorf("the path does not work:\n%s", got)
		}
	}
	ok(t, "disconnect", c.DisconnectL3(t.Context(), []vppapi.Neighbor{left}, []vppapi.L3Path{path}))
	paths, neighbors, err := c.L3Connections(t.Context())
	ok(t, "list", err)
	if slices.Contains(paths, path) || slices.Contains(neighbors, left) {
		t.Errorf("after disconnect: %+v, %+v", paths, neighbors)
	}
}
