package vppapi_test

import (
	"context"
	"crypto/ecdh"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"go.fd.io/govpp/api"
	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/ip_types"

	"go.patchbay.dev/vppapi"
)

// tunnelKind is one kind of tunnel as the contract uses it: what is made between two
// addresses is listed as it was made.
type tunnelKind struct {
	name   string
	make   func(context.Context, *vppapi.Client, ends) (vppapi.Index, error)
	delete func(context.Context, *vppapi.Client, vppapi.Index, ends) error
	// list tells, of each tunnel, whether it is the one between two ends.
	list     func(context.Context, *vppapi.Client, ends) ([]vppapi.Index, error)
	exists   vppapi.Error
	same     vppapi.Error // both ends are one; 0: taken
	ethernet bool         // its interface has an Ethernet address
	up       bool         // from the moment it is made
}

type ends struct{ local, remote netip.Addr }

// is gives the indexes of those that are the one looked for.
func is[T comparable](all []vppapi.Tunnel[T], err error, want T) (found []vppapi.Index, _ error) {
	for _, f := range all {
		if f.Tunnel == want {
			found = append(found, f.Index)
		}
	}
	return found, err
}

func vxlanKind(name string, v vppapi.VXLAN) tunnelKind {
	of := func(e ends) vppapi.VXLAN { v.Local, v.Remote = e.local, e.remote; return v }
	return tunnelKind{name: name, exists: api.TUNNEL_EXIST, same: api.SAME_SRC_DST, ethernet: true, up: true,
		make: func(ctx context.Context, c *vppapi.Client, e ends) (vppapi.Index, error) {
			return c.CreateVXLAN(ctx, of(e))
		},
		delete: func(ctx context.Context, c *vppapi.Client, i vppapi.Index, e ends) error {
			return c.DeleteVXLAN(ctx, i, of(e))
		},
		list: func(ctx context.Context, c *vppapi.Client, e ends) ([]vppapi.Index, error) {
			all, err := c.VXLANs(ctx)
			return is(all, err, of(e))
		},
	}
}

func geneveKind(name string, routed bool) tunnelKind {
	of := func(e ends) vppapi.GENEVE {
		return vppapi.GENEVE{Local: e.local, Remote: e.remote, VNI: 1<<24 - 1, Routed: routed}
	}
	return tunnelKind{name: name, exists: api.TUNNEL_EXIST, same: api.SAME_SRC_DST, ethernet: routed, up: true,
		make: func(ctx context.Context, c *vppapi.Client, e ends) (vppapi.Index, error) {
			return c.CreateGENEVE(ctx, of(e))
		},
		delete: func(ctx context.Context, c *vppapi.Client, i vppapi.Index, e ends) error {
			return c.DeleteGENEVE(ctx, i, of(e))
		},
		list: func(ctx context.Context, c *vppapi.Client, e ends) ([]vppapi.Index, error) {
			all, err := c.GENEVEs(ctx)
			return is(all, err, of(e))
		},
	}
}

func greKind(name string, g vppapi.GRE) tunnelKind {
	of := func(e ends) vppapi.GRE { g.Local, g.Remote = e.local, e.remote; return g }
	return tunnelKind{name: name, exists: api.IF_ALREADY_EXISTS, same: api.SAME_SRC_DST, ethernet: g.Ethernet,
		make: func(ctx context.Context, c *vppapi.Client, e ends) (vppapi.Index, error) {
			return c.CreateGRE(ctx, of(e))
		},
		delete: func(ctx context.Context, c *vppapi.Client, i vppapi.Index, e ends) error {
			return c.DeleteGRE(ctx, i, of(e))
		},
		list: func(ctx context.Context, c *vppapi.Client, e ends) ([]vppapi.Index, error) {
			all, err := c.GREs(ctx)
			return is(all, err, of(e))
		},
	}
}

