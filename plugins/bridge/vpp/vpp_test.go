package vpp_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/bridge"
	"go.patchbay.dev/plugins/bridge/vpp"
	"go.patchbay.dev/vppapi"
	"go.patchbay.dev/vppapi/vppfake"
)

var broadcast = [6]byte{255, 255, 255, 255, 255, 255}

// full is a bridge with everything.
func full() bridge.Domain {
	d := lan
	d.Gateways = []netip.Prefix{netip.MustParsePrefix("10.60.255.254/16"), netip.MustParsePrefix("fd60::1/64")}
	d.StaticMACs = []bridge.StaticMAC{{MAC: macOf("m1"), Connection: "m1"}}
	d.ARPTermination = true
	return d
}

// record is what is wanted in most of these tests.
func (w *world) record() {
	w.domain(full(), peers...)
	w.member(1, full())
	w.member(2, full())
}

// forwards checks the bridge of record by what it does with frames.
func (w *world) forwards() {
	w.t.Helper()
	w.sends("m1", macOf("m1"), broadcast, "m2", "10.0.0.2", "10.0.0.3", "gateway")
	w.sends("10.0.0.2", macOf("far"), broadcast, "m1", "m2", "gateway")
	w.sends("m2", macOf("m2"), macOf("far"), "10.0.0.2")
	w.sends("10.0.0.3", macOf("other"), macOf("far")) // not from one tunnel to another
	w.sends("10.0.0.3", macOf("other"), macOf("m2"), "m2")
	w.sends("m2", macOf("m2"), [6]byte(full().GatewayMAC), "gateway")
	w.sends("m2", macOf("m1"), broadcast) // m1's MAC is fixed
	if all := w.vpp.Bridges(); len(all) != 1 || all[0].Tag != "patchbay:lan" || all[0].MACAge != 5 || !all[0].ARPTermination {
		w.t.Errorf("%+v", all)
	}
}

func TestABridgeForwards(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.record()
	w.settles()
	w.forwards()
	s, err := w.bridges.Look(t.Context(), "lan")
	if err != nil {
		t.Fatal(err)
	}
	places := map[bridge.Place]bool{}
	for _, p := range s.Ports {
		places[p.Place] = p.Up
	}
	for _, want := range []bridge.Place{{Connection: "m1"}, {Connection: "m2"}, {Peer: peers[0]}, {Peer: peers[1]}, {Gateway: true}} {
		if !places[want] {
			t.Errorf("no port leads to %+v: %+v", want, s.Ports)
		}
	}
	for _, want := range []bridge.MAC{
		{MAC: macOf("m1"), Place: bridge.Place{Connection: "m1"}, Static: true}, {MAC: macOf("far"), Place: bridge.Place{Peer: peers[0]}},
		{MAC: full().GatewayMAC, Place: bridge.Place{Gateway: true}, Static: true},
	} {
		if !slices.Contains(s.MACs, want) {
			t.Errorf("no %+v in %+v", want, s.MACs)
		}
	}
	if _, err := w.bridges.Look(t.Context(), "other"); !errors.Is(err, bridge.ErrNoBridge) {
		t.Errorf("of a bridge that is not there: %v", err)
	}
}

func TestABridgeIsChangedInPlace(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.record()
	w.settles()
	d := full()
	d.Flood, d.UnknownUnicast, d.MACAge = false, false, time.Hour
	asked := w.messages(func() { w.domain(d, peers...) })
	// VPP may still be telling of the members' interfaces, which are looked at then.
	if slices.ContainsFunc(asked, func(m string) bool { return !strings.HasPrefix(m, "bridge_") && m != "sw_interface_dump" }) {
		t.Errorf("another flag asked for %v", asked)
	}
	w.sends("m1", macOf("m1"), broadcast)
	w.sends("m1", macOf("m1"), macOf("far"))
	d = full()
	d.Gateways = d.Gateways[1:]
	d.StaticMACs = []bridge.StaticMAC{{MAC: macOf("m1"), Connection: "m2"}}
	w.messages(func() { w.domain(d, peers[1]); w.member(1, d); w.member(2, d) })
	w.sends("m2", macOf("m1"), broadcast, "m1", "10.0.0.3", "gateway")
	w.sends("m1", macOf("m1"), broadcast)
	if addresses, _ := w.client.Addresses(t.Context(), w.index("gateway")); !slices.Equal(addresses, d.Gateways) {
		t.Errorf("the gateway has %v", addresses)
	}
	if slices.Contains(asked, "sw_interface_set_l2_bridge") {
		t.Errorf("a member was taken out: %v", asked)
	}
	d = lan
	w.messages(func() { w.domain(d); w.member(1, d); w.member(2, d) })
	w.sends("m2", macOf("m2"), broadcast, "m1")
	if macs, _ := w.client.MACs(t.Context(), vppapi.AllBridges); slices.ContainsFunc(macs, func(e vppapi.MACEntry) bool { return e.Static }) {
		t.Errorf("static MACs are left: %+v", macs)
	}
	if hosts, _ := w.client.BridgeNeighbors(t.Context(), vppapi.AllBridges); len(hosts) != 0 {
		t.Errorf("hosts are left: %+v", hosts)
	}
}

