package sriov

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/reconcile"
	"go.patchbay.dev/plugins/sriov/sriovtest"
)

const tag = "patchbay:c1:client"

// all is what is found of the functions that are away from home.
func all(t *testing.T, d descriptor) []reconcile.Found[VF] {
	t.Helper()
	found, err := d.Retrieve(context.Background(), func(func(string, VF) bool) {})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestAFunctionIsMadeReadyAndPutBackAsItWas(t *testing.T) {
	for _, driver := range []string{"", DriverVFIO} {
		m := sriovtest.New(t)
		card := m.Card(1, "ens1", 0, 2, 8)
		p := start(t, m, radio)
		d, key, ctx := descriptor{p}, VFKey(card.VF(1)), context.Background()
		before, _ := m.VFs("ens1")
		spec := VF{Tag: tag, Driver: driver, MAC: linux.MAC{2, 2, 2, 2, 2, 2}, VLAN: 7, Rate: 100, Spoof: true, Trust: true}
		for range 2 { // a repeated create is no error, and touches nothing
			sets, writes := m.Sets, len(m.Writes)
			again := len(all(t, d)) == 1
			if err := d.Create(ctx, key, spec); err != nil {
				t.Fatal(err)
			}
			if again && (m.Sets != sets || len(m.Writes) != writes) {
				t.Errorf("repeated, it writes %q", m.Writes[writes:])
			}
		}
		now, _ := m.VFs("ens1")
		want := linux.VF{Index: 1, MAC: spec.MAC, VLAN: 7, MaxRate: 100, Spoof: true, CanSpoof: true, Trust: true}
		if now[1] != want || now[0] != before[0] {
			t.Errorf("%+v", now)
		}
		found := all(t, d)
		if len(found) != 1 || found[0].Key != key || !d.Equal(found[0].Spec, spec) {
			t.Errorf("found %+v", found)
		}
		for range 2 {
			if err := d.Delete(ctx, key, spec); err != nil {
				t.Fatal(err)
			}
		}
		after, _ := m.VFs("ens1")
		if !slices.Equal(before, after) || p.sys.target(card.VF(1), "driver") != "igbvf" || len(all(t, d)) != 0 {
			t.Errorf("driver %q: %+v", p.sys.target(card.VF(1), "driver"), after)
		}
	}
}

// An agent dies after any step; what it left is completed, or put back.
func TestAnAgentThatDiesAtAnyStepIsFollowed(t *testing.T) {
	died := errors.New("died")
	for step := 0; ; step++ {
		m := sriovtest.New(t)
		card := m.Card(1, "ens1", 0, 1, 8)
		p := start(t, m, radio)
		left := step
		p.sys.write = func(file, value string) error {
			if left--; left < 0 {
				return died
			}
			return m.Write(file, value)
		}
		before, _ := m.VFs("ens1")
		key := VFKey(card.VF(0))
		spec := VF{Tag: tag, Driver: DriverVFIO, MAC: linux.MAC{2, 2, 2, 2, 2, 2}, Spoof: true}
		failed := descriptor{p}.Create(context.Background(), key, spec)
		next := start(t, m, radio)
		next.homes = p.homes
		d := descriptor{next}
		found := all(t, d)
		if len(found) != 1 {
			t.Fatalf("step %d: found %+v", step, found)
		}
		if step%2 == 0 { // the record is there
			if err := d.Create(context.Background(), key, spec); err != nil {
				t.Errorf("step %d: %v", step, err)
			}
		}
		if err := d.Delete(context.Background(), key, found[0].Spec); err != nil {
			t.Errorf("step %d: %v", step, err)
		}
		if after, _ := m.VFs("ens1"); !slices.Equal(before, after) || next.sys.target(card.VF(0), "driver") != "igbvf" {
			t.Errorf("step %d: driver %q, %+v", step, next.sys.target(card.VF(0), "driver"), after)
		}
		if failed == nil {
			return
		}
	}
}

func TestADriverThatWillNotTakeIt(t *testing.T) {
	m := sriovtest.New(t)
	card := m.Card(1, "ens1", 0, 1, 8)
	p := start(t, m, radio)
	d, key, ctx := descriptor{p}, VFKey(card.VF(0)), context.Background()
	spec := VF{Tag: tag, Driver: DriverVFIO, Spoof: true}
	m.Refuses = DriverVFIO
	if err := d.Create(ctx, key, spec); err == nil || !strings.Contains(err.Error(), "driver vfio-pci does not take 0000:01:10.0, none has it") {
		t.Error(err)
	}
	if err := d.Delete(ctx, key, spec); err != nil || p.sys.target(card.VF(0), "driver") != "igbvf" {
		t.Errorf("%v, driver %q", err, p.sys.target(card.VF(0), "driver"))
	}
	m.Refuses = ""
	if err := d.Create(ctx, key, spec); err != nil {
		t.Error(err)
	}
}

func TestAFunctionOfAnotherIsLeftAlone(t *testing.T) {
	m := sriovtest.New(t)
	card := m.Card(1, "ens1", 0, 1, 8)
	p := start(t, m, radio)
	d, key, ctx := descriptor{p}, VFKey(card.VF(0)), context.Background()
	spec := VF{Tag: tag, Spoof: true, VLAN: 3}
	if err := d.Create(ctx, key, spec); err != nil {
		t.Fatal(err)
	}
	other := VF{Tag: "patchbay:c2:client"}
	if err := d.Create(ctx, key, other); !errors.Is(err, ErrInUse) {
		t.Error(err)
	}
	if err := d.Delete(ctx, key, other); err != nil {
		t.Error(err)
	}
	if now, _ := m.VFs("ens1"); now[0].VLAN != 3 {
		t.Errorf("%+v", now)
	}
	if _, err := p.Home(card.VF(0), linux.Tag{ID: "c2", Side: linux.Client}); !errors.Is(err, ErrInUse) {
		t.Error(err)
	}
}

func TestAFunctionThatIsGoneTakesItsNoteAlong(t *testing.T) {
	m := sriovtest.New(t)
	card := m.Card(1, "ens1", 0, 2, 8)
	p := start(t, m, radio)
	var heard []string
	p.facts.observe = func(key string, present bool) {
		heard = append(heard, key+map[bool]string{true: " comes", false: " goes"}[present])
	}
	p.facts.Watch(KindPCI + "/" + card.VF(1))
	d, key, ctx := descriptor{p}, VFKey(card.VF(1)), context.Background()
	p.Recorded("c1", record("c1", card.VF(1), ""))
	if err := d.Create(ctx, key, VF{Tag: tag, VLAN: 3, Spoof: true}); err != nil {
		t.Fatal(err)
	}
	m.Create(card, 1)
	p.Look()
	if got := p.Devices(); len(got) != 2 || got[1].Healthy || got[1].Owner != "c1/client" || !strings.HasPrefix(got[1].Why, "it is gone") {
		t.Errorf("%+v", got)
	}
	if err := d.Delete(ctx, key, VF{Tag: tag, VLAN: 3, Spoof: true}); err != nil || len(all(t, d)) != 0 {
		t.Errorf("%v, %+v", err, all(t, d))
	}
	m.Create(card, 2)
	p.Look()
	m.Create(card, 2) // between two looks
	p.Look()
	want := []string{"pci/0000:01:10.1 goes", "pci/0000:01:10.1 comes", "pci/0000:01:10.1 goes", "pci/0000:01:10.1 comes"}
	if !slices.Equal(heard, want) {
		t.Errorf("heard %q", heard)
	}
}

func TestWhatIsSetFromOutsideIsMended(t *testing.T) {
	m := sriovtest.New(t)
	card := m.Card(1, "ens1", 0, 1, 8)
	p := start(t, m, radio)
	var lost []string
	p.lost = func(key string) { lost = append(lost, key) }
	p.Recorded("c1", record("c1", card.VF(0), ""))
	if err := (descriptor{p}).Create(context.Background(), VFKey(card.VF(0)), VF{Tag: tag, VLAN: 3, Spoof: true}); err != nil {
		t.Fatal(err)
	}
	p.Look()
	now, _ := m.VFs("ens1")
	other := now[0]
	other.VLAN = 4
	if err := m.SetVF("ens1", now[0], other); err != nil {
		t.Fatal(err)
	}
	p.Look()
	if !slices.Equal(lost, []string{VFKey(card.VF(0))}) {
		t.Errorf("lost %q", lost)
	}
}

func TestRecordsThatNameAFunctionWrongly(t *testing.T) {
	m := sriovtest.New(t)
	a, b := m.Card(1, "ens1", 0, 2, 8), m.Card(2, "ens2", 0, 2, 8)
	p := start(t, m, radio, Pool{Name: "example.com/blue", PF: "ens2", VFs: "0", VLAN: 5}, Pool{Name: "example.com/green", PF: "ens2", VFs: "1"})
	p.Recorded("c9", record("c9", a.VF(1), ""))
	for _, c := range []struct {
		x    *models.CrossConnect
		want string
	}{
		{record("c1", a.VF(0), ""), ""},
		{record("c1", "", ""), "client.mechanism.parameters.pciAddress: is missing; a record names the virtual function itself"},
		{record("c1", "0000:09:00.0", ""), "client.mechanism.parameters.pciAddress: 0000:09:00.0 is in no pool of this node"},
		{record("c1", a.VF(1), ""), `client.mechanism.parameters.pciAddress: 0000:01:10.1 is in use by the client of connection "c9"; name another`},
		{record("c1", a.VF(0), b.VF(0)), "endpoint.mechanism.parameters.pciAddress: 0000:02:10.0 is in VLAN 5 by its pool, 0000:01:10.0 in 0"},
		{record("c1", a.VF(0), b.VF(1)), "is on another card than 0000:01:10.0, and in another pool"},
	} {
		_, err := p.Render(c.x, models.ClientSide, "")
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, not %q", c.x, err, c.want)
		}
	}
}
