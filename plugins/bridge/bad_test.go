package bridge

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"go.patchbay.dev/models"
)

// Of two bridges that want the same, the one that was there first has it, on every node.
func TestTwoBridgesCannotHaveTheSame(t *testing.T) {
	etcd := newEtcd(t)
	n1 := newNode(t, etcd, "n1", "192.0.2.1")
	n1.becomes(func(n *Node) { n.Subnets = []netip.Prefix{netip.MustParsePrefix("10.99.0.7/16")} })
	n1.apply("lan1", `,"subnets":["10.60.0.0/24","fd60::/64"],"service":"lan","vni":9000000`)
	n1.member("lan1", "a", "")
	n1.state("a", "UP")
	n1.bridge("lan1", "UP")
	for i, c := range []struct{ rest, want string }{
		{`,"subnets":["10.0.0.0/8"]`, `subnets[0]: 10.0.0.0/8 overlaps 10.60.0.0/24 of bridge "lan1"; use another`},
		{`,"subnets":["10.60.0.128/25"]`, `subnets[0]: 10.60.0.128/25 overlaps 10.60.0.0/24 of bridge "lan1"; use another`},
		{`,"subnets":["10.61.0.0/24","fd60::/16"]`, `subnets[1]: fd60::/16 overlaps fd60::/64 of bridge "lan1"; use another`},
		{`,"subnets":["10.99.1.0/24"]`, "subnets[0]: 10.99.1.0/24 overlaps 10.99.0.7/16 of node n1; use another"},
		{`,"service":"lan"`, `service: "lan" is answered by bridge "lan1"; choose another`},
		{`,"vni":9000000`, `vni: 9000000 is that of bridge "lan1"; choose another`},
		{`,"mtu":1451`, "mtu: 1451 does not fit: the underlay of node n1 leaves 1450 bytes"},
	} {
		b := &models.Bridge{}
		name := fmt.Sprint("lan-", i)
		if err := models.Unmarshal([]byte(`{"name":"`+name+`"`+c.rest+`}`), b); err != nil {
			t.Fatal(err)
		}
		err := n1.bridges.Check(t.Context(), b)
		var f *models.FieldError
		if !errors.As(err, &f) || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %s", c.rest, err, c.want)
		}
		// By hand it is answered on the node that has a member, and takes nothing from the first.
		n1.apply(name, c.rest)
		n1.member(name, name, "")
		n1.bridge(name, "FAILED "+c.want)
		n1.state(name, "PENDING")
		remove(t, etcd, n1.keys.CrossConnect(name))
		remove(t, etcd, n1.keys.Bridge(name))
	}
	n1.bridge("lan1", "UP")
	if s := n1.serving("lan"); s != "lan1" {
		t.Errorf("lan is answered by %q", s)
	}
	// What the first gives up, the second has.
	n1.apply("lan2", `,"service":"lan"`)
	n1.member("lan2", "b", "")
	n1.bridge("lan2", "FAILED service")
	remove(t, etcd, n1.keys.Bridge("lan1"))
	n1.bridge("lan2", "UP")
	n1.state("b", "UP")
}

// A number that was allocated is another's as much as one that a record names.
func TestAVNIBelongsToOneBridge(t *testing.T) {
	etcd := newEtcd(t)
	n1 := newNode(t, etcd, "n1", "192.0.2.1")
	n1.apply("lan1", "")
	n1.member("lan1", "a", "")
	var number uint32
	exactly(t, "allocated", func() string {
		if _, s := n1.bridges.Lookup("lan1"); s.GetVni() != 0 {
			number = s.Vni
			return "allocated"
		}
		return "none"
	})
	taken := fmt.Sprintf(`vni: %d is that of bridge "lan1"; choose another`, number)
	if err := n1.bridges.Check(t.Context(), &models.Bridge{Name: "lan2", Vni: number}); err == nil || !strings.HasPrefix(err.Error(), taken) {
		t.Errorf("error %v, want %s", err, taken)
	}
	n1.apply("lan2", fmt.Sprintf(`,"vni":%d`, number))
	n1.member("lan2", "b", "")
	n1.bridge("lan2", "FAILED "+taken)
	n1.state("b", "UP") // with those of its node
	remove(t, etcd, n1.keys.CrossConnect("a"))
	remove(t, etcd, n1.keys.Bridge("lan1"))
	n1.bridge("lan2", "UP")
	n1.apply("lan2", `,"vni":9000000`) // it moves
	exactly(t, "9000000", func() string { return etcdKeys(t, etcd, n1.keys.Prefix+"vnis/") })
}

