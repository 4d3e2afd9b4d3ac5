package tunnel_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"go.patchbay.dev/models"
)

// Every kind of tunnel is agreed between two nodes, over each family.
func TestTwoNodesAgree(t *testing.T) {
	for _, c := range []struct {
		kind, payload string
		four, six     uint32 // what is left of 1500 bytes
		parameters    []string
	}{
		{"VXLAN", models.Ethernet, 1450, 1430, []string{"vni"}},
		{"VXLAN", models.IP, 1450, 1430, []string{"vni"}},
		{"GENEVE", models.Ethernet, 1450, 1430, []string{"vni"}},
		{"GENEVE", models.IP, 1450, 1430, []string{"vni"}},
		{"GRE", models.Ethernet, 1458, 1438, []string{"key"}},
		{"GRE", models.IP, 1472, 1452, []string{"key"}},
		{"IPIP", models.IP, 1480, 1460, nil},
		{"WIREGUARD", models.IP, 1440, 1420, []string{"src_public_key", "dst_public_key", "src_port", "dst_port"}},
	} {
		for _, family := range []struct {
			a, b string
			mtu  uint32
		}{{"10.0.0.1", "10.0.0.2", c.four}, {"fd00::1", "fd00::2", c.six}} {
			t.Run(c.kind+" "+c.payload+" "+family.a, func(t *testing.T) {
				a, b := newNode(t, "a", family.a), newNode(t, "b", family.b)
				all, err := a.Propose("c1", []string{c.kind}, b.published(), c.payload)
				if err != nil {
					t.Fatal(err)
				}
				done, err := first("c2", all, a, b, c.payload)
				if err != nil {
					t.Fatal(err)
				}
				if err := a.Agreed("c1", done, b.published()); err != nil {
					t.Fatal(err)
				}
				p := done.Parameters
				if p["src_ip"] != family.a || p["dst_ip"] != family.b || len(p) != 2+len(c.parameters) {
					t.Errorf("agreed on %v", p)
				}
				for _, name := range c.parameters {
					if p[name] == "" {
						t.Errorf("%v lacks %s", p, name)
					}
				}
				if mtu := a.MTU(done, c.payload, 1500); mtu != family.mtu {
					t.Errorf("MTU %d; want %d", mtu, family.mtu)
				}
				if mtu := a.MTU(done, c.payload, 0); mtu != family.mtu {
					t.Errorf("MTU %d over an underlay of which nothing is known; want %d", mtu, family.mtu)
				}
				if mtu := a.MTU(done, c.payload, 10); mtu != 0 {
					t.Errorf("MTU %d over an underlay of 10 bytes", mtu)
				}
			})
		}
	}
}

// The best address of the proposing node decides, if the other has one of its family.
func TestTheFamilyOfTheTunnel(t *testing.T) {
	for _, c := range []struct {
		name     string
		a, b     []string
		src, dst string
	}{
		{"both have both", []string{"10.0.0.1", "fd00::1"}, []string{"fd00::2", "10.0.0.2"}, "10.0.0.1", "10.0.0.2"},
		{"IPv6 is best", []string{"fd00::1", "10.0.0.1"}, []string{"10.0.0.2", "fd00::2"}, "fd00::1", "fd00::2"},
		{"the other has IPv6 only", []string{"10.0.0.1", "fd00::1"}, []string{"fd00::2"}, "fd00::1", "fd00::2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := newNode(t, "a", c.a...), newNode(t, "b", c.b...)
			for _, kind := range []string{"VXLAN", "IPIP"} {
				all, err := a.Propose("c1", []string{kind}, b.published(), models.IP)
				if err != nil {
					t.Fatal(err)
				}
				if p := all[0].Parameters; p["src_ip"] != c.src || p["dst_ip"] != c.dst {
					t.Errorf("%s from %s to %s; want %s to %s", kind, p["src_ip"], p["dst_ip"], c.src, c.dst)
				}
			}
		})
	}
	a, b := newNode(t, "a", "10.0.0.1"), newNode(t, "b", "fd00::2")
	_, err := a.Propose("c1", []string{"VXLAN"}, b.published(), models.IP)
	wants(t, "no family in common", err, "node a has the tunnel addresses 10.0.0.1 and node b fd00::2: none of the same family")
}

