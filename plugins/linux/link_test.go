package linux

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"go.patchbay.dev/plugins/linux/nstest"
)

func TestAPairIsMadeInBothNamespacesAndCarriesPackets(t *testing.T) {
	n := newNamespaces(t)
	a, b, la, lb := pair(t, n)
	check(t, a.ConfigureNew(la.Index, Config{Addresses: config.Addresses[:1]}))
	check(t, b.ConfigureNew(lb.Index, Config{Addresses: []netip.Prefix{prefix("10.9.0.2/24")}}))
	nstest.Run(t, a.Ref(), "ping", "-c1", "-W2", "10.9.0.2")
	l, err := n.LinkAt(la.Place)
	check(t, err)
	want := Link{
		Place: la.Place, Name: "nsm0", Alias: "patchbay:c1:client", MAC: Tag{"c1", Client}.MAC(), MTU: 1500,
		Up: true, Running: true, Ours: true, Kind: kindVeth, group: n.group, Peer: lb.Place, PeerKnown: true, Counters: l.Counters,
	}
	if l != want {
		t.Errorf("found %+v, want %+v", l, want)
	}
	if l.Counters.RxPackets == 0 || l.Counters.TxBytes < 98 {
		t.Errorf("counted %+v", l.Counters)
	}
	links, err := n.Links(none)
	check(t, err)
	listed := 0
	for _, l := range links {
		l.Counters, want.Counters = Counters{}, Counters{}
		if l == want {
			listed++
		}
	}
	if listed != 1 {
		t.Errorf("listed %d times in %+v", listed, links)
	}
}

func TestANameThatIsTakenMakesNothing(t *testing.T) {
	for _, side := range []int{0, 1} {
		n := newNamespaces(t)
		ns := [2]*Namespace{open(t, n, nstest.New(t)), open(t, n, nstest.New(t))}
		nstest.Run(t, ns[side].Ref(), "ip", "link", "add", "nsm0", "type", "bridge")
		err := n.CreatePair(End{ns[0], "nsm0", Tag{"c1", Client}.MAC(), 1500}, End{ns[1], "nsm0", Tag{"c1", Endpoint}.MAC(), 1500})
		if !errors.Is(err, unix.EEXIST) {
			t.Errorf("error %v", err)
		}
		if _, err := ns[1-side].LinkByName("nsm0"); !errors.Is(err, ErrNoLink) {
			t.Errorf("on the free side: %v", err)
		}
	}
}

func TestANameThatTheAgentsOwnNamespaceHasIsFree(t *testing.T) {
	n := newNamespaces(t)
	a, b := open(t, n, nstest.New(t)), open(t, n, nstest.New(t))
	links, err := net.Interfaces()
	check(t, err)
	for _, l := range links {
		if l.Name == "lo" {
			continue // every namespace has one
		}
		check(t, n.CreatePair(End{a, l.Name, Tag{l.Name, Client}.MAC(), 1500}, End{b, l.Name, Tag{l.Name, Endpoint}.MAC(), 1500}))
	}
}

func TestEverythingAboutALinkCanBeChanged(t *testing.T) {
	n := newNamespaces(t)
	a, _, l, _ := pair(t, n)
	mac := MAC{2, 1, 1, 1, 1, 1}
	got, err := a.SetLink(l.Index, Change{MTU: 9000, MAC: mac, Name: "eth7"})
	check(t, err)
	if got.MTU != 9000 || got.MAC != mac || got.Name != "eth7" || !got.Up || got.Alias != "patchbay:c1:client" {
		t.Errorf("found %+v", got)
	}
}

