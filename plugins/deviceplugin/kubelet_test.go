package deviceplugin

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"go.patchbay.dev/plugins/sriov"
)

func TestKubeletIsToldOfHealthAndNUMA(t *testing.T) {
	w := newWorld(t, 4)
	w.card.owned(vf(3), "c9/client") // somebody else's, whom kubelet did not give it to
	w.kubelet.Start()
	w.start()
	w.kubelet.Await(radio, "3 healthy devices on their nodes", func(d map[string]*api.Device) bool {
		return len(d) == 4 && health(d, vf(3)) == api.Unhealthy && health(d, vf(0)) == api.Healthy &&
			d[vf(0)].Topology.Nodes[0].ID == 0 && d[vf(2)].Topology.Nodes[0].ID == 1
	})
	w.kubelet.Await(other, "a device of no known node", func(d map[string]*api.Device) bool {
		return len(d) == 1 && d["0000:5e:02.0"].Topology == nil
	})

	w.card.set(vf(0), func(d *sriov.Device) { d.Healthy = false })
	w.kubelet.AwaitHealthy(radio, 2)
	w.card.set(vf(0), func(d *sriov.Device) { d.Healthy = true })
	w.card.owned(vf(3), "")
	w.kubelet.AwaitHealthy(radio, 4)
	w.card.change(func() { w.card.devices = w.card.devices[1:] })
	w.kubelet.Await(radio, "one device less", func(d map[string]*api.Device) bool { return len(d) == 3 })

	w.plugin.Stop()
	w.kubelet.AwaitHealthy(radio, 0)
}

func TestWhatKubeletGaveStaysHealthyWhenItIsClaimed(t *testing.T) {
	w := newWorld(t, 2).start()
	w.kubelet.Start()
	w.kubelet.AwaitHealthy(radio, 2)
	g := w.admit("a", 1)
	w.card.owned(g.Devices[0], "c1/client")
	w.card.set(w.admit("b", 1).Devices[0], func(d *sriov.Device) { d.Healthy = false })
	w.kubelet.AwaitHealthy(radio, 1)
}

func TestKubeletComesLater(t *testing.T) {
	for _, c := range []struct {
		name  string
		there func(dir string) error
	}{
		{"nothing of it is there", func(string) error { return nil }},
		{"its directory is there", func(dir string) error { return os.MkdirAll(dir, 0o750) }},
		{"a socket is there that nobody answers", func(dir string) error {
			if err := os.MkdirAll(dir, 0o750); err != nil {
				return err
			}
			return deadSocket(filepath.Join(dir, "kubelet.sock"))
		}},
		{"a killed agent's sockets are there", func(dir string) error {
			if err := os.MkdirAll(dir, 0o750); err != nil {
				return err
			}
			return deadSocket(filepath.Join(dir, "patchbay-0.sock"))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 2)
			if err := c.there(w.dir); err != nil {
				t.Fatal(err)
			}
			w.start()
			w.kubelet.Start()
			w.kubelet.AwaitHealthy(radio, 2)
			w.kubelet.AwaitHealthy(other, 1)
		})
	}
}

// deadSocket is what a killed process leaves.
func deadSocket(path string) error {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false)
	return l.Close()
}

func TestKubeletRestarts(t *testing.T) {
	for _, c := range []struct {
		name  string
		again func(w *world)
	}{
		{"stopped", func(w *world) { w.kubelet.Stop() }},
		{"killed", func(w *world) { w.kubelet.Kill() }},
		{"twice at once", func(w *world) {
			w.kubelet.Kill()
			w.kubelet.Start()
			w.kubelet.Kill()
		}},
		{"with a new directory", func(w *world) {
			w.kubelet.Stop()
			checkpoint := filepath.Join(w.dir, "kubelet_internal_checkpoint")
			data, err := os.ReadFile(checkpoint)
			for again := true; again && err == nil; { // the plugin may be making a socket
				err = os.RemoveAll(filepath.Dir(w.dir))
				if again = errors.Is(err, syscall.ENOTEMPTY); again {
					err = nil
				}
			}
			if err == nil {
				err = os.MkdirAll(w.dir, 0o750)
			}
			if err == nil {
				err = os.WriteFile(checkpoint, data, 0o600)
			}
			if err != nil {
				w.t.Fatal(err)
			}
		}},
		{"while the plugin is away", func(w *world) {
			w.plugin.Stop()
			w.kubelet.Stop()
			defer w.start()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 3).start()
			w.kubelet.Start()
			w.kubelet.AwaitHealthy(radio, 3)
			a := w.admit("a", 1)
			c.again(w)
			w.kubelet.Start()
			w.kubelet.AwaitHealthy(radio, 3)
			w.kubelet.AwaitHealthy(other, 1)
			b := w.admit("b", 2)
			if slices.Contains(b.Devices, a.Devices[0]) {
				t.Errorf("%s was given twice", a.Devices[0])
			}
			if again := w.admit("a", 1); token(again) != token(a) {
				t.Error("a pod's environment has changed")
			}
			w.claims(token(a), a.Devices[0])
		})
	}
}

