package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/linux/nstest"
	"go.patchbay.dev/plugins/reconcile"
)

// full is a cross-connect with one of everything.
func full(a, b string) *models.CrossConnect {
	x := cross("c1", end(a, "nsm0", "10.60.0.1/24", "fd60::1/64"), end(b, "nsm1", "10.60.0.2/24", "fd60::2/64"))
	x.Mtu = 1400
	x.Client.Routes = []*models.Route{{Prefix: "10.61.0.0/16", NextHop: "10.60.0.2"}, {Prefix: "fd61::/48"}}
	x.Client.Neighbors = []*models.Neighbor{{Address: "10.60.0.7", Mac: "02:00:00:00:00:07"}}
	x.Client.Policies = []*models.Policy{
		{From: "10.60.0.0/24", Protocol: "tcp", DestinationPort: "80-90"},
		{From: "fd60::/64", Routes: []*models.Route{{Prefix: "fd62::/48", NextHop: "fd60::9"}}},
	}
	return x
}

func TestAConnectionIsMadeAndUndone(t *testing.T) {
	a, b := two(t)
	in(t, a, "ip link add foreign type veth peer name foreign2")
	in(t, b, "ip link set lo up")
	in(t, b, "ip address add 10.61.0.1/32 dev lo")
	in(t, b, "ip address add fd61::1/128 dev lo nodad")
	n, _ := start(t)
	x := full(a, b)
	n.want(x)
	for _, to := range []string{"10.60.0.2", "fd60::2", "10.61.0.1", "fd61::1"} {
		ping(t, a, to)
	}
	ping(t, b, "10.60.0.1")
	has(t, a, "ip link show nsm0", "mtu 1400")
	has(t, a, "ip link show nsm0", "alias patchbay:c1:client")
	has(t, b, "ip link show nsm1", "mtu 1400")
	has(t, b, "ip link show nsm1", linux.Tag{ID: "c1", Side: linux.Endpoint}.MAC().String())
	has(t, a, "ip neighbour", "10.60.0.7 dev nsm0 lladdr 02:00:00:00:00:07 PERMANENT")
	has(t, a, "ip route get 10.99.0.1 from 10.60.0.1 ipproto tcp dport 85", "via 10.60.0.2 dev nsm0")
	has(t, a, "ip -6 route get fd62::1 from fd60::1", "via fd60::9 dev nsm0")
	if out, err := nstest.Try(a, "ip", "route", "get", "10.99.0.1", "from", "10.60.0.1", "ipproto", "tcp", "dport", "91"); err == nil {
		t.Errorf("the policy takes a port that it does not name: %s", out)
	}
	n.untouched("applied again", func() { n.want(x) })
	n.remove("c1")
	nothing(t, a)
	nothing(t, b)
	has(t, a, "ip rule", "!20000")
	has(t, a, "ip link", "foreign")
}

func TestSingleAddressesReachEachOther(t *testing.T) {
	a, b := two(t)
	n, _ := start(t)
	x := cross("c1", end(a, "", "172.16.1.1/32", "fd00::1/128"), end(b, "", "172.16.1.0/32", "fd00::2/128"))
	x.Client.Routes = []*models.Route{{Prefix: "10.0.0.0/8"}}
	n.want(x)
	ping(t, a, "172.16.1.0")
	ping(t, a, "fd00::2")
	has(t, a, "ip route get 10.1.1.1", "via 172.16.1.0")
}

func TestStatusAndCounters(t *testing.T) {
	a, b := two(t)
	n, _ := start(t)
	x := full(a, b)
	if s := n.m.Status(x, models.ClientSide); s.Interface != "" || s.LinkUp || s.Parameters["netns"] != a {
		t.Errorf("before: %+v", s)
	}
	if _, err := n.m.Counters(x, models.ClientSide); !errors.Is(err, linux.ErrNoLink) {
		t.Errorf("before: %v", err)
	}
	n.want(x)
	ping(t, a, "10.60.0.2")
	for side, name := range map[models.Side]string{models.ClientSide: "nsm0", models.EndpointSide: "nsm1"} {
		if s := n.m.Status(x, side); s.Mechanism != "KERNEL" || s.Interface != name || !s.LinkUp {
			t.Errorf("%s: %+v", side, s)
		}
		if c, err := n.m.Counters(x, side); err != nil || c.RxPackets == 0 || c.TxBytes == 0 {
			t.Errorf("%s: %+v, %v", side, c, err)
		}
	}
}

