package vppapi_test

import (
	"net/netip"
	"slices"
	"testing"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/interface_types"
	binl2 "go.fd.io/govpp/binapi/l2"

	"go.patchbay.dev/vppapi"
)

// bridge makes one of a number that no other test uses.
func (e *env) bridge(t *testing.T, c *vppapi.Client) vppapi.Bridge {
	t.Helper()
	b := vppapi.Bridge{Number: number(), Tag: "patchbay:lan", Learn: true, Flood: true, UnknownUnicast: true, MACAge: 5}
	ok(t, "create", c.CreateBridge(t.Context(), b))
	t.Cleanup(func() {
		found, err := c.Bridges(t.Context(), b.Number)
		for _, f := range found {
			for _, p := range f.Ports {
				c.Unbridge(t.Context(), p.At)
			}
		}
		if err == nil {
			err = c.DeleteBridge(t.Context(), b.Number)
		}
		if err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
	})
	return b
}

func listed(t *testing.T, c *vppapi.Client, number uint32) vppapi.BridgeFound {
	t.Helper()
	all, err := c.Bridges(t.Context(), number)
	ok(t, "list", err)
	if len(all) != 1 {
		t.Fatalf("listed: %+v", all)
	}
	return all[0]
}

func bridgeLife(t *testing.T, e *env) {
	c := e.client(t)
	b := e.bridge(t, c)
	if got := listed(t, c, b.Number); got.Bridge != b || !got.Forwards || len(got.Ports) != 0 {
		t.Errorf("%+v; want %+v", got, b)
	}
	refused(t, "create again", c.CreateBridge(t.Context(), b), api.BD_ALREADY_EXISTS)
	refused(t, "create VPP's own", c.CreateBridge(t.Context(), vppapi.Bridge{}), api.BD_ALREADY_EXISTS)
	refused(t, "create beyond the last", c.CreateBridge(t.Context(), vppapi.Bridge{Number: vppapi.MaxBridge + 1}), api.BD_ID_EXCEED_MAX)
	for _, change := range []vppapi.Bridge{
		{Number: b.Number, Tag: b.Tag, ARPTermination: true},
		{Number: b.Number, Tag: b.Tag, Learn: true, MACAge: 255},
		{Number: b.Number, Tag: b.Tag, Flood: true, UnknownUnicast: true},
	} {
		for range 2 {
			ok(t, "change", c.SetBridge(t.Context(), change))
			if got := listed(t, c, b.Number); got.Bridge != change || !got.Forwards {
				t.Errorf("%+v; want %+v", got, change)
			}
		}
	}
	all, err := c.Bridges(t.Context(), vppapi.AllBridges)
	ok(t, "list all", err)
	if !slices.ContainsFunc(all, func(f vppapi.BridgeFound) bool { return f.Number == b.Number }) {
		t.Errorf("all: %+v", all)
	}
	for range 2 {
		ok(t, "delete", c.DeleteBridge(t.Context(), b.Number))
	}
	refused(t, "change what is not there", c.SetBridge(t.Context(), b), api.NO_SUCH_ENTRY)
	if all, err := c.Bridges(t.Context(), b.Number); err != nil || len(all) != 0 {
		t.Errorf("after delete: %+v, %v", all, err)
	}
	refused(t, "delete VPP's own", c.DeleteBridge(t.Context(), 0), api.BD_NOT_MODIFIABLE)
	if err := c.CreateBridge(t.Context(), vppapi.Bridge{Number: b.Number, Tag: string(make([]byte, vppapi.MaxTag+1))}); err == nil {
		t.Error("a tag was taken that VPP would cut")
	}
}