func TestAnInterfaceInANamespaceThatNobodyCanOpenIsListedAndDeleted(t *testing.T) {
	n := newNamespaces(t)
	pid, end := nstest.Process(t)
	hidden, err := n.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	check(t, err)
	_, err = hidden.NSID()
	check(t, err)
	b := open(t, n, nstest.New(t))
	check(t, n.CreatePair(End{hidden, "nsm0", Tag{"c1", Client}.MAC(), 1500}, End{b, "nsm0", Tag{"c1", Endpoint}.MAC(), 1500}))
	l := finish(t, hidden, Tag{"c1", Client})
	end() // hidden's descriptor keeps it
	links, err := n.Links(none)
	check(t, err)
	if !slices.ContainsFunc(links, func(o Link) bool { return o.Place == l.Place && o.Alias == "patchbay:c1:client" }) {
		t.Errorf("%+v is not among %+v", l, links)
	}
	check(t, n.DeleteLink(l))
	if _, err := b.LinkByName("nsm0"); !errors.Is(err, ErrNoLink) {
		t.Errorf("the other end: %v", err)
	}
	check(t, n.DeleteLink(l))
	check(t, hidden.Close())
	check(t, n.DeleteLink(Link{Place: Place{1 << 20, 1}}))
}

func TestEventsComeFromAllNamespaces(t *testing.T) {
	n := newNamespaces(t)
	type event struct {
		Link
		gone bool
	}
	events := make(chan event, 1000)
	n.Subscribe(Subscriber{Link: func(l Link, gone bool) { events <- event{l, gone} }})
	check(t, n.Start())
	a, b, la, lb := pair(t, n)
	seen := func(what string, f func(e event) bool) { wait(t, what, func() bool { return f(<-events) }) }
	seen("the client's link", func(e event) bool { return e.Place == la.Place && e.Running })
	nstest.Run(t, b.Ref(), "ip", "link", "set", "nsm0", "down")
	seen("an end that was set down", func(e event) bool { return e.Place == lb.Place && !e.Up })
	nstest.Run(t, b.Ref(), "ip", "link", "add", "bridge0", "type", "bridge")
	nstest.Run(t, b.Ref(), "ip", "link", "set", "nsm0", "master", "bridge0")
	nstest.Run(t, b.Ref(), "ip", "link", "set", "nsm0", "nomaster")
	nstest.Run(t, b.Ref(), "ip", "link", "set", "nsm0", "up")
	seen("an end that left a bridge and is up", func(e event) bool {
		if e.gone && e.Place == lb.Place {
			t.Error("leaving a bridge was taken for the end of the link")
		}
		return e.Place == lb.Place && e.Up
	})
	nstest.Run(t, a.Ref(), "ip", "link", "delete", "nsm0")
	seen("the end of the other end", func(e event) bool { return e.Place == lb.Place && e.gone })
}

func TestWhatIsNotOursIsNotDeleted(t *testing.T) {
	n := newNamespaces(t)
	a := open(t, n, nstest.New(t))
	_, err := a.NSID()
	check(t, err)
	nstest.Run(t, a.Ref(), "ip", "link", "add", "foreign", "type", "veth", "peer", "name", "foreign2")
	l, err := a.LinkByName("foreign")
	check(t, err)
	before := n.Mutations()
	check(t, n.DeleteLink(l))
	if n.Mutations() != before {
		t.Error("it was tried")
	}
	links, err := n.Links(none)
	check(t, err)
	for _, found := range links {
		if strings.HasPrefix(found.Name, "foreign") {
			t.Errorf("taken for ours: %+v", found)
		}
	}
}

// Two interfaces that came back under each other's name get their own.
func TestSettleWhereEachHasTheOthersName(t *testing.T) {
	nstest.Need(t)
	n := newNamespaces(t)
	const a, b = "pbsettle-a", "pbsettle-b"
	const own = "/proc/self/ns/net"
	nstest.Run(t, own, "ip", "link", "add", a, "type", "veth", "peer", "name", b)
	first, err := n.OwnLink(a)
	check(t, err)
	second, err := n.OwnLink(b)
	check(t, err)
	now := func(l Link) Link {
		l, err := n.LinkAt(l.Place)
		check(t, err)
		return l
	}
	t.Cleanup(func() { nstest.Run(t, own, "ip", "link", "del", now(first).Name) })

	if err := n.Settle(first, b, 1400, true); !errors.Is(err, unix.EEXIST) {
		t.Errorf("error %v", err)
	}
	check(t, n.Settle(second, a, 1400, true))
	check(t, n.Settle(now(first), b, 1400, true))
	first, second = now(first), now(second)
	if first.Name != b || second.Name != a || first.MTU != 1400 || !first.Up || !second.Up {
		t.Errorf("%+v, %+v", first, second)
	}
}