func TestWhatCannotBeProposed(t *testing.T) {
	a, b := newNode(t, "a", "10.0.0.1"), newNode(t, "b", "10.0.0.2")
	propose := func(payload string, types ...string) error {
		_, err := a.Propose("c1", types, b.published(), payload)
		return err
	}
	wants(t, "an unknown type", propose(models.IP, "L2TP"), "L2TP: node a has no such tunnels; it has VXLAN, GENEVE")
	wants(t, "a payload", propose(models.Ethernet, "IPIP", "WIREGUARD"), "IPIP: it does not carry ETHERNET", "WIREGUARD: it does not")
	b.kernel.lacks = "ipip"
	b.kernel.lacks = "sit"
	if err := propose(models.IP, "IPIP", "VXLAN"); err != nil {
		t.Errorf("one of two can be: %v", err)
	}
	b.kernel.lacks = "vxlan"
	wants(t, "the other lacks it", propose(models.IP, "VXLAN"), "VXLAN: node b needs the kernel module vxlan")
	b.kernel.lacks, a.kernel.lacks = "", "vxlan"
	wants(t, "we lack it", propose(models.IP, "VXLAN"), "VXLAN: node a needs the kernel module vxlan")
	a.kernel.lacks = ""
	delete(a.kernel.addresses, a.addrs[0])
	if !a.Look(context.Background()) || a.Look(context.Background()) {
		t.Error("a lost address is a change, once")
	}
	wants(t, "an address that is not ours", propose(models.IP, "VXLAN"), "VXLAN: node a has its tunnel address 10.0.0.1 on no interface")
	none := newNode(t, "none")
	_, err := none.Propose("c1", []string{"VXLAN"}, b.published(), models.IP)
	wants(t, "no address", err, "node none has no tunnel address: set node.address")
	_, err = b.Propose("c1", []string{"VXLAN"}, none.published(), models.IP)
	wants(t, "the other has no address", err, "node none has no tunnel address")
}

func TestWhatIsNotAccepted(t *testing.T) {
	a, b := newNode(t, "a", "10.0.0.1"), newNode(t, "b", "10.0.0.2", "fd00::2")
	good := func() *models.Mechanism { return mechanismOf("VXLAN", "src_ip", "10.0.0.1", "vni", "7") }
	with := func(m *models.Mechanism, name, value string) *models.Mechanism {
		m.Parameters[name] = value
		return m
	}
	from := a.published()
	for _, c := range []struct {
		name  string
		m     *models.Mechanism
		parts []string
	}{
		{"an unknown type", mechanismOf("L2TP"), []string{"node b has no such tunnels"}},
		{"an address that the other does not have", with(good(), "src_ip", "10.0.0.9"), []string{"src_ip: 10.0.0.9 is not a tunnel address of node a, which has 10.0.0.1"}},
		{"no address", with(good(), "src_ip", "x"), []string{`src_ip: "x" is not an address`}},
		{"an address that we do not have", with(good(), "dst_ip", "10.0.0.9"), []string{"dst_ip: 10.0.0.9 is not a tunnel address of node b, which has 10.0.0.2, fd00::2"}},
		{"two families", with(good(), "dst_ip", "fd00::2"), []string{"dst_ip: fd00::2 and src_ip 10.0.0.1 are of different families"}},
		{"a number that cannot be", with(good(), "vni", "16777216"), []string{`vni: "16777216" cannot be; use 1–16777215`}},
		{"an unknown parameter", with(good(), "color", "red"), []string{"color: is not a parameter of VXLAN; it has src_ip, dst_ip, vni"}},
		{"a key that is none", mechanismOf("WIREGUARD", "src_ip", "10.0.0.1", "src_port", "1", "src_public_key", "x"), []string{"src_public_key", "not a public key"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := b.Accept("c2", c.m, from, models.IP)
			wants(t, c.name, err, c.parts...)
		})
	}
	for _, o := range from.Offers {
		if o.Type == "VXLAN" {
			o.Missing = "needs the kernel module vxlan"
		}
	}
	_, err := b.Accept("c2", good(), from, models.IP)
	wants(t, "a mechanism that the peer cannot do", err, "node a proposes it and needs the kernel module vxlan")
	from.Offers = nil
	_, err = b.Accept("c2", good(), from, models.IP)
	wants(t, "a mechanism that the peer does not have", err, "node a proposes it and does not offer it")

	m, err := b.Accept("c2", good(), a.published(), models.IP)
	if err != nil || m.Parameters["dst_ip"] != "10.0.0.2" {
		t.Fatalf("%v, %v", m, err)
	}
	_, err = b.Accept("c3", good(), a.published(), models.IP)
	wants(t, "a VNI that is taken", err, `on node b, VXLAN VNI 7 is taken by connection "c2"`)
	if _, err := b.Accept("c2", good(), a.published(), models.IP); err != nil {
		t.Errorf("the same again: %v", err)
	}
	b.Release("c2")
	if _, err := b.Accept("c3", good(), a.published(), models.IP); err != nil {
		t.Errorf("a VNI that was given back: %v", err)
	}
}