func TestBothEndsInOneNamespace(t *testing.T) {
	a := nstest.New(t)
	n, _ := start(t)
	n.want(cross("c1", end(a, "left", "10.60.0.1/24"), end(a, "right", "10.60.1.1/24")))
	has(t, a, "ip link", "left")
	n.remove("c1")
	nothing(t, a)
	// Two references to one namespace, which the record does not show.
	pid, _ := nstest.Process(t)
	leader, thread := fmt.Sprintf("/proc/%d/ns/net", pid), fmt.Sprintf("/proc/%d/task/%d/ns/net", pid, pid)
	n.apply(cross("c2", end(leader, "nsm0"), end(thread, "nsm0")))
	n.is("c2", reconcile.Failed, "give them different names")
}

func TestAnAgentThatStartsAgainTouchesNothing(t *testing.T) {
	a, b := two(t)
	x, y := full(a, b), cross("c2", end(b, "", "10.7.0.1/24"), end(a, ""))
	first, stop := start(t)
	first.want(x)
	first.want(y)
	stop()
	n, _ := start(t, x, y)
	n.is("c1", reconcile.Applied, "")
	n.is("c2", reconcile.Applied, "")
	if calls := n.ns.Mutations(); calls != 0 {
		t.Errorf("%d changing calls to the kernel, want none", calls)
	}
	n.untouched("a resync", func() {
		check(t, n.e.Resync(t.Context()))
		n.settle()
	})
	if s := n.m.Status(x, models.EndpointSide); s.Interface != "nsm1" || !s.LinkUp {
		t.Errorf("%+v", s)
	}
}

func TestWhatNobodyWantsAnyMoreIsPruned(t *testing.T) {
	a, b := two(t)
	c := nstest.New(t)
	first, stop := start(t)
	first.want(full(a, b))
	gone := cross("c2", end(a, "nsm2", "10.7.0.1/24"), end(c, "nsm2", "10.7.0.2/24"))
	gone.Endpoint.Policies = []*models.Policy{{From: "10.0.0.0/8"}}
	first.want(gone)
	stop()
	for _, ns := range []string{a, c} {
		in(t, ns, "ip link add foreign type veth peer name foreign2")
		in(t, ns, "ip link set foreign2 alias patchbay:c1:client") // a tag without our group is none of ours
		in(t, ns, "ip rule add from 10.3.0.0/16 table 77 priority 20000")
	}
	n, _ := start(t, full(a, b))
	n.is("c1", reconcile.Applied, "")
	n.settle()
	ping(t, a, "10.60.0.2")
	has(t, a, "ip link", "!nsm2")
	nothing(t, c)
	for _, ns := range []string{a, c} {
		has(t, ns, "ip link", "foreign2")
		has(t, ns, "ip rule", "lookup 77")
	}
	has(t, c, "ip rule", "!from 10.0.0.0/8")
}

func TestRulesWhoseInterfaceIsGoneArePruned(t *testing.T) {
	a, b := two(t)
	first, stop := start(t)
	first.want(full(a, b))
	stop()
	in(t, a, "ip link delete nsm0")
	has(t, a, "ip rule", "20000")
	n, _ := start(t, cross("c2", end(a, "nsm0"), end(b, "nsm0")))
	n.is("c2", reconcile.Applied, "")
	n.settle()
	has(t, a, "ip rule", "!20000")
	has(t, a, "ip -6 rule", "!20001")
}

