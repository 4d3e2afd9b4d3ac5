package tunnel_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.fd.io/govpp/api"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/mechanism/vxlan"
	"go.patchbay.dev/plugins/reconcile"
	"go.patchbay.dev/vppapi"
	"go.patchbay.dev/vppapi/vppfake"
)

// every calls a test with each kind of tunnel and payload.
func every(t *testing.T, test func(t *testing.T, a *agent, kind, payload string)) {
	for _, c := range []struct{ kind, payload string }{
		{"VXLAN", models.Ethernet}, {"VXLAN", models.IP}, {"GENEVE", models.Ethernet}, {"GENEVE", models.IP},
		{"GRE", models.Ethernet}, {"GRE", models.IP}, {"IPIP", models.IP}, {"WIREGUARD", models.IP},
	} {
		t.Run(c.kind+" "+c.payload, func(t *testing.T) { test(t, newAgent(t), c.kind, c.payload) })
	}
}

// mtuIn is the MTU that VPP must have of a tunnel that carries packets of mtu bytes.
func mtuIn(mtu int, payload string) int {
	if payload == models.IP {
		return mtu
	}
	return mtu + 14 // the header of a frame counts
}

// A tunnel at each side is made and joined, taken over by the next agent without a call, made
// again after VPP has lost it, given another MTU in place, and deleted.
func TestTunnelsInVPP(t *testing.T) {
	every(t, func(t *testing.T, a *agent, kind, payload string) {
		x := a.relay("c1", kind, payload, 1)
		a.start(x)
		a.settled("c1", applied)
		a.has(2, 0)
		tags, _ := a.tunnelsIn()
		for _, side := range []models.Side{models.ClientSide, models.EndpointSide} {
			i := tags[models.Tag("c1", side)]
			if !i.AdminUp || !i.LinkUp || i.MTU != mtuIn(1400, payload) || i.IP6 != (payload == models.IP) {
				t.Errorf("%s: %+v", side, i)
			}
		}
		a.stop()
		before := len(a.vpp.Mutations())
		a.start(x)
		a.settled("c1", applied)
		if after := a.vpp.Mutations(); len(after) != before {
			t.Errorf("a new agent has called %v", after[before:])
		}
		if err := a.vpp.Restart(); err != nil {
			t.Fatal(err)
		}
		a.addresses()
		a.has(2, 0)
		x = a.relay("c1", kind, payload, 1)
		if kind != "WIREGUARD" && payload == models.IP { // of WIREGUARD the other node would have new keys
			x.Mtu = 1300
			index := func() vppapi.Index { tags, _ := a.tunnelsIn(); return tags["patchbay:c1:client"].Index }
			was := index()
			a.apply(x)
			a.settled("c1", func(s reconcile.Status) bool {
				tags, _ := a.tunnelsIn()
				return applied(s) && tags["patchbay:c1:client"].MTU == mtuIn(1300, payload)
			})
			if index() != was {
				t.Error("another MTU has made another tunnel")
			}
		}
		a.remove("c1")
		a.settled("c1", gone)
		a.has(0, 0)
		if files, err := os.ReadDir(filepath.Join(a.dir, ".tunnels")); err != nil || len(files) > 0 {
			t.Errorf("notes are left: %v, %v", files, err)
		}
	})
}