func bridgePorts(t *testing.T, e *env) {
	c := e.client(t)
	b := e.bridge(t, c)
	a, _ := e.memif(t, c, "")
	n := number()
	d, err := c.CreateMemif(t.Context(), n, vppapi.Memif{Socket: e.path(n)})
	ok(t, "create", err)
	c.Later(d, "memif", vppapi.Setup{Tag: "patchbay:lan:later"})
	for range 2 {
		ok(t, "bridge", c.Bridge(t.Context(), b.Number, vppapi.BridgePort{At: a}))
		ok(t, "bridge", c.Bridge(t.Context(), b.Number, vppapi.BridgePort{At: d, Group: 1}))
		ports := listed(t, c, b.Number).Ports
		if len(ports) != 2 || !slices.Contains(ports, vppapi.BridgePort{At: a}) || !slices.Contains(ports, vppapi.BridgePort{At: d, Group: 1}) {
			t.Errorf("%+v", ports)
		}
	}
	if got := find(t, c, d); got.Tag != "patchbay:lan:later" || !got.AdminUp {
		t.Errorf("what was left for later: %+v", got)
	}
	refused(t, "delete in use", c.DeleteBridge(t.Context(), b.Number), api.BD_IN_USE)
	refused(t, "bridge what is not there", c.Bridge(t.Context(), b.Number, vppapi.BridgePort{At: absent}), api.INVALID_SW_IF_INDEX)
	other := e.bridge(t, c)
	ok(t, "move", c.Bridge(t.Context(), other.Number, vppapi.BridgePort{At: a}))
	if ports := listed(t, c, b.Number).Ports; len(ports) != 1 {
		t.Errorf("after a move: %+v", ports)
	}
	ok(t, "delete a port", c.DeleteMemif(t.Context(), d, n))
	ok(t, "delete its socket", c.DeleteMemifSocket(t.Context(), n))
	if ports := listed(t, c, b.Number).Ports; len(ports) != 0 {
		t.Errorf("after its interface was deleted: %+v", ports)
	}
	for range 2 {
		ok(t, "unbridge", c.Unbridge(t.Context(), a, absent))
	}
	if ports := listed(t, c, other.Number).Ports; len(ports) != 0 {
		t.Errorf("after unbridge: %+v", ports)
	}
	ok(t, "bridge where none is", c.Bridge(t.Context(), number(), vppapi.BridgePort{At: a})) // VPP makes it up
	ok(t, "unbridge", c.Unbridge(t.Context(), a))
}

func macTable(t *testing.T, e *env) {
	c := e.client(t)
	b := e.bridge(t, c)
	a, _ := e.memif(t, c, "")
	d, _ := e.memif(t, c, "")
	entry := vppapi.MACEntry{Bridge: b.Number, MAC: [6]byte{2, 0, 0, 0, 9, 1}, At: a, Static: true}
	refused(t, "at a port of none", c.SetMAC(t.Context(), entry), api.INVALID_SW_IF_INDEX)
	refused(t, "at what is not there", c.SetMAC(t.Context(), vppapi.MACEntry{Bridge: b.Number, At: absent}), api.INVALID_SW_IF_INDEX)
	refused(t, "in none", c.SetMAC(t.Context(), vppapi.MACEntry{Bridge: number(), At: a}), api.NO_SUCH_ENTRY)
	ok(t, "bridge", c.Bridge(t.Context(), b.Number, vppapi.BridgePort{At: a}))
	ok(t, "bridge", c.Bridge(t.Context(), b.Number, vppapi.BridgePort{At: d}))
	for _, at := range []vppapi.Index{a, a, d} {
		entry.At = at
		ok(t, "set", c.SetMAC(t.Context(), entry))
		if all, err := c.MACs(t.Context(), b.Number); err != nil || len(all) != 1 || all[0] != entry {
			t.Errorf("%+v, %v", all, err)
		}
	}
	ok(t, "delete elsewhere", c.DeleteMAC(t.Context(), vppapi.MACEntry{Bridge: b.Number, MAC: entry.MAC, At: a}))
	ok(t, "unbridge", c.Unbridge(t.Context(), d))
	if all, err := c.MACs(t.Context(), b.Number); err != nil || len(all) != 1 {
		t.Errorf("it should outlive its port: %+v, %v", all, err)
	}
	entry.At = 0
	for range 2 {
		ok(t, "delete", c.DeleteMAC(t.Context(), entry))
	}
	if all, err := c.MACs(t.Context(), vppapi.AllBridges); err != nil || len(all) != 0 {
		t.Errorf("after delete: %+v, %v", all, err)
	}
	refused(t, "l2fib_add_del of none", c.Ask(t.Context(), vppapi.Pair{
		Request: &binl2.L2fibAddDel{BdID: b.Number, SwIfIndex: interface_types.InterfaceIndex(a)}, Reply: &binl2.L2fibAddDelReply{}}), api.NO_SUCH_ENTRY)
}

