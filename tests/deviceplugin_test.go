package tests

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.patchbay.dev/plugins/deviceplugin/kubelettest"
	"go.patchbay.dev/plugins/fdpass"
	"go.patchbay.dev/plugins/sriov/sriovtest"
	"go.patchbay.dev/tests/lab"
)

const radio = "sriov.example.com/radio"

// cluster is a node of Kubernetes: an agent, a kubelet that is not started yet, and a card
// that is there in sysfs only, so that what a claim gives cannot be made.
type cluster struct {
	*lab.Agent
	kubelet *kubelettest.Kubelet
	card    *sriovtest.Card
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	m := sriovtest.New(t)
	dir, err := os.MkdirTemp("", "pb-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	plugins := filepath.Join(dir, "device-plugins")
	c := &cluster{card: m.Card(1, "ens1", 1, 4, 8)}
	c.Agent = lab.StartAgent(t, lab.With("sriov.sysfs", m.Root), lab.With("sriov.run_dir", filepath.Join(dir, "run")),
		lab.With("sriov.kubelet", plugins), lab.With("sriov.tokens", filepath.Join(dir, "tokens")),
		lab.With("sriov.pools", "[{name: "+radio+", pf: ens1}, {name: own, pf: ens2}]"))
	c.kubelet = kubelettest.New(t, plugins)
	return c
}

// admit has kubelet admit a pod and gives its device and the token for it.
func (c *cluster) admit(t *testing.T, pod string) (id, token string) {
	t.Helper()
	grants, err := c.kubelet.Admit(pod, radio, kubelettest.Ask{Container: "main", Count: 1})
	if err != nil {
		t.Fatal(err)
	}
	return grants["main"].Devices[0], grants["main"].Env["NSM_SRIOV_TOKENS_"+radio]
}

func TestKubeletCountsAndAConnectionClaims(t *testing.T) {
	c := newCluster(t)
	c.kubelet.Start()
	c.kubelet.AwaitHealthy(radio, 4)
	id, token := c.admit(t, "a")
	if out := c.Patchbay("get", "devices"); strings.Count(out, "FREE") != 4 || !strings.Contains(out, id+"   "+radio+"   ens1   0    1      FREE") {
		t.Errorf("get devices:\n%s", out)
	}
	if out := c.Patchbay("describe", "device", id); !strings.Contains(out, "Given to a pod:") || !strings.Contains(out, "index 0") {
		t.Errorf("describe device:\n%s", out)
	}
	got := scrape(c.Agent)
	for name, want := range map[string]float64{
		`patchbay_devices{pool="` + radio + `"}`: 4, `patchbay_devices_unhealthy{pool="` + radio + `"}`: 0, `patchbay_devices{pool="own"}`: 0,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s is %v (%v), want %v", name, v, ok, want)
		}
	}

	ns := lab.NewNamespace(t)
	agents := fmt.Sprintf("--net=/proc/%d/ns/net", c.Pid()) // nothing is made for it, so it may be anywhere
	serve := ns.Start(t, "nsenter", agents, lab.Binary(t), "--agent", "unix://"+c.Socket, "serve", "radio", "--mechanism", "NOOP")
	serve.Await(t, "serving radio")
	if out, err := c.TryPatchbay("explain", "--pool", "own"); err == nil || !strings.Contains(out, "Chosen: nothing") || !strings.Contains(out, "pool own: no card on this node") {
		t.Errorf("explain --pool own: %v: %s", err, out)
	}
	if out := c.Patchbay("explain", "--pool", radio); !strings.Contains(out, "kubelet chooses; a connection claims") {
		t.Errorf("explain --pool %s: %s", radio, out)
	}
	client := lab.NewClient(t, c.Dial())
	request := func(parameter, value string) string {
		in := lab.NewRequest(t, "r1", "radio", ns, "radio0")
		in.MechanismPreferences[0].Parameters[parameter] = value
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		f := ns.Open(t)
		defer f.Close()
		if _, err := client.Request(ctx, in, fdpass.Send(f)); err != nil {
			return err.Error()
		}
		return "connected"
	}
	for _, r := range []struct{ name, parameter, value, want string }{
		{"a token of path characters", "tokenID", "../../../../../etc/shadow", "the token is none of this node's device plugin (25 bytes)"},
		{"one of a megabyte", "tokenID", strings.Repeat("x", 1<<20), "ResourceExhausted"},
		{"one that nobody has", "tokenID", "sriov-00000000-0000-4000-8000-000000000000", "the token stands for no device of this node"},
		{"no token, but a pool that kubelet counts", "pool", radio, "are given away by kubelet; pass on the token"},
		{"the right one", "tokenID", token, id},
	} {
		if out := request(r.parameter, r.value); !strings.Contains(out, r.want) || len(out) > 1000 {
			t.Errorf("%s: %.1000s, want %q", r.name, out, r.want)
		}
	}
}

func TestWhatKubeletGaveOutlivesAgentAndKubelet(t *testing.T) {
	c := newCluster(t)
	c.kubelet.Start()
	c.kubelet.AwaitHealthy(radio, 4)
	first, _ := c.admit(t, "a")
	c.Kill()
	c.kubelet.AwaitHealthy(radio, 0)
	c.Start()
	c.kubelet.AwaitHealthy(radio, 4)
	second, _ := c.admit(t, "b")
	c.kubelet.Kill()
	c.kubelet.Start()
	c.kubelet.AwaitHealthy(radio, 4)
	third, _ := c.admit(t, "c")
	if ids := []string{first, second, third}; len(slices.Compact(slices.Sorted(slices.Values(ids)))) != 3 {
		t.Errorf("given away: %v", ids)
	}
	if out := c.Patchbay("get", "devices", "-o", "json"); strings.Count(out, `"given"`) != 3 {
		t.Errorf("not 3 are given away:\n%s", out)
	}
}

func TestWhatAnOrchestratorTakesKubeletDoesNotGive(t *testing.T) {
	c := newCluster(t)
	ns := lab.NewNamespace(t)
	c.kubelet.Start()
	c.kubelet.AwaitHealthy(radio, 4)
	given, _ := c.admit(t, "a")
	for id, pci := range map[string]string{"c1": given, "c2": c.card.VF(3)} {
		file := filepath.Join(c.Dir, id+".yaml")
		write(t, file, "{kind: CrossConnect, id: "+id+", payload: ETHERNET, endpoint: {mechanism: {type: NOOP}},\n"+
			" client: {mechanism: {type: KERNEL, parameters: {netns: "+ns.Path+", name: "+id+", pciAddress: '"+pci+"'}}}}\n")
		c.Patchbay("apply", "-f", file)
	}
	c.kubelet.AwaitHealthy(radio, 3) // kubelet knows of the one that it gave away
	c.kubelet.End("a")
	_, err := c.kubelet.Admit("b", radio, kubelettest.Ask{Container: "main", Count: 3})
	if err == nil || !strings.Contains(err.Error(), given+" is in use by connection c1/client: it was written to etcd; delete it with: patchbay delete crossconnect c1") {
		t.Errorf("kubelet gives away what a record has: %v", err)
	}
	c.Patchbay("delete", "crossconnect", "c1")
	c.Patchbay("delete", "crossconnect", "c2")
	c.kubelet.AwaitHealthy(radio, 4)
}