func TestThePluginRestarts(t *testing.T) {
	w := newWorld(t, 3).start()
	w.kubelet.Start()
	w.kubelet.AwaitHealthy(radio, 3)
	a := w.admit("a", 1)
	for range 3 {
		w.restart()
		w.kubelet.AwaitHealthy(radio, 3)
	}
	w.claims(token(a), a.Devices[0])
	if b := w.admit("b", 2); slices.Contains(b.Devices, a.Devices[0]) {
		t.Errorf("%s was given twice", a.Devices[0])
	}
	w.plugin.Stop()
	left, err := filepath.Glob(filepath.Join(w.dir, "patchbay-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestAKubeletThatNoLongerListensIsToldAgain(t *testing.T) {
	w := newWorld(t, 2).start()
	w.kubelet.Start()
	w.kubelet.AwaitHealthy(radio, 2)
	n := w.kubelet.Registrations(radio)
	w.kubelet.Hang(radio)
	w.kubelet.AwaitHealthy(radio, 2)
	if w.kubelet.Registrations(radio) != n+1 {
		t.Errorf("registered %d times, then %d times", n, w.kubelet.Registrations(radio))
	}
}

func TestPoolsThatKubeletWouldRefuse(t *testing.T) {
	for _, c := range []struct{ pool, want string }{
		{"Sriov.example.com/radio", `sriov.pools: name "Sriov.example.com/radio": kubelet takes a domain and a name, like sriov.example.com/radio`},
		{"sriov.example.com/radio/10G", "kubelet takes a domain"},
		{"sriov.example.com/", "kubelet takes a domain"},
		{"node.kubernetes.io/radio", "is Kubernetes's own"},
		{"sriov.example.com/" + strings.Repeat("r", 64), "kubelet takes a domain"},
	} {
		_, err := OpenTokens(filepath.Join(t.TempDir(), "tokens"), []string{c.pool})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.pool, err, c.want)
		}
	}
}

func TestAPoolWithoutADomainIsNotKubelets(t *testing.T) {
	tokens, err := OpenTokens(filepath.Join(t.TempDir(), "tokens"), []string{"mine", radio})
	if err != nil || tokens.Counts("mine") || !tokens.Counts(radio) {
		t.Error(tokens, err)
	}
}

func TestADirectoryThatIsNone(t *testing.T) {
	w := newWorld(t, 1)
	if err := os.WriteFile(filepath.Dir(w.dir), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.start()
	if err := w.plugin.settle(t.Context()); err == nil || !strings.Contains(err.Error(), w.dir) {
		t.Errorf("nothing is said of a file in its place: %v", err)
	}
	if err := os.Remove(filepath.Dir(w.dir)); err != nil {
		t.Fatal(err)
	}
	w.kubelet.Start()
	w.kubelet.AwaitHealthy(radio, 1)
}

// TestThatKubeletIsNotThereIsSaid: the directory may be another in the configuration.
func TestThatKubeletIsNotThereIsSaid(t *testing.T) {
	w := newWorld(t, 1)
	w.start()
	w.plugin.Stop() // what follows is not to meet with it
	for _, missing := range []string{w.dir, filepath.Join(w.dir, "kubelet.sock")} {
		if err := w.plugin.settle(t.Context()); !errors.Is(err, errAway) || !strings.Contains(err.Error(), missing) {
			t.Errorf("%v, not that there is no %s", err, missing)
		}
		if err := os.MkdirAll(w.dir, 0o750); err != nil {
			t.Fatal(err)
		}
	}
}

func TestADirectoryThatIsTooFarDown(t *testing.T) {
	tokens, err := OpenTokens(filepath.Join(t.TempDir(), "tokens"), []string{radio})
	if err != nil {
		t.Fatal(err)
	}
	_, err = New(Options{Dir: "/" + strings.Repeat("d", 100), Tokens: tokens})
	if err == nil || !strings.Contains(err.Error(), "sriov.kubelet: ") || !strings.Contains(err.Error(), "at most 107") {
		t.Error(err)
	}
}