func TestWhatTwoMembersCannotBothHave(t *testing.T) {
	etcd := newEtcd(t)
	n1, n2 := newNode(t, etcd, "n1", "192.0.2.1"), newNode(t, etcd, "n2", "192.0.2.2")
	n1.apply("lan1", `,"gateways":["10.60.0.1/24"]`)
	n1.member("lan1", "a", `,"mac":"02:00:00:00:00:01","addresses":["10.60.0.5/24","fd60::5/64"]`)
	n1.state("a", "UP")
	for _, c := range []struct{ more, want string }{
		{`,"mac":"02:00:00:00:00:01"`, "create bridge-member/lan1/b: 02:00:00:00:00:01 is that of connection \"a\" on node n1 in bridge lan1; give one of the two another"},
		{`,"addresses":["10.60.0.5/16"]`, "create bridge-member/lan1/b: 10.60.0.5 is that of connection"},
		{`,"addresses":["10.60.0.6/24","fd60::5/64"]`, "create bridge-member/lan1/b: fd60::5 is that of connection"},
		{`,"addresses":["10.60.0.1/24"]`, "client.addresses[0]: 10.60.0.1/24 is the gateway of bridge lan1"},
	} {
		for _, n := range []*node{n1, n2} {
			n.member("lan1", "b", c.more)
			n.state("b", "FAILED "+c.want)
			if got := n.plane.keys("port/lan1/b"); got != "" {
				t.Errorf("%s: %s is in the bridge", n.name, got)
			}
			remove(t, etcd, n.keys.CrossConnect("b"))
		}
	}
	// It heals by itself.
	n2.member("lan1", "b", `,"addresses":["10.60.0.5/24"]`)
	n2.state("b", "FAILED")
	remove(t, etcd, n1.keys.CrossConnect("a"))
	n2.state("b", "UP")
}

func TestABridgeTakesNoMoreThanItsLimit(t *testing.T) {
	etcd := newEtcd(t)
	n1 := newNode(t, etcd, "n1", "192.0.2.1")
	n1.apply("lan1", `,"memberLimit":2`)
	for _, id := range []string{"z", "y"} {
		n1.member("lan1", id, "")
		n1.state(id, "UP")
	}
	n1.member("lan1", "a", "")
	full := "FAILED create bridge-member/lan1/a: bridge lan1 is full: it has its 2 members on node n1; raise its memberLimit"
	n1.state("a", full)
	if _, _, _, err := n1.bridges.Admit(t.Context(), "lan1", "b", nil); !errors.Is(err, models.ErrFull) {
		t.Errorf("a client: %v", err)
	}
	n1.stop()
	n1.start() // those that were in stay in
	n1.state("y", "UP")
	n1.state("z", "UP")
	n1.state("a", full)
	n1.apply("lan1", `,"memberLimit":1`)
	n1.state("y", "UP")
	n1.state("z", "UP")
	remove(t, etcd, n1.keys.CrossConnect("y"))
	n1.apply("lan1", `,"memberLimit":2`)
	n1.state("a", "UP")
}

func TestRecordsThatWouldMakeALoopAreRefused(t *testing.T) {
	etcd := newEtcd(t)
	n1 := newNode(t, etcd, "n1", "192.0.2.1")
	n1.apply("lan1", "")
	n1.apply("wan1", `,"interconnect":"external","uplink":"up"`)
	record := func(id, client, bridge string) {
		put(t, etcd, n1.keys.CrossConnect(id), `{"client":{"mechanism":`+client+`},"endpoint":{"mechanism":{"type":"BRIDGE","parameters":{"bridge":"`+bridge+`"}}}}`)
	}
	record("patch", `{"type":"BRIDGE","parameters":{"bridge":"wan1"}}`, "lan1")
	n1.state("patch", "FAILED client.mechanism.type: a BRIDGE is an endpoint: two that a record joined would make a loop")
	record("second", `{"type":"TUNNEL"}`, "lan1")
	n1.state("second", "FAILED client.mechanism.type: TUNNEL leads to another node, and so does the mesh of bridge lan1: the two would make a loop")
	record("a", `{"type":"PLUG"}`, "wan1")
	n1.state("a", "UP")
	n1.bridge("wan1", `DOWN its uplink "up" is no member on node n1`)
	record("up", `{"type":"TUNNEL"}`, "wan1") // the only way out
	n1.state("up", "UP")
	n1.bridge("wan1", "UP")
	n1.records.Note("up", "its link is down")
	n1.bridge("wan1", `DOWN its uplink "up" is DOWN: its link is down`)
	n1.records.Note("up", "")
	n1.bridge("wan1", "UP")
	exactly(t, "", func() string { return n1.plane.keys("tunnel/") })
}

func TestANodeWithoutATunnelAddress(t *testing.T) {
	etcd := newEtcd(t)
	n1, n2 := newNode(t, etcd, "n1", "192.0.2.1"), newNode(t, etcd, "n2", "")
	n1.apply("lan1", "")
	n2.member("lan1", "b", "")
	n2.state("b", "UP")
	n2.bridge("lan1", "UP") // it is all that there is
	n1.member("lan1", "a", "")
	n1.state("a", "UP")
	n1.bridge("lan1", "DOWN the members of n2 are not reached, for want of a tunnel address that serves: set node.address")
	n2.bridge("lan1", "DOWN node n2 has no tunnel address that serves, so that its members do not reach those of n1: set node.address")
	n2.becomes(func(n *Node) { n.Addresses = addresses([]string{"192.0.2.2"}) })
	n2.bridge("lan1", "UP")
	n1.bridge("lan1", "UP")
	exactly(t, "lan1/192.0.2.2", func() string { return n1.plane.keys("tunnel/") })
	// One that has IPv6 only is reached if the others have it, too.
	n3 := newNode(t, etcd, "n3", "2001:db8::3")
	n3.member("lan1", "c", "")
	n3.bridge("lan1", "DOWN node n3 has no tunnel address that serves")
	n1.bridge("lan1", "UP the members of n3 are not reached")
	n1.becomes(func(n *Node) { n.Addresses = addresses([]string{"192.0.2.1", "2001:db8::1"}) })
	n2.becomes(func(n *Node) { n.Addresses = addresses([]string{"192.0.2.2", "2001:db8::2"}) })
	n3.bridge("lan1", "UP")
	exactly(t, "lan1/2001:db8::2 lan1/2001:db8::3", func() string { return n1.plane.keys("tunnel/") })
	exactly(t, "1430", func() string { return strings.Fields(n1.plane.what("plug/a"))[1] }) // the outer header is longer
}

