// Package cards tests virtual functions of a real card's driver: QEMU emulates the card, see tests/vm.
package cards

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/tests/lab"
	"go.patchbay.dev/tests/report"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && roles[os.Args[1]] != nil {
		if err := roles[os.Args[1]](os.Args[2:]); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// Of QEMU's two cards, one is the node's and the other is at the far end of the wire.
const (
	pf  = "eth0"
	far = "eth1"
)

// pools have all virtual functions that the card can have: three in the plain network, two in VLAN 7, and one that
// may do more.
const pools = `[{name: example.com/radio, pf: eth0, vfs: 0-2, count: 6, services: [radio]},
 {name: example.com/blue, pf: eth0, vfs: 3-4, vlan: 7, rate: 100}, {name: example.com/trusted, pf: eth0, vfs: "5", trust: true, nospoof: true}]`

// world is a node with its agent, and what is at the far end of the wire.
type world struct {
	*lab.Agent
	wire   *lab.Namespace
	kernel *linux.Namespaces
	notes  string            // where the agent notes how functions were
	home   map[string]string // how each virtual function is when nobody has it, by PCI address
}

const devices = "/sys/bus/pci/devices"

// start starts it. Where there is no such card, the test is skipped.
func start(t *testing.T, options ...lab.Option) *world {
	t.Helper()
	card, err := os.ReadFile("/sys/class/net/" + pf + "/device/device")
	if err != nil || strings.TrimSpace(string(card)) != "0x10c9" {
		report.Skip(t, "a card with virtual functions", "make test-vm has QEMU's emulated igb (Intel 82576)")
	}
	report.Part(t, "SR-IOV card", "igb (Intel 82576), emulated by QEMU")
	driver, _ := os.Readlink("/sys/class/net/" + pf + "/device/driver")
	t.Logf("card %s: vendor 8086, device 10c9, driver %s", pciOf(t, pf), filepath.Base(driver))
	w := &world{wire: lab.NewNamespace(t)}
	lab.Run(t, "ip", "link", "set", pf, "up")
	lab.Run(t, "ip", "addr", "replace", "10.60.0.10/24", "dev", pf)
	lab.Run(t, "ip", "link", "set", far, "netns", w.wire.Name)
	w.wire.Run(t, "ip", "addr", "add", "10.60.0.100/24", "dev", far)
	w.wire.Run(t, "ip", "link", "set", far, "up")
	if w.kernel, err = linux.New(linux.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.kernel.Close() })
	w.notes = filepath.Join(t.TempDir(), "sriov")
	w.Agent = lab.StartAgent(t, append(options, lab.With("sriov.pools", inOneLine(pools)), lab.With("sriov.run_dir", w.notes))...)
	w.home = w.virtual(t)
	if len(w.home) != 6 {
		t.Fatalf("%d virtual functions: %v", len(w.home), w.home)
	}
	return w
}

// inOneLine is how the lab writes a configuration.
func inOneLine(s string) string { return strings.ReplaceAll(s, "\n", "") }

func pciOf(t *testing.T, name string) string {
	t.Helper()
	to, err := os.Readlink("/sys/class/net/" + name + "/device")
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Base(to)
}

// card is the PCI address of the node's. It is kept, since the test takes it out.
var card string

// vf is the PCI address of one of its virtual functions.
func vf(t *testing.T, i int) string {
	t.Helper()
	if card == "" {
		card = pciOf(t, pf)
	}
	to, err := os.Readlink(fmt.Sprintf("%s/%s/virtfn%d", devices, card, i))
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Base(to)
}