// wireGuard derives keys from the ends, so that each tunnel has its own.
func wireGuard(e ends) vppapi.WireGuard {
	key := func(who string) *ecdh.PrivateKey {
		sum := sha256.Sum256(fmt.Append(nil, who, e))
		k, err := ecdh.X25519().NewPrivateKey(sum[:])
		if err != nil {
			panic(err)
		}
		return k
	}
	own, peer := key("own"), key("peer")
	return vppapi.WireGuard{
		Local: e.local, Port: 51820, PrivateKey: vppapi.PrivateKey(own.Bytes()), PublicKey: [32]byte(own.PublicKey().Bytes()),
		Peer: netip.AddrPortFrom(e.remote, 51821), PeerKey: [32]byte(peer.PublicKey().Bytes()),
	}
}

var tunnelKinds = []tunnelKind{
	vxlanKind("VXLAN", vppapi.VXLAN{LocalPort: 4789, RemotePort: 4789, VNI: 1}),
	vxlanKind("VXLAN, routed", vppapi.VXLAN{LocalPort: 4789, RemotePort: 4790, VNI: 1<<24 - 1, Routed: true}),
	geneveKind("GENEVE", false),
	geneveKind("GENEVE, routed", true),
	greKind("GRE, Ethernet", vppapi.GRE{Ethernet: true}),
	greKind("GRE, Ethernet, keyed", vppapi.GRE{Ethernet: true, Key: 1<<32 - 1}),
	greKind("GRE, IP", vppapi.GRE{}),
	greKind("GRE, IP, keyed", vppapi.GRE{Key: 7}),
	{name: "IPIP", exists: api.IF_ALREADY_EXISTS, same: api.SAME_SRC_DST,
		make: func(ctx context.Context, c *vppapi.Client, e ends) (vppapi.Index, error) {
			return c.CreateIPIP(ctx, vppapi.IPIP{Local: e.local, Remote: e.remote})
		},
		delete: func(ctx context.Context, c *vppapi.Client, i vppapi.Index, _ ends) error { return c.DeleteIPIP(ctx, i) },
		list: func(ctx context.Context, c *vppapi.Client, e ends) ([]vppapi.Index, error) {
			all, err := c.IPIPs(ctx)
			return is(all, err, vppapi.IPIP{Local: e.local, Remote: e.remote})
		}},
	{name: "WireGuard", exists: api.ENTRY_ALREADY_EXISTS,
		make: func(ctx context.Context, c *vppapi.Client, e ends) (vppapi.Index, error) {
			return c.CreateWireGuard(ctx, wireGuard(e))
		},
		delete: func(ctx context.Context, c *vppapi.Client, i vppapi.Index, _ ends) error {
			return c.DeleteWireGuard(ctx, i)
		},
		list: func(ctx context.Context, c *vppapi.Client, e ends) ([]vppapi.Index, error) {
			want := wireGuard(e)
			want.PrivateKey = vppapi.PrivateKey{}
			found, err := c.WireGuards(ctx)
			var all []vppapi.Tunnel[vppapi.WireGuard]
			for _, f := range found {
				if !f.Established {
					all = append(all, vppapi.Tunnel[vppapi.WireGuard]{Index: f.Index, Tunnel: f.WireGuard})
				}
			}
			return is(all, err, want)
		}},
}

// tunnels makes, lists, finishes and deletes one of each kind, between IPv4 and IPv6.
func tunnels(t *testing.T, e *env) {
	for _, k := range tunnelKinds {
		for _, between := range []ends{
			{netip.MustParseAddr("10.9.1.1"), netip.MustParseAddr("10.9.1.2")},
			{netip.MustParseAddr("fd09::1"), netip.MustParseAddr("fd09::2")},
		} {
			t.Run(k.name+" "+between.local.String(), func(t *testing.T) { tunnelLife(t, e, k, between) })
		}
	}
}

