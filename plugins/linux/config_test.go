package linux

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"go.patchbay.dev/plugins/linux/nstest"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func ip(s string) netip.Addr       { return netip.MustParseAddr(s) }

// config has one of each thing that can be set on an interface.
var config = Config{
	Addresses: []netip.Prefix{prefix("10.9.0.1/24"), prefix("10.9.0.5/24"), prefix("172.16.9.1/32"), prefix("fd09::1/64"), prefix("fd09:1::1/128")},
	Routes: []Route{
		{Prefix: prefix("10.8.0.0/16"), NextHop: ip("10.9.0.2")},
		{Prefix: prefix("10.7.0.0/16"), NextHop: ip("203.0.113.1"), OnLink: true},
		{Prefix: prefix("172.16.9.2/32")},
		{Prefix: prefix("fd08::/48"), NextHop: ip("fd09::2")},
		{Prefix: prefix("fd07::/48"), NextHop: ip("fe80::1"), OnLink: true},
		{Prefix: prefix("fd09:1::2/128")},
		{Policy: 1, Prefix: prefix("0.0.0.0/0"), NextHop: ip("10.9.0.2")},
		{Policy: 2, Prefix: prefix("::/0"), NextHop: ip("fd09::2")},
	},
	Neighbors: []Neighbor{
		{Address: ip("10.9.0.2"), MAC: MAC{2, 0, 0, 0, 0, 1}},
		{Address: ip("fd09::2"), MAC: MAC{2, 0, 0, 0, 0, 1}},
	},
	Rules: []Rule{
		{Policy: 1, From: prefix("10.9.0.0/24"), Protocol: 6, DestinationPorts: Ports{80, 80}},
		{Policy: 2, IPv6: true, From: prefix("fd09::/64")},
		{Policy: 3, Protocol: 17, SourcePorts: Ports{1000, 2000}},
	},
}

// instance sets what a test makes apart from what others make on this machine.
func instance(t testing.TB) string { return fmt.Sprintf("%d %s %p", os.Getpid(), t.Name(), t) }

