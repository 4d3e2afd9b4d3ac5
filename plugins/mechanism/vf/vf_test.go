package vf

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/reconcile"
	"go.patchbay.dev/plugins/sriov"
	"go.patchbay.dev/plugins/sriov/sriovtest"
	"go.patchbay.dev/vppapi"
	"go.patchbay.dev/vppapi/vppfake"
	"go.patchbay.dev/vppapi/vpptest"
)

// world is a VPP in memory with a card whose first virtual function it can drive.
type world struct {
	*testing.T
	dir     string
	machine *sriovtest.Machine
	card    *sriovtest.Card
	vpp     *vppfake.VPP
}

func newWorld(t *testing.T) *world {
	w := &world{T: t, dir: t.TempDir(), machine: sriovtest.New(t)}
	w.card = w.machine.Card(1, "ens1", 0, 2, 8)
	w.vpp = vpptest.Fake(t, vppfake.WithDevice(w.card.VF(0), true), vppfake.WithDevice(w.card.VF(1), false))
	return w
}

// agent is one run of the parts that make ports.
type agent struct {
	*world
	client    *vppapi.Client
	mechanism *Mechanism
	engine    *reconcile.Engine
	told      chan reconcile.Status
}

// noKernel has no interfaces: VPP in memory listens on none.
type noKernel struct{}

func (noKernel) Raise(string, int) error { return errors.New("there is no such interface") }

// start starts it with what is on record.
func (w *world) start(records ...*models.CrossConnect) *agent {
	w.Helper()
	a := &agent{world: w, told: make(chan reconcile.Status, 64)}
	vfs, err := sriov.New(sriov.Options{Config: sriov.Config{Sysfs: w.machine.Root, RunDir: filepath.Join(w.dir, "run"),
		Pools: []sriov.Pool{{Name: "radio", PF: "ens1"}}}, Kernel: w.machine, Write: w.machine.Write})
	if err != nil {
		w.Fatal(err)
	}
	vfs.Look()
	a.client = vppapi.New(vppapi.Options{Socket: w.vpp.Socket(), Name: "vf"})
	a.mechanism = New(Options{VPP: a.client, VFs: vfs, Kernel: noKernel{}, RunDir: filepath.Join(w.dir, "ports"), Room: vppapi.AnyRoom})
	a.engine = reconcile.New(reconcile.Options{OnStatus: func(s reconcile.Status) { a.told <- s }, MinBackoff: 10 * time.Millisecond})
	a.client.Watch(vppapi.Watcher{Up: func() {
		go func() { _ = a.engine.Resync(context.Background(), a.mechanism.Kinds()...) }() // as the agent; the test sees what becomes of it
	}})
	vfs.Register(a.engine)
	a.mechanism.Register(a.engine, func(string) {})
	a.client.Start(context.Background())
	for _, x := range records {
		a.apply(x)
	}
	if err := a.engine.Start(context.Background()); err != nil {
		w.Fatal(err)
	}
	return a
}

// stop ends it; what was made stays.
func (a *agent) stop() {
	a.engine.Stop()
	a.client.Stop()
}

func record(pci, driver string) *models.CrossConnect {
	p := map[string]string{sriov.ParamPCI: pci, Driver: driver}
	return &models.CrossConnect{Id: "c1", Payload: models.Ethernet, Client: &models.Attachment{Mechanism: &models.Mechanism{Type: "MEMIF"}},
		Endpoint: &models.Attachment{Mechanism: &models.Mechanism{Type: Type, Parameters: p}, Mac: "02:00:00:00:00:09"}}
}

func (a *agent) apply(x *models.CrossConnect) {
	a.Helper()
	_, values, err := a.mechanism.Attach(x, models.EndpointSide)
	if err != nil {
		a.Fatal(err)
	}
	a.engine.Apply(reconcile.Change{Group: x.Id, Values: values})
}

// await waits for a state and gives the reason.
func (a *agent) await(want reconcile.State) string {
	a.Helper()
	late := time.After(20 * time.Second)
	for {
		select {
		case s := <-a.told:
			if s.State == want {
				return s.Reason
			}
		case <-late:
			a.Fatalf("it is not %v", want)
		}
	}
}

