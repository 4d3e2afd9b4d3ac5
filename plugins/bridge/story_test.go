package bridge

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.patchbay.dev/models"
)

// The nodes find each other with their first member, and forget each other with the last.
func TestNodesJoinWithTheirFirstMemberAndLeaveWithTheirLast(t *testing.T) {
	etcd := newEtcd(t)
	n1, n2, n3 := newNode(t, etcd, "n1", "192.0.2.1"), newNode(t, etcd, "n2", "192.0.2.2"), newNode(t, etcd, "n3", "192.0.2.3")
	n1.apply("lan1", "")
	n1.member("lan1", "a", "")
	n1.state("a", "UP")
	n1.bridge("lan1", "UP")
	if n1.plane.keys("tunnel/") != "" || n2.plane.keys("") != "" {
		t.Error("one node alone has no tunnels, and another nothing at all")
	}
	n2.member("lan1", "a", "")
	n2.member("lan1", "b", "")
	n3.member("lan1", "c", "")
	exactly(t, "lan1/192.0.2.2 lan1/192.0.2.3", func() string { return n1.plane.keys("tunnel/") })
	exactly(t, "lan1/192.0.2.1 lan1/192.0.2.3", func() string { return n2.plane.keys("tunnel/") })
	exactly(t, "lan1/192.0.2.1 lan1/192.0.2.2", func() string { return n3.plane.keys("tunnel/") })
	if a, b := n1.plane.what("tunnel/lan1/192.0.2.2"), n2.plane.what("tunnel/lan1/192.0.2.1"); strings.Fields(a)[0] != strings.Fields(b)[0] {
		t.Errorf("two VNIs: %s, %s", a, b)
	}
	if a, b := n1.plane.what("plug/a"), n2.plane.what("plug/a"); a == b || !strings.Contains(a, " 1450 ") {
		t.Errorf("two nodes have a member of one id, and each its own MAC, with what the underlay leaves: %s, %s", a, b)
	}
	remove(t, etcd, n2.keys.CrossConnect("a"))
	n2.state("b", "UP")
	exactly(t, "lan1/192.0.2.1 lan1/192.0.2.3", func() string { return n2.plane.keys("tunnel/") })
	remove(t, etcd, n2.keys.CrossConnect("b"))
	exactly(t, "lan1/192.0.2.3", func() string { return n1.plane.keys("tunnel/") })
	exactly(t, "", func() string { return n2.plane.keys("") })
	n2.bridge("lan1", "none")
	exactly(t, "", func() string { return etcdKeys(t, etcd, n2.keys.BridgeStatuses()) })
	exactly(t, "", func() string { return etcdKeys(t, etcd, n2.keys.NodeBridges()) })
}

func TestAnAgentThatRestartsTouchesNothing(t *testing.T) {
	etcd := newEtcd(t)
	n1, n2 := newNode(t, etcd, "n1", "192.0.2.1"), newNode(t, etcd, "n2", "192.0.2.2")
	n1.apply("lan1", `,"subnets":["10.60.0.0/24"]`)
	n1.member("lan1", "a", `,"addresses":["10.60.0.5/24"]`)
	n1.member("lan1", "b", "")
	n2.member("lan1", "c", "")
	exactly(t, "lan1/192.0.2.2", func() string { return n1.plane.keys("tunnel/") })
	n1.state("a", "UP")
	n1.state("b", "UP")
	n1.settled("lan1", "a", "b")
	n2.settled("lan1", "c")
	claimed := etcdKeys(t, etcd, n1.keys.Addresses("lan1"))
	revision := etcd.Revision()
	n2.plane.did()
	n1.stop()
	n1.plane.did()
	// What the agent claimed for a request that it did not live to put on record goes.
	put(t, etcd, n1.keys.Member("lan1", "lost"), `{"node":"n1","connection":"lost","mac":"02:00:00:00:00:99","addresses":["10.60.0.99/24"]}`)
	put(t, etcd, n1.keys.Address("lan1", "02:00:00:00:00:99"), `{"node":"n1","connection":"lost"}`)
	put(t, etcd, n1.keys.Address("lan1", "10.60.0.99"), `{"node":"n1","connection":"lost"}`)
	n1.look = func() {
		if data, there := n1.bridges.tellStatus("lan1"); data != nil || !there {
			t.Errorf("before it knows, it tells %q, %v", data, there)
		}
	}
	n1.start()
	n1.state("a", "UP")
	n1.bridge("lan1", "UP")
	exactly(t, claimed, func() string { return etcdKeys(t, etcd, n1.keys.Addresses("lan1")) })
	if did := n1.plane.did(); len(did) > 0 {
		t.Errorf("the dataplane was touched: %v", did)
	}
	if did := n2.plane.did(); len(did) > 0 {
		t.Errorf("the other node's dataplane was touched: %v", did)
	}
	exactly(t, "", func() string { // but for the two revisions of what was lost: written three times, removed once
		if now := etcd.Revision(); now > revision+4 {
			return "etcd was written"
		}
		return ""
	})
}