func tunnelLife(t *testing.T, e *env, k tunnelKind, between ends) {
	c := e.client(t)
	index, err := k.make(t.Context(), c, between)
	ok(t, "create", err)
	t.Cleanup(func() { k.delete(context.Background(), c, index, between) })
	found, err := k.list(t.Context(), c, between)
	ok(t, "list", err)
	if !slices.Equal(found, []vppapi.Index{index}) {
		t.Errorf("it is listed as %v; want %d", found, index)
	}
	i := find(t, c, index)
	if i.AdminUp != k.up || (i.MAC != [6]byte{}) != k.ethernet || i.Tag != "" {
		t.Errorf("a new tunnel is %+v", i)
	}
	_, err = k.make(t.Context(), c, between)
	refused(t, "create again", err, k.exists)
	if !vppapi.Exists(err) {
		t.Errorf("%v is not known to say that it exists", err)
	}
	if k.same != 0 {
		_, err = k.make(t.Context(), c, ends{between.local, between.local})
		refused(t, "create to itself", err, k.same)
	}
	setup := vppapi.Setup{Tag: "patchbay:t:client", MTU: 1400, IP: true}
	if k.ethernet {
		setup.MAC = [6]byte{2, 1, 2, 3, 4, 5}
	}
	for range 2 {
		ok(t, "finish", c.Finish(t.Context(), index, setup))
	}
	i = find(t, c, index)
	if i.Tag != setup.Tag || i.MTU != setup.MTU || i.MAC != setup.MAC || !i.AdminUp || !i.LinkUp {
		t.Errorf("finished: %+v", i)
	}
	for range 2 {
		ok(t, "delete", k.delete(t.Context(), c, index, between))
		if found, err = k.list(t.Context(), c, between); err != nil || len(found) > 0 {
			t.Errorf("after delete: %v, %v", found, err)
		}
	}
	if _, there := c.Tagged(setup.Tag); there {
		t.Error("it is known by its tag")
	}
}

// What VPP cannot tell apart is refused, what it can is not.
func tunnelsSide(t *testing.T, e *env) {
	c := e.client(t)
	a, b, far := netip.MustParseAddr("10.9.2.1"), netip.MustParseAddr("10.9.2.2"), netip.MustParseAddr("10.9.2.9")
	six := func(s string) netip.Addr { return netip.MustParseAddr(s) }
	vxlan := func(v vppapi.VXLAN) error {
		i, err := c.CreateVXLAN(t.Context(), v)
		if err == nil {
			t.Cleanup(func() { ok(t, "delete", c.DeleteVXLAN(context.Background(), i, v)) })
		}
		return err
	}
	geneve := func(g vppapi.GENEVE) error {
		i, err := c.CreateGENEVE(t.Context(), g)
		if err == nil {
			t.Cleanup(func() { ok(t, "delete", c.DeleteGENEVE(context.Background(), i, g)) })
		}
		return err
	}
	gre := func(g vppapi.GRE) error {
		i, err := c.CreateGRE(t.Context(), g)
		if err == nil {
			t.Cleanup(func() { ok(t, "delete", c.DeleteGRE(context.Background(), i, g)) })
		}
		return err
	}
	base := vppapi.VXLAN{Local: a, Remote: far, LocalPort: 4789, RemotePort: 4789, VNI: 5}
	ok(t, "vxlan", vxlan(base))
	for name, change := range map[string]func(*vppapi.VXLAN){
		"another VNI":   func(v *vppapi.VXLAN) { v.VNI = 6 },
		"another local": func(v *vppapi.VXLAN) { v.Local = b },
		"another port":  func(v *vppapi.VXLAN) { v.LocalPort = 5000 },
	} {
		other := base
		change(&other)
		ok(t, "vxlan of "+name, vxlan(other))
	}
	ok(t, "vxlan6", vxlan(vppapi.VXLAN{Local: six("fd09::2:1"), Remote: six("fd09::2:9"), LocalPort: 4789, RemotePort: 4789, VNI: 5}))
	refused(t, "vxlan6 of another local", vxlan(vppapi.VXLAN{Local: six("fd09::2:2"), Remote: six("fd09::2:9"), LocalPort: 4789, RemotePort: 4789, VNI: 5}), api.TUNNEL_EXIST)
	refused(t, "vxlan of two families", vxlan(vppapi.VXLAN{Local: a, Remote: six("fd09::2:9"), VNI: 5}), api.INVALID_VALUE)

	ok(t, "geneve", geneve(vppapi.GENEVE{Local: a, Remote: far, VNI: 5}))
	refused(t, "geneve of another local", geneve(vppapi.GENEVE{Local: b, Remote: far, VNI: 5}), api.TUNNEL_EXIST)
	ok(t, "geneve of another VNI", geneve(vppapi.GENEVE{Local: a, Remote: far, VNI: 6}))

	ok(t, "gre", gre(vppapi.GRE{Local: a, Remote: far}))
	ok(t, "gre of another type", gre(vppapi.GRE{Local: a, Remote: far, Ethernet: true}))
	ok(t, "gre with a key", gre(vppapi.GRE{Local: a, Remote: far, Key: 5}))
	ok(t, "gre with another key", gre(vppapi.GRE{Local: a, Remote: far, Key: 6}))
	refused(t, "gre of two families", gre(vppapi.GRE{Local: a, Remote: six("fd09::2:9")}), api.INVALID_PROTOCOL)
	_, err := c.CreateIPIP(t.Context(), vppapi.IPIP{Local: a, Remote: six("fd09::2:9")})
	refused(t, "ipip of two families", err, api.INVALID_PROTOCOL)
}

