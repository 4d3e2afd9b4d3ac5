package kernel_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/bridge"
	"go.patchbay.dev/plugins/bridge/kernel"
	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/linux/nstest"
)

// full is a bridge with everything.
func full() bridge.Domain {
	d := lan
	d.Gateways = []netip.Prefix{netip.MustParsePrefix("10.60.0.254/24"), netip.MustParsePrefix("fd60::1/64")}
	d.StaticMACs = []bridge.StaticMAC{{MAC: macOf(0), Connection: "m0"}}
	d.ARPTermination = true
	return d
}

// record is what is wanted in most of these tests.
func record(n *node) {
	n.domain(full(), n.p.Underlay.Addresses[1])
	n.member(0, full())
	n.member(1, full())
}

// inNode runs a test in the namespace of a node, with workloads beside it.
func inNode(t *testing.T, workloads int, test func(t *testing.T, p place)) {
	var p place
	if nstest.Role(t, &p) != "" {
		test(t, p)
		return
	}
	p = newPlace(t, workloads)
	nstest.Start(t, p.Underlay.Nodes[0], "node", p).End()
}

func TestABridgeForwards(t *testing.T) {
	inNode(t, 2, func(t *testing.T, p place) {
		n, stop := start(t, p, record)
		defer stop()
		for from := range 2 {
			for _, to := range []string{address(1 - from), far, "10.60.0.254"} {
				n.reaches(from, to)
			}
		}
		s, err := n.bridges.Look(t.Context(), "lan")
		check(t, err)
		for _, want := range []bridge.Place{{Connection: "m0"}, {Connection: "m1"}, {Mesh: true}, {Gateway: true}} {
			if !slices.ContainsFunc(s.Ports, func(p bridge.Port) bool { return p.Place == want && p.Up && p.RxPackets > 0 && p.TxPackets > 0 }) {
				t.Errorf("no port leads to %+v: %+v", want, s.Ports)
			}
		}
		for _, want := range []bridge.MAC{
			{MAC: macOf(0), Place: bridge.Place{Connection: "m0"}, Static: true}, {MAC: macOf(1), Place: bridge.Place{Connection: "m1"}},
			{MAC: full().GatewayMAC, Place: bridge.Place{Gateway: true}, Static: true},
		} {
			if !slices.Contains(s.MACs, want) {
				t.Errorf("no %+v in %+v", want, s.MACs)
			}
		}
		if !slices.ContainsFunc(s.MACs, func(m bridge.MAC) bool { return m.Peer.String() == p.Underlay.Addresses[1] }) {
			t.Errorf("no MAC of the other node in %+v", s.MACs)
		}
		if _, err := n.bridges.Look(t.Context(), "other"); !errors.Is(err, bridge.ErrNoBridge) {
			t.Errorf("of a bridge that is not there: %v", err)
		}
	})
}

func TestABridgeIsChangedInPlace(t *testing.T) {
	inNode(t, 2, func(t *testing.T, p place) {
		n, stop := start(t, p, record)
		defer stop()
		before := n.ip("-o", "link", "show")
		d := full()
		d.Gateways, d.MACAge, d.StaticMACs, d.ARPTermination = d.Gateways[1:], 0, nil, false
		n.domain(d, p.Underlay.Addresses[1])
		n.member(0, d)
		n.member(1, d)
		n.settle()
		n.reaches(0, address(1))
		n.reaches(0, far)
		if after := n.ip("-o", "link", "show"); strings.Count(after, "\n") != strings.Count(before, "\n") || !sameIndexes(before, after) {
			t.Errorf("it was made anew:\n%s\n%s", before, after)
		}
		if got := n.ip("address", "show", "dev", n.ns.BridgeName("lan")); strings.Contains(got, "10.60.0.254") || !strings.Contains(got, "fd60::1/64") {
			t.Errorf("gateways: %s", got)
		}
		d = lan
		d.Flood, d.UnknownUnicast, d.Learn = false, false, false
		n.domain(d)
		n.member(0, d)
		n.member(1, d)
		n.settle()
		nstest.Run(t, p.Work[0], "ip", "neigh", "flush", "all")
		if out, err := nstest.Try(p.Work[0], "ping", "-c", "1", "-W", "1", address(1)); err == nil {
			t.Errorf("it floods: %s", out)
		}
		if got := n.ip("-o", "link", "show", "type", "vxlan"); got != "" {
			t.Errorf("without peers: %s", got)
		}
	})
}

