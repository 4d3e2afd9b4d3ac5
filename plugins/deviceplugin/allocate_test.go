package deviceplugin

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"go.patchbay.dev/plugins/deviceplugin/kubelettest"
	"go.patchbay.dev/plugins/sriov"
)

func TestAContainerFindsItsDevicesInItsEnvironment(t *testing.T) {
	w := newWorld(t, 4).start()
	w.kubelet.Start()
	w.kubelet.AwaitHealthy(radio, 4)
	g := w.admit("a", 2)
	all := strings.Split(g.Env["NSM_SRIOV_TOKENS_sriov.example.com/radio"], ",")
	if len(g.Env) != 3 || len(all) != 2 || all[0] == all[1] {
		t.Fatalf("environment %v", g.Env)
	}
	for i, id := range g.Devices {
		name := "radio_" + strings.NewReplacer(":", "_", ".", "_").Replace(id)
		if g.Env[name] != all[i] {
			t.Errorf("%s is %q, not token %d of %v", name, g.Env[name], i, all)
		}
		w.claims(all[i], id)
		// What Network Service Mesh's clients take for a token.
		if !strings.HasPrefix(all[i], "sriov-") || len(all[i]) != 42 {
			t.Errorf("token %q", all[i])
		}
	}
}

func TestWhatCannotBeAllocated(t *testing.T) {
	w := newWorld(t, 3).start()
	w.card.set(vf(1), func(d *sriov.Device) { d.Healthy, d.Why = false, "its physical function is gone" })
	w.card.owned(vf(2), "c9/client")
	w.alive["c9/client"] = true
	s := w.plugin.servers[0]
	for _, c := range []struct {
		ids  []string
		want string
	}{
		{[]string{"0000:ff:00.0"}, `device "0000:ff:00.0" is not in pool sriov.example.com/radio`},
		{[]string{"0000:5e:02.0"}, "is not in pool"},
		{[]string{"../../etc/passwd"}, "is not in pool"},
		{[]string{vf(0), vf(0)}, "is asked for twice"},
		{[]string{vf(0), vf(1)}, "device 0000:3b:02.1 is not healthy: its physical function is gone"},
		{[]string{vf(2)}, "device 0000:3b:02.2 is in use by connection c9/client: its pod is there"},
	} {
		_, err := s.Allocate(t.Context(), &api.AllocateRequest{ContainerRequests: []*api.ContainerAllocateRequest{{DevicesIds: c.ids}}})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %q", c.ids, err, c.want)
		}
	}
	if _, err := os.Stat(w.file); err == nil {
		t.Error("a token was issued")
	}
}