func (w *world) index(of string) vppapi.Index {
	i, _ := w.client.Tagged(tag(of))
	return i.Index
}

func TestAnAgentThatStartsAdoptsABridge(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.record()
	w.settles()
	before := len(w.vpp.Mutations())
	w.restart(w.record)
	w.settles()
	if did := w.vpp.Mutations()[before:]; len(did) != 0 {
		t.Errorf("it has asked for %v", did)
	}
	w.forwards()
}

func TestVPPStartsAnew(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.record()
	w.settles()
	for range 5 {
		if err := w.vpp.Restart(); err != nil {
			t.Fatal(err)
		}
		w.vpp.SetAddress(local, true)
		w.until("the bridge is back", func() bool {
			out, err := w.vpp.Frame(tag("m1"), macOf("m1"), broadcast)
			return err == nil && len(out) == 4
		})
		w.settles()
		w.forwards()
	}
}

// What somebody has changed in VPP is put back at the next look.
func TestDamageIsMended(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.record()
	w.settles()
	bridges := w.vpp.Bridges()
	other := bridges[0]
	other.Learn, other.MACAge = false, 0
	for what, damage := range map[string]func() error{
		"a port taken out": func() error { return w.client.Unbridge(t.Context(), w.index("m2")) },
		"a tunnel in no group": func() error {
			return w.client.Bridge(t.Context(), bridges[0].Number, vppapi.BridgePort{At: w.index("10.0.0.2")})
		},
		"other options": func() error { return w.client.SetBridge(t.Context(), other) },
		"a MAC that is elsewhere": func() error {
			return w.client.SetMAC(t.Context(), vppapi.MACEntry{Bridge: other.Number, MAC: macOf("m1"), At: w.index("m2")})
		},
		"a gateway without address":  func() error { return w.client.SetAddresses(t.Context(), w.index("gateway"), nil) },
		"a gateway that was deleted": func() error { return w.client.DeleteBVI(t.Context(), w.index("gateway")) },
	} {
		if err := damage(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if err := w.engine.Resync(t.Context(), w.bridges.Kinds()...); err != nil {
			t.Fatal(err)
		}
		w.settles()
		addresses, err := w.client.Addresses(t.Context(), w.index("gateway"))
		if err != nil || !slices.Equal(addresses, full().Gateways) || !slices.Equal(w.vpp.Bridges(), bridges) {
			t.Errorf("%s: the gateway has %v, %v; bridges %+v", what, addresses, err, w.vpp.Bridges())
		}
		w.sends("m2", macOf("m2"), macOf("m1"), "m1")
		w.sends("m1", macOf("m1"), broadcast, "m2", "10.0.0.2", "10.0.0.3", "gateway")
		w.sends("10.0.0.2", macOf("far"), broadcast, "m1", "m2", "gateway")
	}
}

func (w *world) until(what string, is func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("not within 10 s: %s", what)
		}
	}
}

// What nobody wants any more goes, and what is somebody else's stays.
func TestOnlyOursIsRemoved(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.record()
	w.settles()
	number := w.vpp.Bridges()[0].Number
	foreign := vppapi.Bridge{Number: number%vppapi.MaxBridge + 1, Tag: "theirs", Learn: true}
	if err := w.client.CreateBridge(t.Context(), foreign); err != nil {
		t.Fatal(err)
	}
	w.restart(func() { w.member(3, lan) }) // of a bridge that is not there
	w.until("all is gone but the member", func() bool {
		return len(w.vpp.Bridges()) == 1 && len(w.vpp.Interfaces()) == 1
	})
	if got := w.vpp.Bridges()[0]; got != foreign {
		t.Errorf("%+v is left; want %+v", got, foreign)
	}
}