// sameIndexes compares the numbers at the beginning of lines.
func sameIndexes(a, b string) bool {
	numbers := func(s string) (all []string) {
		for line := range strings.Lines(s) {
			number, _, _ := strings.Cut(line, ":")
			all = append(all, number)
		}
		return all
	}
	return slices.Equal(numbers(a), numbers(b))
}

func TestAnAgentThatStartsAdoptsABridge(t *testing.T) {
	inNode(t, 2, func(t *testing.T, p place) {
		_, stop := start(t, p, record)
		stop()
		n, stop := start(t, p, record)
		defer stop()
		if calls := n.calls.Load(); calls != 0 {
			t.Errorf("it has changed something %d times", calls)
		}
		n.reaches(0, address(1))
		n.reaches(0, far)
	})
}

// What somebody has changed or deleted is made again.
func TestDamageIsMended(t *testing.T) {
	inNode(t, 2, func(t *testing.T, p place) {
		n, stop := start(t, p, record)
		defer stop()
		bridge, mesh := n.ns.BridgeName("lan"), n.ns.MeshName("lan")
		port := n.ns.PortName(linux.Tag{ID: "m0", Side: linux.Client})
		for _, damage := range [][]string{
			{"link", "set", port, "nomaster"}, {"link", "set", port, "down"}, {"link", "delete", port}, {"link", "set", mesh, "nomaster"},
			{"link", "delete", mesh}, {"link", "set", bridge, "down"}, {"link", "delete", bridge},
		} {
			n.ip(damage...)
			n.until("mended: "+strings.Join(damage, " "), func() bool {
				for _, to := range []string{address(1), far, "10.60.0.254"} {
					if _, err := nstest.Try(p.Work[0], "ping", "-c", "1", "-W", "1", to); err != nil {
						return false
					}
				}
				return true
			})
			n.settle()
		}
	})
}

// What nobody wants any more goes, and what is somebody else's stays.
func TestOnlyOursIsRemoved(t *testing.T) {
	inNode(t, 2, func(t *testing.T, p place) {
		n, stop := start(t, p, record)
		n.ip("link", "add", "theirs", "type", "bridge")
		n.ip("link", "add", "vxtheirs", "type", "vxlan", "id", "77", "dstport", "4790")
		n.ip("link", "set", "vxtheirs", "master", "theirs")
		stop()
		n, stop = start(t, p, func(*node) {})
		defer stop()
		left := n.ip("-o", "link", "show")
		if strings.Contains(left, ": pb") || !strings.Contains(left, "theirs") || !strings.Contains(left, "vxtheirs") {
			t.Errorf("left: %s", left)
		}
	})
}

// An agent that dies between two steps leaves what the next one finishes, or removes.
func TestWhatIsHalfMadeIsFinished(t *testing.T) {
	inNode(t, 2, func(t *testing.T, p place) {
		n, stop := start(t, p, record)
		for _, name := range []string{n.ns.BridgeName("lan"), n.ns.MeshName("lan")} {
			n.ip("link", "set", name, "alias", "")
			n.ip("link", "set", name, "down")
		}
		stop()
		n, stop = start(t, p, record)
		n.reaches(0, far)
		n.ip("link", "set", n.ns.BridgeName("lan"), "alias", "")
		stop()
		n, stop = start(t, p, func(*node) {})
		defer stop()
		if left := n.ip("-o", "link", "show"); strings.Contains(left, ": pb") {
			t.Errorf("left: %s", left)
		}
	})
}

// A member of many costs as many changes as one of few.
func TestAMemberCostsTheSameAmongMany(t *testing.T) {
	inNode(t, 12, func(t *testing.T, p place) {
		n, stop := start(t, p, func(n *node) { n.domain(lan) })
		defer stop()
		var cost []int64
		for i := range p.Work {
			before := n.calls.Load()
			n.member(i, lan)
			n.settle()
			cost = append(cost, n.calls.Load()-before)
		}
		if last := cost[len(cost)-1]; last != cost[1] {
			t.Errorf("changes: %v", cost)
		}
	})
}

func TestWhatCannotBeRendered(t *testing.T) {
	ns, err := linux.New(linux.Options{Instance: nstest.Instance(t)})
	check(t, err)
	defer ns.Close()
	b := kernel.New(ns)
	var field *models.FieldError
	if _, err := b.Member("m1", lan, models.Port{}); !errors.As(err, &field) || field.Field != "payload" {
		t.Errorf("a port of IP: %v", err)
	}
	d := lan
	d.VNI = 0
	if _, err := b.Mesh(d, netip.Addr{}, []netip.Addr{{}}); err == nil {
		t.Error("a mesh without a VNI")
	}
}