// The agent may die after each of these steps; what is there then is finished.
func TestWhatADeadAgentBeganIsFinished(t *testing.T) {
	steps := []struct {
		name string
		do   func(t *testing.T, ns *linux.Namespaces, a, b *linux.Namespace, veth Veth)
	}{
		{"created", func(t *testing.T, ns *linux.Namespaces, a, b *linux.Namespace, v Veth) {
			e, o := v.Ends[0], v.Ends[1]
			check(t, ns.CreatePair(linux.End{NS: a, Name: e.Name, MAC: e.MAC, MTU: v.MTU}, linux.End{NS: b, Name: o.Name, MAC: o.MAC, MTU: v.MTU}))
		}},
		{"client finished", func(t *testing.T, _ *linux.Namespaces, a, _ *linux.Namespace, v Veth) {
			finish(t, a, v.Ends[0].Name, "patchbay:c1:client")
		}},
		{"endpoint finished", func(t *testing.T, _ *linux.Namespaces, _, b *linux.Namespace, v Veth) {
			finish(t, b, v.Ends[1].Name, "patchbay:c1:endpoint")
		}},
		{"half configured", func(t *testing.T, _ *linux.Namespaces, a, _ *linux.Namespace, v Veth) {
			l, err := a.LinkByName(v.Ends[0].Name)
			check(t, err)
			check(t, a.ConfigureNew(l.Index, linux.Config{
				Addresses: []netip.Prefix{pfx("10.60.0.1/24")},
				Rules:     []linux.Rule{{Policy: 1, From: pfx("10.60.0.0/24"), Protocol: 6, DestinationPorts: linux.Ports{From: 80, To: 90}}},
			}))
		}},
	}
	for done := range steps {
		for _, wanted := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, still wanted %v", steps[done].name, wanted), func(t *testing.T) {
				refA, refB := two(t)
				x := full(refA, refB)
				values, err := new(Mechanism).Pair(x)
				check(t, err)
				dead, err := linux.New(options(t))
				check(t, err)
				a, err := dead.Open(refA)
				check(t, err)
				b, err := dead.Open(refB)
				check(t, err)
				for _, ns := range []*linux.Namespace{a, b} {
					_, err := ns.NSID()
					check(t, err)
				}
				for _, s := range steps[:done+1] {
					s.do(t, dead, a, b, values[0].Spec.(Veth))
				}
				check(t, errors.Join(a.Close(), b.Close(), dead.Close()))
				before := strings.Fields(in(t, refA, "ip -o link show nsm0"))[0]
				if !wanted {
					n, _ := start(t)
					n.settle()
					nothing(t, refA)
					nothing(t, refB)
					has(t, refA, "ip rule", "!20000")
					return
				}
				n, _ := start(t, x)
				n.is("c1", reconcile.Applied, "")
				ping(t, refA, "10.60.0.2")
				ping(t, refA, "fd60::2")
				if after := strings.Fields(in(t, refA, "ip -o link show nsm0"))[0]; after != before {
					t.Errorf("made anew: index %s instead of %s", after, before)
				}
				check(t, n.e.Resync(t.Context()))
				n.untouched("a resync", n.settle)
			})
		}
	}
}

func finish(t *testing.T, ns *linux.Namespace, name, alias string) {
	t.Helper()
	l, err := ns.LinkByName(name)
	check(t, err)
	_, err = ns.SetLink(l.Index, linux.Change{Alias: alias, Up: true})
	check(t, err)
}

func TestANameThatIsTakenIsSaidByWhom(t *testing.T) {
	a, b := two(t)
	n, _ := start(t)
	in(t, b, "ip link add eth0 type veth peer name other")
	n.apply(cross("c1", end(a, "nsm0"), end(b, "eth0")))
	n.is("c1", reconcile.Failed, fmt.Sprintf("interface name is taken: %q in network namespace %q, by an interface that is not Patchbay's", "eth0", b))
	nothing(t, a)
	n.want(cross("c2", end(a, "nsm2"), end(b, "nsm2")))
	n.apply(cross("c3", end(a, "nsm3"), end(b, "nsm2")))
	n.is("c3", reconcile.Failed, `by the endpoint of connection "c2"`)
	// When the name is free, the connection comes by itself.
	in(t, b, "ip link delete eth0")
	n.is("c1", reconcile.Applied, "")
	n.remove("c3")
	has(t, b, "ip link", "nsm2")
}