func TestAClientGetsAnAddressOfEachSubnet(t *testing.T) {
	etcd := newEtcd(t)
	n1, n2 := newNode(t, etcd, "n1", "192.0.2.1"), newNode(t, etcd, "n2", "192.0.2.2")
	n1.apply("lan1", `,"service":"lan","subnets":["10.60.0.0/28","fd60::/64"],"gateways":["10.60.0.1/28"]`)
	for _, n := range []*node{n1, n2} {
		exactly(t, "lan1", func() string { return n.serving("lan") })
	}
	seen := map[string]bool{}
	for i := range 13 { // of 16, less the first, the last and the gateway
		n := []*node{n1, n2}[i%2]
		m, gateways, mtu, err := n.bridges.Admit(t.Context(), "lan1", fmt.Sprint("c", i), nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(m.Addresses) != 2 || mtu != 1450 || !slices.Equal(gateways, []string{"10.60.0.1/28"}) {
			t.Fatalf("%v, gateways %v, MTU %d", m, gateways, mtu)
		}
		for _, s := range m.Addresses {
			p := netip.MustParsePrefix(s)
			if seen[s] || !usable(p.Masked(), p.Addr()) || s == "10.60.0.1/28" {
				t.Errorf("%s is handed out", s)
			}
			seen[s] = true
		}
		again, _, _, err := n.bridges.Admit(t.Context(), "lan1", fmt.Sprint("c", i), m.Addresses)
		if err != nil || !slices.Equal(again.Addresses, m.Addresses) {
			t.Errorf("a refresh gives %v instead of %v, %v", again, m, err)
		}
	}
	_, _, _, err := n1.bridges.Admit(t.Context(), "lan1", "more", nil)
	if !errors.Is(err, models.ErrFull) || !strings.HasPrefix(err.Error(), "subnet 10.60.0.0/28 of bridge lan1 is full") {
		t.Errorf("a full subnet: %v", err)
	}
	n1.bridges.Release("lan1", "more")
	n1.bridges.Release("lan1", "c2")
	if m, _, _, err := n2.bridges.Admit(t.Context(), "lan1", "more", nil); err != nil {
		t.Errorf("what was given back is not had: %v, %v", m, err)
	}
	for _, c := range []struct{ asked, want string }{
		{"10.61.0.5/24", "addresses[0]: 10.61.0.5 is in no subnet of bridge lan1"},
		{"10.60.0.1/28", "addresses[0]: 10.60.0.1 is the gateway"},
		{"10.60.0.15/28", "addresses[0]: 10.60.0.15 is the first or the last"},
		{"10.60.0.5/28", "10.60.0.5 is that of connection"},
	} {
		if _, _, _, err := n1.bridges.Admit(t.Context(), "lan1", "picky", []string{c.asked}); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("asked for %s: %v", c.asked, err)
		}
	}
}

// A subnet that changes under members takes nothing from them.
func TestASubnetChangesUnderMembers(t *testing.T) {
	etcd := newEtcd(t)
	n1 := newNode(t, etcd, "n1", "192.0.2.1")
	n1.apply("lan1", `,"subnets":["10.60.0.0/24"]`)
	exactly(t, "true", func() string { b, _ := n1.bridges.Lookup("lan1"); return fmt.Sprint(b != nil) })
	admit := func() string {
		m, _, _, err := n1.bridges.Admit(t.Context(), "lan1", "a", nil)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(m.Addresses, " ")
	}
	first := admit()
	n1.member("lan1", "a", `,"addresses":["`+first+`"]`)
	n1.state("a", "UP")
	wider := strings.Replace(first, "/24", "/16", 1)
	for _, c := range []struct{ subnet, want, kept string }{{"10.60.0.0/16", wider, ""}, {"10.77.0.0/24", "10.77.0.", wider}, {"10.60.0.0/24", first, "10.77.0."}} {
		n1.apply("lan1", `,"subnets":["`+c.subnet+`"]`)
		eventually(t, c.want, admit)
		if got := admit(); !strings.Contains(got, c.kept) {
			t.Errorf("with %s it has %s, and had %s", c.subnet, got, c.kept)
		}
		n1.state("a", "UP")
	}
}
