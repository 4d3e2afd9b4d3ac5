package kernel

import (
	"slices"
	"strings"
	"testing"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/reconcile"
	"go.patchbay.dev/plugins/sriov"
	"go.patchbay.dev/plugins/sriov/sriovtest"
)

// What moves an interface is tested on a card's driver, see tests/vm/cards.
func TestAWorkloadWithAVirtualFunctionIsRendered(t *testing.T) {
	machine := sriovtest.New(t)
	card := machine.Card(1, "ens1", 0, 2, 8)
	vfs, err := sriov.New(sriov.Options{Config: sriov.Config{Sysfs: machine.Root, RunDir: t.TempDir(), Pools: []sriov.Pool{{Name: "radio", PF: "ens1", VLAN: 7}}},
		Kernel: machine, Write: machine.Write})
	if err != nil {
		t.Fatal(err)
	}
	vfs.Look()
	m := New(nil, nil)
	parameters := map[string]string{NetNS: "blue", Name: "radio0", sriov.ParamPCI: card.VF(1)}
	x := &models.CrossConnect{Id: "c1", Mtu: 1400,
		Client:   &models.Attachment{Mechanism: &models.Mechanism{Type: Type, Parameters: parameters}, Addresses: []string{"10.60.0.1/24"}, Mac: "02:00:00:00:00:01"},
		Endpoint: &models.Attachment{Mechanism: &models.Mechanism{Type: "NOOP"}, Addresses: []string{"10.61.0.1/32"}}}
	if err := m.Validate(parameters); err == nil || !strings.Contains(err.Error(), "this node has no pools of virtual functions; configure sriov.pools") {
		t.Error(err)
	}
	m.WithVFs(vfs)
	if err := m.Validate(parameters); err != nil || !m.Passes(parameters) || m.Passes(map[string]string{NetNS: "blue"}) {
		t.Error(err)
	}
	values, err := m.Pass(x, models.ClientSide)
	if err != nil {
		t.Fatal(err)
	}
	want := []reconcile.Value{
		{Key: "vf/" + card.VF(1), Spec: sriov.VF{Tag: "patchbay:c1:client", MAC: linux.MAC{2, 0, 0, 0, 0, 1}, VLAN: 7, Spoof: true}},
		{Key: "vfnet/c1/client", Spec: VFNet{PCI: card.VF(1), NetNS: "/run/netns/blue", Name: "radio0", MTU: 1400}},
	}
	if !slices.Equal(values[:2], want) {
		t.Errorf("%+v", values)
	}
	config, _ := values[2].Spec.(IPConfig)
	if values[2].Key != "ipconfig/c1/client" || config.Maker != "vfnet/c1/client" || len(config.Addresses) != 1 || len(config.Routes) != 1 || len(config.Neighbors) != 0 {
		t.Errorf("%+v", config)
	}
	needs := vfDescriptor{m}.Dependencies(values[1].Key, want[1].Spec.(VFNet))
	if !slices.Equal(needs, []string{"netns//run/netns/blue", "vf/" + card.VF(1)}) {
		t.Errorf("%q", needs)
	}
}