func TestABridgeChangesInPlace(t *testing.T) {
	etcd := newEtcd(t)
	n1 := newNode(t, etcd, "n1", "192.0.2.1")
	n1.apply("lan1", "")
	n1.member("lan1", "a", "")
	n1.state("a", "UP")
	n1.bridge("lan1", "UP")
	n1.plane.did()
	n1.apply("lan1", `,"flooding":false,"macAge":600`)
	eventually(t, "{lan1 0 true false true false 10m0s", func() string { return n1.plane.what("domain/lan1") })
	if did := n1.plane.did(); !slices.Equal(did, []string{"update thing/domain/lan1"}) {
		t.Errorf("done: %v", did)
	}
	// One that is not valid is answered, and what was before stays.
	n1.apply("lan1", `,"macAge":61`)
	n1.bridge("lan1", "FAILED macAge: 61 is not possible")
	n1.state("a", "UP")
	if did := n1.plane.did(); len(did) > 0 {
		t.Errorf("done: %v", did)
	}
}

func TestAMemberWaitsForItsBridgeAndOutlivesIt(t *testing.T) {
	etcd := newEtcd(t)
	n1 := newNode(t, etcd, "n1", "192.0.2.1")
	n1.member("lan1", "a", `,"addresses":["10.60.0.5/24"]`)
	n1.state("a", "PENDING waits for the bridge lan1")
	n1.bridge("lan1", "PENDING there is no such bridge")
	n1.apply("lan1", "")
	n1.state("a", "UP")
	exactly(t, "lan1/a", func() string { return n1.plane.keys("port/") })
	vnis := ""
	exactly(t, "there", func() string {
		if vnis = etcdKeys(t, etcd, n1.keys.Prefix+"vnis/"); vnis == "" {
			return "none"
		}
		return "there"
	})

	remove(t, etcd, n1.keys.Bridge("lan1"))
	n1.state("a", "DOWN link is down: endpoint interface bridge lan1; its bridge lan1 was deleted")
	n1.bridge("lan1", "DOWN it was deleted under its members")
	exactly(t, "plug/a", func() string { return n1.plane.keys("") })
	exactly(t, "", func() string { return etcdKeys(t, etcd, n1.keys.Prefix+"vnis/") })
	if kept := etcdKeys(t, etcd, n1.keys.Addresses("lan1")); !strings.Contains(kept, "10.60.0.5") {
		t.Errorf("the member does not keep its address: %s", kept)
	}
	n1.apply("lan1", "")
	n1.state("a", "UP")
	exactly(t, vnis, func() string { return etcdKeys(t, etcd, n1.keys.Prefix+"vnis/") })
	remove(t, etcd, n1.keys.CrossConnect("a"))
	exactly(t, "", func() string { return n1.plane.keys("") })
	exactly(t, "", func() string { return etcdKeys(t, etcd, n1.keys.Addresses("lan1")) })
}

// What one member costs does not depend on how many there are.
func TestAMemberCostsTheSameInASmallBridgeAndALargeOne(t *testing.T) {
	etcd := newEtcd(t)
	n1 := newNode(t, etcd, "n1", "192.0.2.1")
	n1.apply("lan1", `,"subnets":["10.60.0.0/16"]`)
	add := func(id string) (calls int) {
		n1.plane.did()
		n1.member("lan1", id, "")
		n1.state(id, "UP")
		return len(n1.plane.did())
	}
	add("first")
	calls := add("second")
	for i := range 200 {
		add(fmt.Sprint("m", i))
	}
	if c := add("last"); c != calls {
		t.Errorf("the last member took %d calls, the second %d", c, calls)
	}
	eventually(t, "203", func() string {
		kv, err := etcd.Get(t.Context(), n1.keys.BridgeStatus("lan1"))
		s := &models.BridgeStatus{}
		if err == nil {
			err = models.Unmarshal(kv.Value, s)
		}
		if err != nil || len(kv.Value) > 200 {
			t.Fatalf("the status has %d bytes, %v", len(kv.Value), err)
		}
		return fmt.Sprint(s.Members)
	})
}