// virtual is all that can be seen of the virtual functions, by PCI address.
func (w *world) virtual(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	list, err := w.kernel.VFs(pf)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range list {
		pci := vf(t, v.Index)
		driver, _ := os.Readlink(filepath.Join(devices, pci, "driver"))
		override, _ := os.ReadFile(filepath.Join(devices, pci, "driver_override"))
		names, _ := filepath.Glob(filepath.Join(devices, pci, "net/*"))
		about := fmt.Sprintf("%+v driver %s override %s", v, filepath.Base(driver), strings.TrimSpace(string(override)))
		for _, n := range names {
			l, err := w.kernel.OwnLink(filepath.Base(n))
			about += fmt.Sprintf(" interface %s mac %v mtu %d up %v alias %q, %v", l.Name, l.MAC, l.MTU, l.Up, l.Alias, err)
		}
		all[pci] = about
	}
	return all
}

// atHome waits until every virtual function is as it was at the start.
func (w *world) atHome(t *testing.T) {
	t.Helper()
	lab.Eventually(t, 30*time.Second, "all virtual functions to be as they were", func() error {
		for pci, now := range w.virtual(t) {
			if now != w.home[pci] {
				return fmt.Errorf("%s is\n%s\nand was\n%s", pci, now, w.home[pci])
			}
		}
		return nil
	})
}

// end is one end of a cross-connect.
type end struct {
	Mechanism struct {
		Type       string            `json:"type"`
		Parameters map[string]string `json:"parameters,omitempty"`
	} `json:"mechanism"`
	Addresses []string `json:"addresses,omitempty"`
	Mac       string   `json:"mac,omitempty"`
}

// in is a workload with a virtual function and an address.
func in(ns *lab.Namespace, pci, address string) (e end) {
	e.Mechanism.Type, e.Addresses = "KERNEL", []string{address}
	e.Mechanism.Parameters = map[string]string{"netns": ns.Path, "name": "nsm0", "pciAddress": pci}
	return e
}

// noop is an end on the wire.
func noop() (e end) {
	e.Mechanism.Type = "NOOP"
	return e
}

// apply writes a record.
func (w *world) apply(t *testing.T, id string, client, endpoint end) {
	t.Helper()
	if out, err := w.tryApply(t, id, client, endpoint); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func (w *world) tryApply(t *testing.T, id string, client, endpoint end) (string, error) {
	t.Helper()
	return w.TryPatchbay("apply", "-f", w.file(t, id, client, endpoint))
}

// file is a record as a file.
func (w *world) file(t *testing.T, id string, client, endpoint end) string {
	t.Helper()
	data, err := json.Marshal(map[string]any{"kind": "CrossConnect", "id": id, "payload": "ETHERNET", "client": client, "endpoint": endpoint})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "record.json")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

type side struct {
	Interface  string
	LinkUp     bool
	Parameters map[string]string
}

type status struct {
	State, Reason    string
	Client, Endpoint side
}

// await waits until a cross-connect is in one of these states.
func (w *world) await(t *testing.T, id string, states ...string) (s status) {
	t.Helper()
	lab.Eventually(t, 15*time.Second, id+" to be "+strings.Join(states, " or "), func() error {
		out, err := w.TryPatchbay("get", "crossconnects", id, "-o", "json")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		var got struct{ Status status }
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		if s = got.Status; !slices.Contains(states, s.State) {
			return fmt.Errorf("it is %+v", s)
		}
		return nil
	})
	return s
}

// reaches pings from a namespace, patiently: an emulated link takes its time.
func reaches(t *testing.T, from *lab.Namespace, to ...string) {
	t.Helper()
	for _, address := range to {
		out := from.Run(t, "ping", "-q", "-c", "3", "-i", "0.2", "-w", "20", address)
		lines := strings.Split(strings.TrimSpace(out), "\n")
		t.Logf("%s: %s", address, lines[len(lines)-1])
	}
}

// apart sees that nothing answers.
func apart(t *testing.T, from *lab.Namespace, to ...string) {
	t.Helper()
	for _, address := range to {
		if out, err := from.Try("ping", "-q", "-c", "2", "-i", "0.2", "-W", "1", address); err == nil {
			t.Errorf("%s answers:\n%s", address, out)
		}
	}
}

// set writes a file of sysfs.
func set(t *testing.T, file, value string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(value), 0o200); err != nil {
		t.Fatal(err)
	}
}
