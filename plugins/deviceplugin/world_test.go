package deviceplugin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"go.patchbay.dev/plugins/deviceplugin/kubelettest"
	"go.patchbay.dev/plugins/sriov"
)

const (
	radio = "sriov.example.com/radio"
	other = "sriov.example.com/other"
)

// card stands in for plugins/sriov.
type card struct {
	mu      sync.Mutex
	devices []sriov.Device
	changed chan struct{}
}

func (c *card) Devices() []sriov.Device {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.devices)
}

func (c *card) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

func (c *card) Pool(name string) (sriov.Pool, bool) { return sriov.Pool{Name: name}, true }

func (c *card) change(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
	close(c.changed)
	c.changed = make(chan struct{})
}

// set changes one device.
func (c *card) set(id string, f func(*sriov.Device)) {
	c.change(func() {
		f(&c.devices[slices.IndexFunc(c.devices, func(d sriov.Device) bool { return d.ID == id })])
	})
}

func (c *card) owned(id, owner string) { c.set(id, func(d *sriov.Device) { d.Owner = owner }) }

func vf(i int) string { return fmt.Sprintf("0000:3b:%02x.%d", 2+i/8, i%8) }

// world is a node with a card, and a kubelet that is not running yet.
type world struct {
	t       testing.TB
	dir     string // of device plugins
	file    string // of tokens
	card    *card
	kubelet *kubelettest.Kubelet
	plugin  *Plugin
	tokens  *Tokens
	alive   map[string]bool // connections whose pod is there
}

// newWorld has n devices of radio, half of them on NUMA node 1, and one of the other pool.
func newWorld(t testing.TB, n int) *world {
	t.Helper()
	root, err := os.MkdirTemp("", "pb") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	w := &world{t: t, dir: filepath.Join(root, "kubelet", "device-plugins"), file: filepath.Join(root, "state", "tokens.json"),
		card: &card{changed: make(chan struct{})}, alive: map[string]bool{}}
	for i := range n {
		w.card.devices = append(w.card.devices, sriov.Device{ID: vf(i), Pool: radio, PF: "ens1f0", VF: i, NUMA: 2 * i / n, Healthy: true})
	}
	w.card.devices = append(w.card.devices, sriov.Device{ID: "0000:5e:02.0", Pool: other, NUMA: -1, Healthy: true})
	w.kubelet = kubelettest.New(t, w.dir)
	return w
}

// start starts the plugin, as an agent that starts does.
func (w *world) start() *world {
	w.t.Helper()
	var err error
	if w.tokens, err = OpenTokens(w.file, []string{radio, other}); err != nil {
		w.t.Fatal(err)
	}
	w.plugin, err = New(Options{Dir: w.dir, Devices: w.card, Tokens: w.tokens, Evict: w.evict, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.plugin.Start(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(w.plugin.Stop)
	return w
}

// restart ends the plugin and starts it with what it has on disk.
func (w *world) restart() {
	w.t.Helper()
	w.plugin.Stop()
	w.kubelet.AwaitHealthy(radio, 0)
	w.start()
}

func (w *world) evict(_ context.Context, owner string) error {
	if w.alive[owner] {
		return errors.New("its pod is there")
	}
	go w.card.change(func() {
		for i := range w.card.devices {
			if w.card.devices[i].Owner == owner {
				w.card.devices[i].Owner = ""
			}
		}
	})
	return nil
}

// admit has kubelet admit a pod with one container.
func (w *world) admit(pod string, n int) kubelettest.Grant {
	w.t.Helper()
	grants, err := w.kubelet.Admit(pod, radio, kubelettest.Ask{Container: "main", Count: n})
	if err != nil {
		w.t.Fatal(err)
	}
	return grants["main"]
}

// token is that of a container's only device.
func token(g kubelettest.Grant) string { return g.Env[tokensPrefix+g.Resource] }

// claims has a token looked up as a connection that claims by it does.
func (w *world) claims(token, want string) {
	w.t.Helper()
	pool, id, err := w.tokens.Device(token)
	if err != nil || pool != radio || id != want {
		w.t.Errorf("the token stands for %q of %q, %v; want %s", id, pool, err, want)
	}
}

func health(devices map[string]*api.Device, id string) string {
	if d := devices[id]; d != nil {
		return d.Health
	}
	return "absent"
}