func (w *world) driverOf(i int) string {
	to, _ := os.Readlink(filepath.Join(w.machine.Root, "bus/pci/devices", w.card.VF(i), "driver"))
	return filepath.Base(to)
}

const tag = "patchbay:c1:endpoint"

func TestAFunctionThatVPPDrives(t *testing.T) {
	w := newWorld(t)
	x := record(w.card.VF(0), Native)
	a := w.start()
	a.apply(x)
	a.await(reconcile.Applied)
	port, ok := a.client.Tagged(tag)
	if !ok || port.Name != "vf0000-01-10-0" || !port.AdminUp || w.driverOf(0) != sriov.DriverVFIO {
		t.Errorf("%+v, %v, driver %s", port, ok, w.driverOf(0))
	}
	if list, _ := w.machine.VFs("ens1"); list[0].Spoof || list[0].MAC.String() != "02:00:00:00:00:09" {
		t.Errorf("%+v", list[0])
	}
	if s := a.mechanism.Status(x, models.EndpointSide); !s.LinkUp || s.Interface != port.Name || s.Parameters[Driver] != Native {
		t.Errorf("%v", s)
	}
	a.stop()

	before := len(w.vpp.Mutations())
	a = w.start(x) // again: nothing is touched
	a.await(reconcile.Applied)
	if now := w.vpp.Mutations(); len(now) != before {
		t.Errorf("the next agent has VPP do %v", now[before:])
	}
	if err := w.vpp.Restart(); err != nil {
		t.Fatal(err)
	}
	for late := time.After(20 * time.Second); ; {
		if port, ok := a.client.Tagged(tag); ok && port.AdminUp && strings.Count(strings.Join(w.vpp.Mutations(), " "), "dev_attach") == 2 {
			break
		}
		select {
		case <-time.After(5 * time.Millisecond): // VPP in memory tells nobody
		case <-late:
			t.Fatal("VPP has come again, and has no port")
		}
	}
	a.engine.Apply(reconcile.Change{Group: "c1"})
	a.await(reconcile.Gone)
	if _, ok := a.client.Tagged(tag); ok || w.driverOf(0) != "igbvf" {
		t.Errorf("at the end VPP has it: %v; driver %s", ok, w.driverOf(0))
	}
	if list, _ := w.machine.VFs("ens1"); !list[0].Spoof || list[0].MAC.String() == "02:00:00:00:00:09" {
		t.Errorf("%+v", list[0])
	}
	a.stop()
}

func TestACardThatVPPHasNoDriverFor(t *testing.T) {
	w := newWorld(t)
	a := w.start()
	a.apply(record(w.card.VF(1), Native))
	if why := a.await(reconcile.Failed); !strings.Contains(why, "VPP has no driver for the device 0000:01:10.1; set the parameter driver to af_packet") {
		t.Error(why)
	}
	a.engine.Apply(reconcile.Change{Group: "c1"})
	a.await(reconcile.Gone)
	if w.driverOf(1) != "igbvf" {
		t.Errorf("driver %s", w.driverOf(1))
	}
	a.stop()
}

func TestWhatARecordCannotAsk(t *testing.T) {
	w := newWorld(t)
	a := w.start()
	defer a.stop()
	ip := record(w.card.VF(0), "")
	ip.Payload = models.IP
	if _, _, err := a.mechanism.Attach(ip, models.EndpointSide); err == nil || !strings.HasPrefix(err.Error(), "payload: is IP, and VF carries Ethernet") {
		t.Error(err)
	}
	for _, c := range []struct{ key, value, want string }{
		{Driver, "dpdk", `driver: "dpdk" is not known; use native or af_packet`},
		{"mode", "fast", "mode: is not a parameter of VF"},
		{sriov.ParamPool, "nowhere", `pool: "nowhere" is not known here; this node has radio`},
		{sriov.ParamPCI, "../../etc", `pciAddress: "../../etc" is not a PCI address`},
	} {
		if err := a.mechanism.Validate(map[string]string{c.key: c.value}); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s=%s: %v, not %q", c.key, c.value, err, c.want)
		}
	}
}