func TestWhatWasNotAgreed(t *testing.T) {
	a, b := newNode(t, "a", "10.0.0.1"), newNode(t, "b", "10.0.0.2")
	all, err := a.Propose("c1", []string{"VXLAN"}, b.published(), models.IP)
	if err != nil {
		t.Fatal(err)
	}
	answered := func(change func(p map[string]string)) error {
		m := mechanismOf("VXLAN", "src_ip", "10.0.0.1", "dst_ip", "10.0.0.2", "vni", all[0].Parameters["vni"])
		change(m.Parameters)
		return a.Agreed("c1", m, b.published())
	}
	wants(t, "another VNI", answered(func(p map[string]string) { p["vni"] = "1" + p["vni"] }), "node b has answered VXLAN with", "which was not proposed")
	wants(t, "an unknown parameter", answered(func(p map[string]string) { p["x"] = "y" }), "x: is not a parameter")
	far := b.published()
	far.Addresses = []string{"10.0.0.3"}
	wants(t, "an address that the node does not have", a.Agreed("c1", all[0], far), "dst_ip 10.0.0.2, which is not a tunnel address of it; it has 10.0.0.3")
	wants(t, "nothing was proposed", a.Agreed("c9", all[0], b.published()), "which was not proposed")
	if err := answered(func(map[string]string) {}); err != nil {
		t.Error(err)
	}
}

// IPIP has one tunnel between two addresses: the second connection gets another pair, the
// third is told whose it is.
func TestPairsAreTaken(t *testing.T) {
	a, b := newNode(t, "a", "10.0.0.1", "fd00::1"), newNode(t, "b", "10.0.0.2", "fd00::2")
	for i, src := range []string{"10.0.0.1", "fd00::1"} {
		id := "c" + string(rune('1'+i))
		all, err := a.Propose(id, []string{"IPIP"}, b.published(), models.IP)
		if err != nil || all[0].Parameters["src_ip"] != src {
			t.Fatalf("%v, %v; want src_ip %s", all, err, src)
		}
	}
	_, err := a.Propose("c3", []string{"IPIP"}, b.published(), models.IP)
	wants(t, "all pairs are taken", err, `IPIP from 10.0.0.1 to 10.0.0.2 is taken by connection "c1"`, `connection "c2"`)
	a.Release("c1")
	if _, err := a.Propose("c3", []string{"IPIP"}, b.published(), models.IP); err != nil {
		t.Error(err)
	}
}

// Two nodes that propose the only tunnel between them to each other at the same moment: one of
// both gets it, and the other is told by which connection it is taken.
func TestOfTwoThatProposeAtOnceOneWins(t *testing.T) {
	a, b := newNode(t, "a", "10.0.0.1"), newNode(t, "b", "10.0.0.2")
	for _, lowerFirst := range []bool{true, false} {
		types := []string{"IPIP", "GRE"}
		low, err1 := a.Propose("low", types, b.published(), models.IP)
		high, err2 := b.Propose("high", types, a.published(), models.IP)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		var won *models.Mechanism
		lower := func() { won, err1 = b.Accept("low", low[0], a.published(), models.IP) }
		if lowerFirst {
			lower()
		}
		_, err2 = a.Accept("high", high[0], b.published(), models.IP)
		wants(t, "the higher address", err2, `IPIP from 10.0.0.1 to 10.0.0.2 is taken by connection "low"`)
		if !lowerFirst {
			lower()
		}
		if err1 != nil || a.Agreed("low", won, b.published()) != nil {
			t.Errorf("the lower address: %v", err1)
		}
		wants(t, "what was given up", b.Agreed("high", high[0], a.published()), `taken by connection "low"`)
		if done, err := first("high", high[1:], b, a, models.IP); err != nil || b.Agreed("high", done, a.published()) != nil {
			t.Errorf("the next kind: %v", err)
		}
		for _, n := range []*node{a, b} {
			n.Release("low")
			n.Release("high")
		}
	}
}

// A connection that moves to another node keeps its numbers, if they are free there: the
// kernel then changes its device in place.
func TestAMoveKeepsTheNumbers(t *testing.T) {
	a, b, c := newNode(t, "a", "10.0.0.1"), newNode(t, "b", "10.0.0.2"), newNode(t, "c", "10.0.0.3")
	for _, kind := range []string{"VXLAN", "GENEVE", "GRE", "WIREGUARD"} {
		id, payload := strings.ToLower(kind), models.IP
		all, err := a.Propose(id, []string{kind}, b.published(), payload)
		if err != nil {
			t.Fatal(err)
		}
		was, err := first(id, all, a, b, payload)
		if err == nil {
			err = a.Agreed(id, was, b.published())
		}
		if err != nil {
			t.Fatal(kind, err)
		}
		a.record(id, payload, models.EndpointSide, was)
		if all, err = a.Propose(id, []string{kind}, c.published(), payload); err != nil {
			t.Fatal(kind, err)
		}
		now, err := first(id, all, a, c, payload)
		if err != nil {
			t.Fatal(kind, err)
		}
		for _, key := range []string{"vni", "key", "src_port"} {
			if now.Parameters[key] != was.Parameters[key] {
				t.Errorf("%s: %s is %q after %q", kind, key, now.Parameters[key], was.Parameters[key])
			}
		}
		if kind == "VXLAN" { // taken there
			c.record("other", payload, models.ClientSide, now)
			if now, err = first(id, all, a, c, payload); err != nil || now.Parameters["vni"] == was.Parameters["vni"] {
				t.Errorf("a number that is taken: %v, %v", now, err)
			}
		}
		for _, n := range []*node{b, c} {
			n.Release(id)
		}
	}
}

