package sriov

import (
	"slices"
	"strings"
	"testing"

	"go.patchbay.dev/plugins/sriov/sriovtest"
)

func TestPoolsThatCannotBeAreRefusedByTheirKey(t *testing.T) {
	for _, c := range []struct {
		pools []Pool
		want  string
	}{
		{[]Pool{{Name: "/radio", PF: "ens1"}}, `sriov.pools[0].name: "/radio" is not a resource name; write domain/name`},
		{[]Pool{{Name: "example.com/../x", PF: "ens1"}}, "sriov.pools[0].name"},
		{[]Pool{{Name: "example.com/radio"}}, "sriov.pools[0].name alone would take every card"},
		{[]Pool{radio, {Name: "example.com/two", PCI: "3b:00.0"}}, "sriov.pools[1].pci"},
		{[]Pool{radio, radio}, `sriov.pools[1].name: "example.com/radio" is there twice`},
		{[]Pool{{Name: "example.com/a", Vendor: "0x8086"}}, "sriov.pools[0].vendor"},
		{[]Pool{{Name: "example.com/a", Device: "82576"}}, "sriov.pools[0].device"},
		{[]Pool{{Name: "example.com/a", PF: "ens1", VFs: "3-1"}}, `sriov.pools[0].vfs: "3-1"`},
		{[]Pool{{Name: "example.com/a", PF: "ens1", VFs: "all"}}, "write it like 0-3,5"},
		{[]Pool{{Name: "example.com/a", PF: "ens1", VLAN: 4095}}, "sriov.pools[0].vlan: 4095"},
		{[]Pool{{Name: "example.com/a", PF: "ens1", Capability: "10G/full duplex"}}, `sriov.pools[0].capability: "10G/full duplex"`},
		{[]Pool{{Name: "example.com/a", PF: "ens1", Rate: -1}}, "sriov.pools[0].rate"},
		{[]Pool{{Name: "example.com/a", PF: "ens1", Count: 5000}}, "sriov.pools[0].count"},
		{[]Pool{radio}, "sriov.sysfs: stat /does/not/exist: no such file or directory; name the folder"},
	} {
		_, err := New(Options{Config: Config{Sysfs: "/does/not/exist", Pools: c.pools}})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, not %q", c.pools, err, c.want)
		}
	}
}

func TestPoolsTakeWhatTheyMatch(t *testing.T) {
	m := sriovtest.New(t)
	a := m.Card(1, "ens1", 0, 4, 8)
	m.Card(2, "ens2", 1, 2, 8)
	p := start(t, m, Pool{Name: "example.com/some", PF: "ens1", VFs: "0-1,3"}, Pool{Name: "example.com/rest", Vendor: "8086", Device: "10c9"},
		Pool{Name: "example.com/none", PF: "ens9"})
	want := []string{"example.com/some 0000:01:10.0", "example.com/some 0000:01:10.1", "example.com/some 0000:01:10.3",
		"example.com/rest 0000:01:10.2", "example.com/rest 0000:02:10.0", "example.com/rest 0000:02:10.1"}
	if got := ids(p.Devices()); !slices.Equal(got, want) {
		t.Errorf("devices %q, not %q", got, want)
	}
	d := p.Devices()[4]
	if d.PF != "ens2" || d.VF != 0 || d.NUMA != 1 || d.Driver != "igbvf" || d.Group != 200 || !d.Healthy || d.Owner != "" {
		t.Errorf("%+v", d)
	}
	for pool, why := range map[string]string{"example.com/some": "", "example.com/none": "no card on this node matches it",
		"example.com/rest": "pool example.com/some has " + a.VF(0) + " already"} {
		if got := p.problems[pool]; !strings.HasPrefix(got, why) || (why == "") != (got == "") && pool != "example.com/rest" {
			t.Errorf("%s: %q, not %q", pool, got, why)
		}
	}
}

func TestVirtualFunctionsAreCreatedWhereThereAreNone(t *testing.T) {
	m := sriovtest.New(t)
	m.Card(1, "ens1", 0, 0, 8)
	m.Card(2, "ens2", 0, 2, 8)
	m.Card(3, "ens3", 0, 0, 2)
	p := start(t, m, Pool{Name: "example.com/a", PF: "ens1", Count: 4}, Pool{Name: "example.com/b", PF: "ens2", Count: 4}, Pool{Name: "example.com/c", PF: "ens3", Count: 4})
	if n := len(p.Devices()); n != 6 {
		t.Errorf("%d devices: %q", n, ids(p.Devices()))
	}
	if why := p.problems["example.com/b"]; !strings.Contains(why, "0000:02:00.0 has 2 already, and their number changes by way of none only") {
		t.Error(why)
	}
	if why := p.problems["example.com/c"]; !strings.Contains(why, "has at most 2") {
		t.Error(why)
	}
	if !slices.Equal(m.Writes, []string{"bus/pci/devices/0000:01:00.0/sriov_numvfs=4"}) {
		t.Errorf("written: %q", m.Writes)
	}
}
