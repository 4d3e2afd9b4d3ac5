package cards

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.patchbay.dev/plugins/deviceplugin/kubelettest"
	"go.patchbay.dev/tests/lab"
)

const radio = "example.com/radio"

// connect is a pod's container that connects with what kubelet has put into its environment.
func (w *world) connect(t *testing.T, ns *lab.Namespace, id string, env map[string]string, pool ...string) *lab.Process {
	t.Helper()
	for name, value := range env {
		if err := os.Setenv(name, value); err != nil {
			t.Fatal(err)
		}
		defer os.Unsetenv(name)
	}
	command := []string{lab.Binary(t), "--agent", "unix://" + w.Socket, "connect", "radio", "--id", id, "--netns", ns.Path, "--interface", "radio0", "--timeout", "1m"}
	return ns.Start(t, append(command, pool...)...)
}

// Pods whose virtual functions kubelet counts, from the first to one that is killed.
func TestPods(t *testing.T) {
	dir := t.TempDir()
	w := start(t, lab.With("sriov.kubelet", filepath.Join(dir, "plugins")), lab.With("sriov.tokens", filepath.Join(dir, "tokens")))
	kubelet := kubelettest.New(t, filepath.Join(dir, "plugins"))
	kubelet.Start()
	kubelet.AwaitHealthy(radio, 3)
	wire := w.wire.Start(t, lab.Binary(t), "--agent", "unix://"+w.Socket, "serve", "radio", "--mechanism", "NOOP")
	wire.Await(t, "serving radio")
	admit := func(pod string, n int) (kubelettest.Grant, error) {
		grants, err := kubelet.Admit(pod, radio, kubelettest.Ask{Container: "main", Count: n})
		return grants["main"], err
	}
	// card sees that the interface is the virtual function, and that it carries.
	card := func(ns *lab.Namespace, pci, address string) {
		t.Helper()
		if about := ns.Run(t, "cat", "/sys/class/net/radio0/device/uevent"); !strings.Contains(about, "PCI_SLOT_NAME="+pci+"\n") {
			t.Errorf("kubelet gave %s, the pod has\n%s", pci, about)
		}
		ns.Run(t, "ip", "addr", "replace", address, "dev", "radio0")
		reaches(t, ns, "10.60.0.100")
	}

	a, err := admit("a", 1)
	if err != nil {
		t.Fatal(err)
	}
	nsA, nsB := lab.NewNamespace(t), lab.NewNamespace(t)
	podA := w.connect(t, nsA, "pod-a", a.Env, "--pool", radio)
	podA.Await(t, "connected pod-a")
	w.await(t, "pod-a", "UP")
	card(nsA, a.Devices[0], "10.60.0.30/24")

	t.Run("without a token, or with another pod's", func(t *testing.T) {
		w.connect(t, nsB, "thief", nil, "--pool", radio).Await(t, "are given away by kubelet; pass on the token")
		w.connect(t, nsB, "thief", a.Env, "--pool", radio).Await(t, `is in use by the client of connection "pod-a"`)
	})
	t.Run("agent and kubelet are killed and started again", func(t *testing.T) {
		w.Kill()
		kubelet.Kill()
		kubelet.Start()
		w.Start()
		w.WaitReady()
		kubelet.AwaitHealthy(radio, 3)
		w.await(t, "pod-a", "UP")
		reaches(t, nsA, "10.60.0.100")
	})
	var b kubelettest.Grant
	var podB *lab.Process
	whole := t // which the pod lives through
	t.Run("a pod that was killed leaves its device to the next", func(t *testing.T) {
		podA.Kill()
		nsA.Delete(t)
		w.await(t, "pod-a", "PENDING")
		kubelet.End("a")
		if b, err = admit("b", 3); err != nil {
			t.Fatal(err)
		}
		if out, err := w.TryPatchbay("get", "crossconnects", "pod-a"); err == nil {
			t.Errorf("the dead pod's connection is there: %s", out)
		}
		// By the variable of that device alone.
		for name, value := range b.Env {
			if strings.HasSuffix(name, strings.NewReplacer(":", "_", ".", "_").Replace(a.Devices[0])) {
				podB = w.connect(whole, nsB, "pod-b", nil, "--token", value)
				podB.Await(t, "connected pod-b")
				card(nsB, a.Devices[0], "10.60.0.31/24")
				return
			}
		}
		t.Fatalf("%s is not in %v", a.Devices[0], b.Env)
	})
	t.Run("a kubelet that has forgotten a pod", func(t *testing.T) {
		kubelet.End("b")
		if c, err := admit("c", 3); err == nil || !strings.Contains(err.Error(), "in use by connection pod-b/client: its network namespace is there") {
			t.Errorf("it gives %v, %v", c.Devices, err)
		}
		// The others it may give away.
		if c, err := admit("c", 2); err != nil || slices.Contains(c.Devices, a.Devices[0]) {
			t.Errorf("it gives %v, %v", c.Devices, err)
		}
	})
	podB.Interrupt(t)
	w.atHome(t)
	if left, err := os.ReadFile(filepath.Join(dir, "tokens")); err != nil || strings.Contains(string(left), a.Env["NSM_SRIOV_TOKENS_"+radio]) {
		t.Errorf("the file of tokens has one, %v", err)
	}
}