// An agent that dies before a tunnel has its tag leaves one that the next finishes, if it is
// wanted, or deletes. What somebody else has made stays.
func TestTunnelsOfADeadAgent(t *testing.T) {
	every(t, func(t *testing.T, a *agent, kind, payload string) {
		x := a.relay("c1", kind, payload, 1)
		half := &models.CrossConnect{Id: "c1", Payload: payload, Mtu: 1400, Client: x.Client}
		a.vpp.Refuse("sw_interface_tag_add_del", api.UNSPECIFIED) // so it gets no further
		a.start(half)
		a.settled("c1", failed("sw_interface_tag_add_del"))
		a.has(0, 1)
		a.stop()
		a.vpp.ClearRefusals()
		foreign := vppapi.New(vppapi.Options{Socket: a.vpp.Socket(), Name: "foreign"})
		foreign.Start(t.Context())
		defer foreign.Stop()
		if _, err := foreign.CreateGRE(t.Context(), vppapi.GRE{Local: netip.MustParseAddr("10.9.9.1"), Remote: netip.MustParseAddr("10.9.9.2")}); err != nil {
			t.Fatal(err)
		}
		a.start(x)
		a.settled("c1", applied)
		a.has(2, 1)
		a.remove("c1")
		a.settled("c1", gone)
		a.has(0, 1)

		a.vpp.Refuse("sw_interface_tag_add_del", api.UNSPECIFIED)
		a.apply(half)
		a.settled("c1", failed("sw_interface_tag_add_del"))
		a.has(0, 2)
		a.stop()
		a.vpp.ClearRefusals()
		a.start()
		a.has(0, 1)
	})
}

// Whatever befalls VPP at whatever message, there is one tunnel at each side in the end.
func TestTunnelsAndAVPPThatIsStruck(t *testing.T) {
	every(t, func(t *testing.T, a *agent, kind, payload string) {
		if kind == "GENEVE" || kind == "IPIP" || kind == "GRE" && payload == models.IP {
			return // as VXLAN and GRE
		}
		a.start()
		for n := 1; n <= 12; n++ {
			for _, fault := range []vppfake.Fault{vppfake.Die, vppfake.Cut} {
				for _, done := range []bool{false, true} {
					id := fmt.Sprintf("c%d-%d-%v", n, fault, done)
					a.vpp.Strike(n, fault, done)
					a.apply(a.relay(id, kind, payload, 1))
					if fault == vppfake.Die && a.struck(id) {
						if err := a.vpp.Restart(); err != nil {
							t.Fatal(err)
						}
						a.addresses()
					}
					a.settled(id, applied)
					a.has(2, 0)
					a.vpp.Strike(0, fault, false)
					a.remove(id)
					a.settled(id, gone)
					a.has(0, 0)
				}
			}
		}
	})
}

// struck waits until VPP was struck, or a connection was made without that.
func (a *agent) struck(id string) bool {
	a.t.Helper()
	is := false
	a.settled(id, func(s reconcile.Status) bool {
		is = a.vpp.Struck()
		return is || applied(s)
	})
	return is
}

// What VPP could not tell apart is refused with the one who has it, and made when it is free.
func TestTakenTunnels(t *testing.T) {
	every(t, func(t *testing.T, a *agent, kind, payload string) {
		if kind == "WIREGUARD" {
			return // each connection has keys of its own
		}
		a.start(a.relay("c1", kind, payload, 1))
		a.settled("c1", applied)
		a.apply(a.relay("c2", kind, payload, 1))
		a.settled("c2", failed(kind+" tunnel", `is taken by connection "c1"`))
		a.has(2, 0)
		a.remove("c1")
		a.settled("c2", applied)
		a.has(2, 0)
	})
}

// So is that of a bridge, and that which a bridge would have.
func TestATunnelThatABridgeHas(t *testing.T) {
	a := newAgent(t)
	a.start()
	_, mesh := a.mechanisms["VXLAN"].(*vxlan.Mechanism).Between("1+"+far4, netip.MustParseAddr(own4), netip.MustParseAddr(far4), 1, 1400)
	join := func() {
		a.engine.Apply(reconcile.Change{Group: "bridge/lan", Revision: 1, Values: []reconcile.Value{mesh}})
	}
	join()
	a.settled("bridge/lan", applied)
	a.apply(a.relay("c1", "VXLAN", models.Ethernet, 1))
	a.settled("c1", failed("VXLAN tunnel", "is taken by the mesh of a bridge; give one of the two another number"))
	a.remove("bridge/lan")
	a.settled("c1", applied)
	join()
	a.settled("bridge/lan", failed("VXLAN tunnel", `is taken by connection "c1"`))
	a.has(2, 0)
	a.remove("c1")
	a.settled("bridge/lan", applied)
	a.has(1, 0)
}