func newNamespaces(t testing.TB) *Namespaces {
	t.Helper()
	n, err := New(Options{Instance: instance(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { check(t, n.Close()) })
	return n
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, n *Namespaces, ref string) *Namespace {
	t.Helper()
	ns, err := n.Open(ref)
	check(t, err)
	t.Cleanup(func() { check(t, ns.Close()) })
	return ns
}

// pair makes a finished pair nsm0–nsm0 of the connection c1 between two new namespaces.
func pair(t testing.TB, n *Namespaces) (a, b *Namespace, la, lb Link) {
	t.Helper()
	a, b = open(t, n, nstest.New(t)), open(t, n, nstest.New(t))
	for _, ns := range []*Namespace{a, b} {
		_, err := ns.NSID()
		check(t, err)
	}
	check(t, n.CreatePair(End{a, "nsm0", Tag{"c1", Client}.MAC(), 1500}, End{b, "nsm0", Tag{"c1", Endpoint}.MAC(), 1500}))
	return a, b, finish(t, a, Tag{"c1", Client}), finish(t, b, Tag{"c1", Endpoint})
}

func finish(t testing.TB, ns *Namespace, tag Tag) Link {
	t.Helper()
	l, err := ns.LinkByName("nsm0")
	check(t, err)
	l, err = ns.SetLink(l.Index, Change{Alias: tag.String(), Up: true})
	check(t, err)
	return l
}

// found is what there is of ours on an interface, by a new look.
func found(t testing.TB, ns *Namespace, index int, want []netip.Prefix) Config {
	t.Helper()
	s, err := ns.Survey()
	check(t, err)
	return s.With(index, want)
}

func TestConfigurationIsSetFoundAndTakenOff(t *testing.T) {
	n := newNamespaces(t)
	a, _, l, _ := pair(t, n)
	check(t, a.ConfigureNew(l.Index, config))
	if got := found(t, a, l.Index, nil); !got.Equal(config) {
		t.Fatalf("found\n%+v, want\n%+v", got, config)
	}
	before := n.Mutations()
	check(t, a.Configure(l.Index, Config{}, config))
	if n.Mutations() != before {
		t.Error("what was right was touched")
	}
	check(t, a.Configure(l.Index, config, Config{}))
	if got := found(t, a, l.Index, nil); !got.Equal(Config{}) {
		t.Errorf("left over: %+v", got)
	}
}

func TestOnlyWhatDiffersIsChanged(t *testing.T) {
	n := newNamespaces(t)
	a, _, l, _ := pair(t, n)
	check(t, a.ConfigureNew(l.Index, config))
	for name, c := range map[string]struct {
		edit  func(c *Config)
		calls uint64
	}{
		"one address more":    {func(c *Config) { c.Addresses = append(c.Addresses[:5:5], prefix("10.99.0.1/24")) }, 1},
		"another next hop":    {func(c *Config) { c.Routes[0].NextHop = ip("10.9.0.3") }, 2},
		"one rule less":       {func(c *Config) { c.Rules = c.Rules[:2] }, 1},
		"a neighbour's MAC":   {func(c *Config) { c.Neighbors[0].MAC[5] = 9 }, 2},
		"the order of things": {func(c *Config) { c.Routes[0], c.Routes[1] = c.Routes[1], c.Routes[0] }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			want := Config{
				append([]netip.Prefix{}, config.Addresses...), append([]Route{}, config.Routes...),
				append([]Neighbor{}, config.Neighbors...), append([]Rule{}, config.Rules...),
			}
			c.edit(&want)
			before := n.Mutations()
			check(t, a.Configure(l.Index, config, want))
			if calls := n.Mutations() - before; calls != c.calls {
				t.Errorf("%d changes, want %d", calls, c.calls)
			}
			if got := found(t, a, l.Index, nil); !got.Equal(want) {
				t.Errorf("found\n%+v, want\n%+v", got, want)
			}
			check(t, a.Configure(l.Index, want, config))
		})
	}
}

// The kernel deletes the secondary addresses of a subnet along with the primary one.
func TestAnAddressThatGoesTakesNoOtherAlong(t *testing.T) {
	n := newNamespaces(t)
	a, _, l, _ := pair(t, n)
	check(t, a.ConfigureNew(l.Index, config))
	want := config
	want.Addresses = config.Addresses[1:]
	check(t, a.Configure(l.Index, config, want))
	if got := found(t, a, l.Index, nil); !got.Equal(want) {
		t.Errorf("found\n%+v, want\n%+v", got, want)
	}
}

func TestWhatTheWorkloadSetIsLeftAlone(t *testing.T) {
	n := newNamespaces(t)
	a, _, l, _ := pair(t, n)
	own := [][]string{
		{"ip", "address", "add", "192.0.2.1/24", "dev", "nsm0"},
		{"ip", "address", "add", "fd55::1/64", "dev", "nsm0"},
		{"ip", "route", "add", "198.51.100.0/24", "dev", "nsm0"},
		{"ip", "route", "add", "default", "dev", "nsm0", "table", "77"},
		{"ip", "neighbour", "add", "192.0.2.9", "lladdr", "02:00:00:00:00:09", "dev", "nsm0"},
		{"ip", "rule", "add", "from", "192.0.2.0/24", "priority", "500", "table", "77"},
	}
	for _, c := range own {
		nstest.Run(t, a.Ref(), c...)
	}
	check(t, a.Configure(l.Index, Config{}, config))
	check(t, a.Configure(l.Index, config, Config{}))
	for _, c := range own {
		if out, err := nstest.Try(a.Ref(), c...); err == nil {
			t.Errorf("%q is gone: %s", c, out)
		}
	}
}

func TestAnAddressThatTheWorkloadHasAlreadyIsEnough(t *testing.T) {
	n := newNamespaces(t)
	a, _, l, _ := pair(t, n)
	nstest.Run(t, a.Ref(), "ip", "address", "add", "10.9.0.1/24", "dev", "nsm0")
	want := Config{Addresses: config.Addresses[:1]}
	check(t, a.Configure(l.Index, Config{}, want))
	if got := found(t, a, l.Index, want.Addresses); !got.Equal(want) {
		t.Errorf("found %+v", got)
	}
	check(t, a.Configure(l.Index, want, Config{}))
	if n.marksAddresses && !strings.Contains(nstest.Run(t, a.Ref(), "ip", "address"), "10.9.0.1/24") {
		t.Error("the workload's address was deleted")
	}
}

func TestARouteThatIsTakenSaysSo(t *testing.T) {
	n := newNamespaces(t)
	a, _, l, _ := pair(t, n)
	nstest.Run(t, a.Ref(), "ip", "link", "set", "lo", "up")
	nstest.Run(t, a.Ref(), "ip", "route", "add", "10.8.0.0/16", "dev", "lo")
	err := a.Configure(l.Index, Config{}, config)
	if err == nil || !strings.Contains(err.Error(), "route 10.8.0.0/16") || !strings.Contains(err.Error(), "has it already") {
		t.Errorf("error %v", err)
	}
}

func TestRulesOfAnInterfaceThatIsGoneAreStale(t *testing.T) {
	n := newNamespaces(t)
	a, _, l, _ := pair(t, n)
	check(t, a.ConfigureNew(l.Index, config))
	nstest.Run(t, a.Ref(), "ip", "rule", "add", "from", "192.0.2.0/24", "table", "77")
	if s, err := a.Survey(); err != nil || s.Stale != 0 {
		t.Fatalf("stale before: %+v, %v", s, err)
	}
	check(t, a.DeleteStale())
	if got := found(t, a, l.Index, nil); !got.Equal(config) {
		t.Fatalf("rules in use were deleted: %+v", got)
	}
	check(t, n.DeleteLink(l))
	if s, err := a.Survey(); err != nil || s.Stale != len(config.Rules) {
		t.Fatalf("stale: %+v, %v; want %d", s, err, len(config.Rules))
	}
	check(t, a.DeleteStale())
	if s, err := a.Survey(); err != nil || s.Stale != 0 {
		t.Errorf("still stale: %+v, %v", s, err)
	}
	if !strings.Contains(nstest.Run(t, a.Ref(), "ip", "rule"), "lookup 77") {
		t.Error("a foreign rule was deleted")
	}
}

func TestManyAddressesInOneGo(t *testing.T) {
	n := newNamespaces(t)
	a, _, l, _ := pair(t, n)
	var want Config
	for i := range 1024 {
		want.Addresses = append(want.Addresses, prefix(fmt.Sprintf("10.%d.%d.1/32", i/256, i%256)))
	}
	check(t, a.ConfigureNew(l.Index, want))
	if got := found(t, a, l.Index, nil); !got.Equal(want) {
		t.Errorf("%d addresses, want %d", len(got.Addresses), len(want.Addresses))
	}
}

func TestIPv6IsSwitchedOnWhereItIsWanted(t *testing.T) {
	n := newNamespaces(t)
	a, _, l, _ := pair(t, n)
	nstest.Run(t, a.Ref(), "sysctl", "-w", "net.ipv6.conf.all.disable_ipv6=1")
	check(t, a.ConfigureNew(l.Index, config))
	if got := found(t, a, l.Index, nil); !got.Equal(config) {
		t.Errorf("found\n%+v, want\n%+v", got, config)
	}
}