// What is agreed or on record is not taken back.
func TestWhatIsAgreedIsNotYielded(t *testing.T) {
	a, b := newNode(t, "a", "10.0.0.1"), newNode(t, "b", "10.0.0.2")
	all, err := b.Propose("c1", []string{"IPIP"}, a.published(), models.IP)
	if err != nil {
		t.Fatal(err)
	}
	done, err := a.Accept("c1", all[0], b.published(), models.IP)
	if err == nil {
		err = b.Agreed("c1", done, a.published())
	}
	if err != nil {
		t.Fatal(err)
	}
	ask := mechanismOf("IPIP", "src_ip", "10.0.0.1")
	_, err = b.Accept("c2", ask, a.published(), models.IP)
	wants(t, "agreed", err, `taken by connection "c1"`)
	b.record("c1", models.IP, models.EndpointSide, done)
	_, err = b.Accept("c2", ask, a.published(), models.IP)
	wants(t, "on record", err, `taken by connection "c1"`)
}

// A refresh, also after a restart of both agents, is the tunnel that is on record.
func TestARefreshKeepsTheTunnel(t *testing.T) {
	for _, kind := range []string{"VXLAN", "GENEVE", "GRE", "IPIP", "WIREGUARD"} {
		t.Run(kind, func(t *testing.T) {
			a, b := newNode(t, "a", "10.0.0.1"), newNode(t, "b", "10.0.0.2")
			connect := func() *models.Mechanism {
				all, err := a.Propose("c1", []string{kind}, b.published(), models.IP)
				if err != nil {
					t.Fatal(err)
				}
				done, err := first("c2", all, a, b, models.IP)
				if err != nil {
					t.Fatal(err)
				}
				if err := a.Agreed("c1", done, b.published()); err != nil {
					t.Fatal(err)
				}
				return done
			}
			done := connect()
			b.record("c2", models.IP, models.ClientSide, done)
			a.record("c1", models.IP, models.EndpointSide, done)
			a.start()
			b.start()
			if again := connect(); again.String() != done.String() {
				t.Errorf("%v; was %v", again, done)
			}
		})
	}
}

func TestWhatANodeOffers(t *testing.T) {
	find := func(n *node, kind string) *models.Offer {
		for _, o := range n.published().Offers {
			if o.Type == kind {
				return o
			}
		}
		return nil
	}
	n := newNode(t, "n", "10.0.0.1")
	n.kernel.lacks = "gretap"
	if o := find(n, "GRE"); o.Missing != "" || !slices.Equal(o.Payloads, []string{"IP"}) || !o.Places || o.Joins || o.Class != "REMOTE" || o.Version != 1 || o.Dataplane != "kernel" {
		t.Errorf("without gretap: %v", o)
	}
	if o := find(n, "IPIP"); o.Missing != "" || !slices.Equal(o.Payloads, []string{"IP"}) {
		t.Errorf("%v", o)
	}
	n.kernel.lacks = "vxlan"
	if o := find(n, "VXLAN"); o.Missing != "needs the kernel module vxlan" {
		t.Errorf("%v", o)
	}
	if got := n.published(); !slices.Equal(got.Addresses, []string{"10.0.0.1"}) || got.Mtu != 1500 {
		t.Errorf("%v, MTU %d", got.Addresses, got.Mtu)
	}
	delete(n.kernel.addresses, netip.MustParseAddr("10.0.0.1"))
	n.Look(context.Background())
	if o := find(n, "VXLAN"); o.Missing != "has its tunnel address 10.0.0.1 on no interface of the agent's network namespace" {
		t.Errorf("%v", o)
	}
	if got := n.published(); len(got.Addresses) > 0 {
		t.Errorf("%v", got.Addresses)
	}
	if o := find(newNode(t, "none"), "VXLAN"); o.Missing != "has no tunnel address: set node.address" {
		t.Errorf("%v", o)
	}
}