// A number that somebody else has is left to them.
func TestANumberIsTaken(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.record()
	w.settles()
	number := w.vpp.Bridges()[0].Number
	if err := w.vpp.Restart(); err != nil {
		t.Fatal(err)
	}
	w.stop()
	w.vpp.SetAddress(local, true)
	w.connect()
	if err := w.client.CreateBridge(t.Context(), vppapi.Bridge{Number: number, Tag: "theirs"}); err != nil {
		t.Fatal(err)
	}
	w.record()
	w.start()
	w.settles()
	if all := w.vpp.Bridges(); len(all) != 2 {
		t.Fatalf("%+v", all)
	}
	w.sends("m1", macOf("m1"), broadcast, "m2", "10.0.0.2", "10.0.0.3", "gateway")
}

// One more member is as many messages among 200 as among 5, and no list among them.
func TestAMemberCostsTheSameAmongMany(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.domain(lan, peers...)
	next := 1
	for ; next <= 5; next++ {
		w.member(next, lan)
	}
	w.settles()
	few := w.messages(func() { w.member(next, lan) })
	for next++; next <= 200; next++ {
		w.member(next, lan)
	}
	w.settles()
	many := w.messages(func() { w.member(next, lan) })
	if !slices.Equal(few, many) {
		t.Errorf("%v among 5, %v among 200", few, many)
	}
	for _, list := range []string{"bridge_domain_dump", "l2_fib_table_dump", "vxlan_tunnel_v2_dump"} {
		if slices.Contains(many, list) {
			t.Errorf("a member asks for %v", many)
		}
	}
}

// Whatever befalls VPP at whatever message, in the end there is one bridge as wanted.
func TestABridgeIsMadeWhateverHappens(t *testing.T) {
	for _, f := range []vppfake.Fault{vppfake.Die, vppfake.Cut} {
		for _, done := range []bool{false, true} {
			t.Run(fmt.Sprint(f, done), func(t *testing.T) {
				for n := 1; ; n++ {
					w := newWorld(t)
					w.start()
					w.vpp.Strike(n, f, done)
					w.record()
					struck := w.vpp.Struck
					w.until("struck, or done", func() bool { return struck() || w.settled() })
					if !struck() {
						return
					}
					if f == vppfake.Die {
						if err := w.vpp.Restart(); err != nil {
							t.Fatal(err)
						}
						w.vpp.SetAddress(local, true)
					}
					w.until("as wanted", w.settled)
					w.settles()
					w.forwards()
					if n := len(w.vpp.Interfaces()); n != 5 {
						t.Errorf("%d interfaces", n)
					}
					w.stop()
				}
			})
		}
	}
}

func (w *world) settled() bool {
	if w.client.Up() != nil {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.statuses {
		if s.State.String() != "applied" {
			return false
		}
	}
	return len(w.statuses) == 3
}

func TestWhatCannotBeRendered(t *testing.T) {
	w := newWorld(t)
	d := lan
	d.Name = strings.Repeat("a", 47)
	var field *models.FieldError
	if _, err := w.bridges.Domain(d); !errors.As(err, &field) || field.Field != "name" || !strings.Contains(field.Reason, "at most 46") {
		t.Errorf("a name that is too long: %v", err)
	}
	if _, err := w.bridges.Member("m1", lan, models.Port{}); !errors.As(err, &field) || field.Field != "payload" {
		t.Errorf("a port of IP: %v", err)
	}
	d = lan
	if d.VNI = 0; w.bridges != nil {
		if _, err := w.bridges.Mesh(d, local, peers); err == nil {
			t.Error("a mesh without a VNI")
		}
	}
	six := netip.MustParseAddr("fd00:1111:2222:3333:4444:5555:6666:7777")
	values, err := w.bridges.Mesh(lan, netip.MustParseAddr("fd00::1"), []netip.Addr{six})
	if err != nil {
		t.Fatal(err)
	}
	if spec := values[1].Spec.(vpp.Port); len(spec.Port.Tag) > vppapi.MaxTag {
		t.Errorf("the tag %q is too long", spec.Port.Tag)
	}
}