// Whoever asks for a peer that there is gets no interface.
func wireGuardLeavesNothing(t *testing.T, e *env) {
	c := e.client(t)
	w := wireGuard(ends{netip.MustParseAddr("10.9.3.1"), netip.MustParseAddr("10.9.3.2")})
	index, err := c.CreateWireGuard(t.Context(), w)
	ok(t, "create", err)
	before, err := c.Refresh(t.Context())
	ok(t, "list", err)
	other := w
	other.PrivateKey[5]++
	_, err = c.CreateWireGuard(t.Context(), other)
	refused(t, "the same peer", err, api.ENTRY_ALREADY_EXISTS)
	after, err := c.Refresh(t.Context())
	ok(t, "list", err)
	if len(after) != len(before) {
		t.Errorf("%d interfaces, before %d", len(after), len(before))
	}
	ok(t, "delete", c.DeleteWireGuard(t.Context(), index))
	all, err := c.WireGuards(t.Context())
	if err != nil || len(all) > 0 {
		t.Errorf("left: %+v, %v", all, err)
	}
}

func addresses(t *testing.T, e *env) {
	c := e.client(t)
	i, _ := e.memif(t, c, "patchbay:a:client")
	ok(t, "finish", c.Finish(t.Context(), i, vppapi.Setup{Tag: "patchbay:a:client", MTU: 1472}))
	for _, s := range []string{"10.9.4.1/24", "fd09:4::1/64"} {
		p := netip.MustParsePrefix(s)
		set := func(add bool) {
			prefix, err := ip_types.ParseAddressWithPrefix(s)
			ok(t, "parse", err)
			ok(t, "set", c.Ask(t.Context(), vppapi.Pair{
				Request: &interfaces.SwInterfaceAddDelAddress{SwIfIndex: interface_types.InterfaceIndex(i), IsAdd: add, Prefix: prefix},
				Reply:   &interfaces.SwInterfaceAddDelAddressReply{}}))
		}
		set(true)
		got, there, err := c.AddressOf(t.Context(), p.Addr())
		if err != nil || !there || got.Index != i || got.MTU != 1472 {
			t.Errorf("%s is at %+v, %v, %v", p.Addr(), got, there, err)
		}
		for _, other := range []netip.Addr{p.Addr().Next(), netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")} {
			if got, there, err := c.AddressOf(t.Context(), other); err != nil || there {
				t.Errorf("%s is at %+v, %v", other, got, err)
			}
		}
		set(false)
		if got, there, err := c.AddressOf(t.Context(), p.Addr()); err != nil || there {
			t.Errorf("removed: at %+v, %v", got, err)
		}
	}
}

func TestThePrivateKeyIsNotShown(t *testing.T) {
	w := wireGuard(ends{netip.MustParseAddr("10.9.3.1"), netip.MustParseAddr("10.9.3.2")})
	data, err := json.Marshal(w)
	ok(t, "marshal", err)
	for _, shown := range []string{fmt.Sprint(w), fmt.Sprintf("%+v", w), fmt.Sprintf("%#v", w), string(data), w.PrivateKey.LogValue().String()} {
		if !strings.Contains(shown, "(hidden)") || strings.Contains(shown, fmt.Sprint(w.PrivateKey[0], " ", w.PrivateKey[1])) {
			t.Errorf("shown as %s", shown)
		}
	}
}