func TestAChangeTouchesOnlyWhatDiffers(t *testing.T) {
	a, b := two(t)
	n, _ := start(t)
	x := full(a, b)
	n.want(x)
	n.want(cross("c2", end(a, "nsm2", "10.7.0.1/24"), end(b, "nsm2", "10.7.0.2/24")))
	index := func(name string) string { return strings.Fields(in(t, a, "ip -o link show "+name))[0] }
	first := index("nsm0")
	for _, c := range []struct {
		what  string
		calls uint64
		edit  func(x *models.CrossConnect)
		netns string
		show  string
		text  string
	}{
		{"MTU", 2, func(x *models.CrossConnect) { x.Mtu = 9000 }, b, "ip link show nsm1", "mtu 9000"},
		{"name", 1, func(x *models.CrossConnect) { x.Client.Mechanism.Parameters["name"] = "eth7" }, a, "ip link show eth7", "patchbay:c1:client"},
		{"MAC, and neighbours that go with it", 2, func(x *models.CrossConnect) { x.Client.Mac = "02:00:00:00:00:09" }, a, "ip link show eth7", "02:00:00:00:00:09"},
		{"one address more, and the way to it from the other end", 2, func(x *models.CrossConnect) { x.Client.Addresses = append(x.Client.Addresses, "10.60.9.3/24") }, a, "ip address show eth7", "10.60.9.3/24"},
		{"next hop", 2, func(x *models.CrossConnect) { x.Client.Routes[0].NextHop = "10.60.0.9" }, a, "ip route", "10.61.0.0/16 via 10.60.0.9"},
		{"no neighbours", 1, func(x *models.CrossConnect) { x.Client.Neighbors = nil }, a, "ip neighbour", "!10.60.0.7"},
		{"no policies", 4, func(x *models.CrossConnect) { x.Client.Policies = nil }, a, "ip rule", "!20000"},
	} {
		x = proto.Clone(x).(*models.CrossConnect)
		c.edit(x)
		before := n.ns.Mutations()
		n.want(x)
		n.settle()
		if calls := n.ns.Mutations() - before; calls != c.calls {
			t.Errorf("%s: %d changing calls to the kernel, want %d", c.what, calls, c.calls)
		}
		has(t, c.netns, c.show, c.text)
	}
	if now := index("eth7"); now != first {
		t.Errorf("made anew: index %s instead of %s", now, first)
	}
}

func TestAnotherNamespaceMovesTheConnection(t *testing.T) {
	a, b := two(t)
	c := nstest.New(t)
	n, _ := start(t)
	n.want(full(a, b))
	n.want(full(c, b))
	ping(t, c, "10.60.0.2")
	nothing(t, a)
	n.want(full(c, a))
	ping(t, c, "10.60.0.2")
	nothing(t, b)
}

func TestWhatAWorkloadBreaksIsMended(t *testing.T) {
	a, b := two(t)
	n, _ := start(t)
	n.want(full(a, b))
	works := func() bool {
		_, err1 := nstest.Try(a, "ping", "-c1", "-W1", "10.60.0.2")
		_, err2 := nstest.Try(a, "ping", "-c1", "-W1", "fd60::2")
		out := in(t, a, "ip route")
		name, err3 := nstest.Try(a, "ip", "link", "show", "nsm0")
		return err1 == nil && err2 == nil && err3 == nil && strings.Contains(out, "10.61.0.0/16 via 10.60.0.2") &&
			strings.Contains(name, "mtu 1400") && strings.Contains(name, "patchbay:c1:client")
	}
	for _, damage := range []string{
		"ip link delete nsm0", "ip link set nsm0 down", "ip link set nsm0 mtu 1300",
		"ip link set nsm0 name eth9", "ip link set nsm0 address 02:00:00:00:00:01", "ip link set nsm0 alias nonsense",
	} {
		in(t, a, damage)
		n.wait("the end of "+damage, works)
	}
	in(t, b, "ip link delete nsm1")
	n.wait("the return of the endpoint's interface", works)
	// Down and up again at once has flushed what was set.
	in(t, a, "ip link set nsm0 down")
	in(t, a, "ip link set nsm0 up")
	n.wait("the return of routes and addresses", works)
	// To another namespace and away.
	other := nstest.New(t)
	in(t, a, "ip link set nsm0 netns "+other)
	n.wait("the return of what was moved away", works)
	nothing(t, other)
	n.settle()
	if rules := strings.Count(in(t, a, "ip rule"), "2000"); rules != 1 {
		t.Errorf("rules of lost interfaces are left over:\n%s", in(t, a, "ip rule"))
	}
	n.is("c1", reconcile.Applied, "")
}