func TestATunnelThatSomebodyElseHas(t *testing.T) {
	a := newAgent(t)
	foreign := vppapi.New(vppapi.Options{Socket: a.vpp.Socket(), Name: "foreign"})
	foreign.Start(t.Context())
	defer foreign.Stop()
	v := vppapi.VXLAN{Local: netip.MustParseAddr(own4), Remote: netip.MustParseAddr(far4), LocalPort: 4789, RemotePort: 4789, VNI: 1}
	index, err := foreign.CreateVXLAN(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	x := a.relay("c1", "VXLAN", models.Ethernet, 1)
	for range 2 { // the first attempt leaves nothing that the second would take for its own
		a.start(x)
		a.settled("c1", failed("VXLAN tunnel: VNI 1 from 10.0.0.1 to 10.0.0.2, UDP port 4789 is taken by an interface of VPP that is not the agent's, vxlan_tunnel0"))
		a.stop()
	}
	a.start(x)
	if err := foreign.DeleteVXLAN(t.Context(), index, v); err != nil {
		t.Fatal(err)
	}
	a.settled("c1", applied)
}

func TestATunnelAddressThatIsNotOurs(t *testing.T) {
	a := newAgent(t)
	x := a.relay("c1", "VXLAN", models.Ethernet, 1)
	x.Client.Mechanism.Parameters["dst_ip"] = "10.0.0.77"
	a.start(x)
	a.settled("c1", failed("VXLAN tunnel: this node has its tunnel address 10.0.0.77 on no interface of VPP"))
	a.vpp.SetAddress(netip.MustParseAddr("10.0.0.77"), true)
	a.settled("c1", applied)
}

func TestRecordsThatCannotBe(t *testing.T) {
	a := newAgent(t)
	a.start()
	for _, c := range []struct {
		name, kind, payload string
		change              func(p map[string]string)
		want                string
	}{
		{"frames in IPIP", "IPIP", models.Ethernet, func(map[string]string) {}, "payload: ETHERNET cannot be carried by IPIP; use IP"},
		{"another node's key", "WIREGUARD", models.IP, func(p map[string]string) { p["dst_public_key"] = p["src_public_key"] }, `is not this node's key for connection "c1", which is `},
		{"a tunnel to itself", "VXLAN", models.IP, func(p map[string]string) { p["src_ip"] = p["dst_ip"] }, "dst_ip: 10.0.0.1 is src_ip, too"},
	} {
		x := a.relay("c1", c.kind, c.payload, 1)
		c.change(x.Client.Mechanism.Parameters)
		if _, err := a.values(x); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", c.name, err, c.want)
		}
	}
}

// The secret is made once, for its owner only, and no key of it can be printed.
func TestTheNodesSecret(t *testing.T) {
	a := newAgent(t)
	a.start()
	x := a.relay("c1", "WIREGUARD", models.IP, 1)
	values, err := a.values(x)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(a.dir, "secret"))
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() != 32 {
		t.Fatalf("%v, %v", info, err)
	}
	if shown := fmt.Sprintf("%v %+v %#v", values, values, values); !strings.Contains(shown, "(hidden)") {
		t.Errorf("values are shown as %s", shown)
	}
	again, err := a.values(x)
	if err != nil || again[0] != values[0] {
		t.Errorf("%v, and then %v, %v", values[0], again[0], err)
	}
	if err := os.WriteFile(filepath.Join(a.dir, "secret"), []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	a.stop()
	a.start()
	if _, err := a.values(x); err == nil || !strings.Contains(err.Error(), "has 5 bytes, not 32") {
		t.Errorf("a secret that was cut: %v", err)
	}
}