func TestADeviceThatCannotBeNotedIsNotGiven(t *testing.T) {
	w := newWorld(t, 1).start()
	if err := os.MkdirAll(w.file, 0o700); err != nil { // a directory is in the way
		t.Fatal(err)
	}
	w.kubelet.Start()
	w.kubelet.AwaitHealthy(radio, 1)
	_, err := w.kubelet.Admit("a", radio, kubelettest.Ask{Container: "main", Count: 1})
	if err == nil || !strings.Contains(err.Error(), w.file) {
		t.Errorf("admitted, or without naming %s: %v", w.file, err)
	}
	if !w.tokens.Given(vf(0)).IsZero() {
		t.Error("the device counts as given away")
	}
	left, err := filepath.Glob(w.file + ".*")
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestAPodThatWasKilledBeforeItConnected(t *testing.T) {
	w := newWorld(t, 1).start()
	w.kubelet.Start()
	w.kubelet.AwaitHealthy(radio, 1)
	a := w.admit("a", 1)
	w.kubelet.End("a")
	w.restart()
	w.kubelet.AwaitHealthy(radio, 1)
	b := w.admit("b", 1)
	if token(a) == token(b) {
		t.Error("two pods have the same token")
	}
	w.claims(token(b), vf(0))
}

func TestAPodThatWasKilledWhileConnectedLeavesItsDeviceToTheNext(t *testing.T) {
	w := newWorld(t, 1).start()
	w.kubelet.Start()
	w.kubelet.AwaitHealthy(radio, 1)
	a := w.admit("a", 1)
	w.claims(token(a), vf(0))
	w.card.owned(vf(0), "c1/client")
	w.alive["c1/client"] = true
	w.kubelet.End("a")
	if _, err := w.kubelet.Admit("b", radio, kubelettest.Ask{Container: "main", Count: 1}); err == nil ||
		!strings.Contains(err.Error(), "in use by connection c1/client: its pod is there") {
		t.Errorf("kubelet takes a device from a pod that is there: %v", err)
	}
	w.alive["c1/client"] = false
	b := w.admit("b", 1)
	if d := w.card.Devices()[0]; d.Owner != "" {
		t.Errorf("the device still belongs to %s", d.Owner)
	}
	w.claims(token(b), vf(0))
	if _, _, err := w.tokens.Device(token(a)); err == nil {
		t.Error("the dead pod's token is still good")
	}
}

func TestContainersOfOnePodThatShareADevice(t *testing.T) {
	w := newWorld(t, 2).start()
	w.kubelet.Start()
	w.kubelet.AwaitHealthy(radio, 2)
	grants, err := w.kubelet.Admit("a", radio,
		kubelettest.Ask{Container: "init", Init: true, Count: 1}, kubelettest.Ask{Container: "main", Count: 1})
	if err != nil {
		t.Fatal(err)
	}
	id := grants["init"].Devices[0]
	if !slices.Equal(grants["main"].Devices, []string{id}) {
		t.Fatalf("the containers have %v", grants)
	}
	w.claims(token(grants["init"]), id)
	w.claims(token(grants["main"]), id)
	w.restart()
	w.kubelet.AwaitHealthy(radio, 2)
	w.claims(token(grants["init"]), id)
}

func TestPreferredDevices(t *testing.T) {
	w := newWorld(t, 8)
	w.card.owned(vf(0), "c1/client") // node 0 has three that are free, node 1 four
	s := &server{Options: Options{Devices: w.card}, pool: radio}
	all := []string{vf(7), vf(6), vf(5), vf(4), vf(3), vf(2), vf(1), vf(0)}
	for _, c := range []struct {
		name            string
		available, must []string
		n               int
		want            []string
	}{
		{"the node with fewest left", all, nil, 1, []string{vf(1)}},
		{"all on one node", all, nil, 3, []string{vf(1), vf(2), vf(3)}},
		{"all on the other", all, nil, 4, []string{vf(4), vf(5), vf(6), vf(7)}},
		{"more than a node has", all, nil, 6, []string{vf(4), vf(5), vf(6), vf(7), vf(1), vf(2)}},
		{"one in use only at last", all, nil, 8, []string{vf(4), vf(5), vf(6), vf(7), vf(1), vf(2), vf(3), vf(0)}},
		{"with those that must be", all, []string{vf(5)}, 2, []string{vf(5), vf(4)}},
		{"only those that must be", all, []string{vf(5)}, 1, []string{vf(5)}},
		{"fewer than are asked for", all[:1], nil, 3, []string{vf(7)}},
		{"of what is not in the pool", []string{"0000:5e:02.0", "x"}, nil, 1, nil},
	} {
		out, err := s.GetPreferredAllocation(context.Background(), &api.PreferredAllocationRequest{ContainerRequests: []*api.ContainerPreferredAllocationRequest{
			{AvailableDeviceIDs: c.available, MustIncludeDeviceIDs: c.must, AllocationSize: int32(c.n)}}})
		if err != nil {
			t.Fatal(err)
		}
		if got := out.ContainerResponses[0].DeviceIDs; !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestVariablesHaveNamesThatShellsTake(t *testing.T) {
	env := environment("a.example.com/10g-eth.x", "10G", []string{"0000:3b:02.1", "0000:3b:02.2"}, []string{"t", "u"})
	want := map[string]string{"NSM_SRIOV_TOKENS_a.example.com/10g-eth.x": "t,u", "NSM_SRIOV_TOKENS_a.example.com/10G": "t,u",
		"_10g_eth_x_0000_3b_02_1": "t", "_10g_eth_x_0000_3b_02_2": "u"}
	if !maps.Equal(env, want) {
		t.Errorf("%v, want %v", env, want)
	}
}