func TestANamespaceThatGoesAndComesBack(t *testing.T) {
	a, b := two(t)
	c := nstest.New(t)
	n, _ := start(t)
	n.apply(full("/tmp/there-is-no-such-namespace", b))
	n.is("c1", reconcile.Pending, "/tmp/there-is-no-such-namespace")
	n.want(full(a, b))
	n.want(cross("c2", end(c, "nsm0", "10.7.0.1/24"), end(b, "nsm7", "10.7.0.2/24")))
	for range 3 {
		nstest.Delete(t, a)
		n.is("c1", reconcile.Pending, a)
		nothing(t, a)
		has(t, b, "ip link", "!nsm1")
		ping(t, c, "10.7.0.2")
		nstest.At(t, a)
		n.is("c1", reconcile.Applied, "")
		ping(t, a, "10.60.0.2")
	}
	// Replaced while the agent was looking elsewhere, with the old one still alive.
	old := a + "-old"
	check(t, os.WriteFile(old, nil, 0o600))
	check(t, unix.Mount(a, old, "", unix.MS_BIND, ""))
	t.Cleanup(func() { nstest.Delete(t, old) })
	nstest.Delete(t, a)
	nstest.At(t, a)
	n.wait("the connection in the new namespace", func() bool {
		_, err := nstest.Try(a, "ping", "-c1", "-W1", "10.60.0.2")
		return err == nil
	})
	nothing(t, old)
}

func TestANamespaceThatWasReplacedWhileTheAgentWasDown(t *testing.T) {
	a, b := two(t)
	first, stop := start(t)
	first.want(full(a, b))
	stop()
	keep, err := unix.Open(a, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	check(t, err)
	defer func() { check(t, unix.Close(keep)) }()
	nstest.Delete(t, a)
	n, _ := start(t, full(a, b))
	n.is("c1", reconcile.Pending, a)
	nothing(t, b)
	nstest.At(t, a)
	n.is("c1", reconcile.Applied, "")
	ping(t, a, "10.60.0.2")
}

func TestAWorkloadThatEndsTakesItsConnectionAlong(t *testing.T) {
	b := nstest.New(t)
	pid, endIt := nstest.Process(t)
	n, _ := start(t)
	fd, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	check(t, err)
	ref, err := n.ns.FromDescriptor(fd, pid)
	check(t, errors.Join(err, fd.Close()))
	n.want(full(ref, b))
	ping(t, b, "10.60.0.1")
	endIt()
	n.is("c1", reconcile.Pending, "waits for the network namespace")
	nothing(t, b)
	n.remove("c1")
}

func TestBadNamespacesFailWithTheReason(t *testing.T) {
	b := nstest.New(t)
	dir := t.TempDir()
	check(t, os.WriteFile(dir+"/file", []byte("x"), 0o600))
	check(t, os.Symlink(b, dir+"/link"))
	n, _ := start(t)
	for ref, words := range map[string]string{
		dir + "/file": linux.ErrNotNamespace.Error(), dir + "/link": linux.ErrSymlink.Error(),
		"/proc/self/ns/net": linux.ErrOwnNamespace.Error(),
	} {
		n.apply(full(ref, b))
		n.is("c1", reconcile.Failed, words)
	}
	nothing(t, b)
}

func TestTheAgentsOwnNamespaceWhenItIsAllowed(t *testing.T) {
	b := nstest.New(t)
	o := options(t)
	o.AllowOwn = true
	ns, err := linux.New(o)
	check(t, err)
	defer func() { check(t, ns.Close()) }()
	n := &node{t: t, ns: ns, m: New(ns, nil), e: reconcile.New(reconcile.Options{})}
	n.m.Register(n.e, func(string) {})
	check(t, ns.Start())
	check(t, n.e.Start(t.Context()))
	defer n.e.Stop()
	own, name := "/proc/self/ns/net", fmt.Sprintf("pb%d", os.Getpid())
	n.want(cross("c1", end(own, name, "192.0.2.254/30"), end(b, "nsm0", "192.0.2.253/30")))
	ping(t, b, "192.0.2.254")
	in(t, own, "ip link set "+name+" down")
	n.wait("the link to be up again", func() bool {
		_, err := nstest.Try(b, "ping", "-c1", "-W1", "192.0.2.254")
		return err == nil
	})
	n.remove("c1")
	has(t, own, "ip link", "!"+name)
}

func TestEventsThatWereMissedAreMadeUpFor(t *testing.T) {
	a, b := two(t)
	n := deaf(t)
	n.want(full(a, b))
	in(t, b, "ip link delete nsm1")
	n.settle()
	has(t, a, "ip link", "!nsm0")
	n.m.missed()
	n.settle()
	ping(t, a, "10.60.0.2")
}