func bridgeNeighbors(t *testing.T, e *env) {
	c := e.client(t)
	b := e.bridge(t, c)
	for _, address := range []string{"10.9.5.1", "fd09:5::1"} {
		n := vppapi.BridgeNeighbor{Bridge: b.Number, Address: netip.MustParseAddr(address), MAC: [6]byte{2, 1}}
		for _, mac := range [][6]byte{{2, 1}, {2, 1}, {2, 2}} {
			n.MAC = mac
			ok(t, "set", c.SetBridgeNeighbor(t.Context(), n))
			if all, err := c.BridgeNeighbors(t.Context(), b.Number); err != nil || len(all) != 1 || all[0] != n {
				t.Errorf("%+v, %v", all, err)
			}
		}
		ok(t, "delete with another MAC", c.DeleteBridgeNeighbor(t.Context(), vppapi.BridgeNeighbor{Bridge: b.Number, Address: n.Address}))
		for range 2 {
			ok(t, "delete", c.DeleteBridgeNeighbor(t.Context(), n))
		}
		if all, err := c.BridgeNeighbors(t.Context(), vppapi.AllBridges); err != nil || len(all) != 0 {
			t.Errorf("after delete: %+v, %v", all, err)
		}
		n.Bridge = number()
		refused(t, "in none", c.SetBridgeNeighbor(t.Context(), n), api.NO_SUCH_ENTRY)
		ok(t, "delete from none", c.DeleteBridgeNeighbor(t.Context(), n))
	}
}

func bviLife(t *testing.T, e *env) {
	c := e.client(t)
	b := e.bridge(t, c)
	mac := [6]byte{2, 0, 0, 0, 9, 7}
	i, err := c.CreateBVI(t.Context(), mac)
	ok(t, "create", err)
	second, err := c.CreateBVI(t.Context(), [6]byte{})
	ok(t, "create another", err)
	if all, err := c.BVIs(t.Context()); err != nil || len(all) != 2 || all[0].Index != i || all[0].MAC != mac || all[0].Device != "BVI" {
		t.Errorf("%+v, %v", all, err)
	}
	ok(t, "finish", c.Finish(t.Context(), i, vppapi.Setup{Tag: "patchbay:lan:gateway", MTU: 1450}))
	port := vppapi.BridgePort{At: i, VPP: true}
	for range 2 {
		ok(t, "bridge", c.Bridge(t.Context(), b.Number, port))
		if ports := listed(t, c, b.Number).Ports; len(ports) != 1 || ports[0] != port {
			t.Errorf("%+v", ports)
		}
		own := vppapi.MACEntry{Bridge: b.Number, MAC: mac, At: i, Static: true, VPP: true}
		if all, err := c.MACs(t.Context(), b.Number); err != nil || len(all) != 1 || all[0] != own {
			t.Errorf("%+v, %v", all, err)
		}
	}
	refused(t, "a second", c.Bridge(t.Context(), b.Number, vppapi.BridgePort{At: second, VPP: true}), api.BD_ALREADY_HAS_BVI)
	four, six := netip.MustParsePrefix("10.9.6.1/24"), netip.MustParsePrefix("fd09:6::1/64")
	moved := netip.MustParsePrefix("10.9.6.2/24")
	for _, want := range [][]netip.Prefix{{four, six}, {four, six}, {six}, nil, {moved, six}} {
		ok(t, "addresses", c.SetAddresses(t.Context(), i, want))
		if all, err := c.Addresses(t.Context(), i); err != nil || !slices.Equal(all, want) {
			t.Errorf("%v, %v; want %v", all, err, want)
		}
	}
	refused(t, "an address of another", c.SetAddresses(t.Context(), second, []netip.Prefix{moved}), api.ADDRESS_IN_USE)
	refused(t, "an address of another", c.SetAddresses(t.Context(), second, []netip.Prefix{six}), api.DUPLICATE_IF_ADDRESS)
	refused(t, "addresses of what is not there", c.SetAddresses(t.Context(), absent, []netip.Prefix{six}), api.INVALID_SW_IF_INDEX)
	for _, index := range []vppapi.Index{i, i, second} {
		ok(t, "delete", c.DeleteBVI(t.Context(), index))
	}
	if ports := listed(t, c, b.Number).Ports; len(ports) != 0 {
		t.Errorf("after its interface was deleted: %+v", ports)
	}
	if all, err := c.BVIs(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("after delete: %+v, %v", all, err)
	}
	if _, there, err := c.AddressOf(t.Context(), six.Addr()); err != nil || there {
		t.Errorf("its address is still there: %v, %v", there, err)
	}
}
