package cards

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/mechanism/kernel"
	"go.patchbay.dev/plugins/reconcile"
	"go.patchbay.dev/plugins/sriov"
	"go.patchbay.dev/tests/lab"
)

// rounds are measured of each way, in turn.
const rounds = 30

// A function is claimed, set, moved, named and addressed, and all of that undone: by the agent's own parts, and by
// the same requests to the kernel with nothing around them. An emulated machine is slow at both; what counts is the ratio.
func TestSpeed(t *testing.T) {
	w := start(t) // which has the functions created
	w.Stop()
	ns := lab.NewNamespace(t)
	d := newDirect(t, ns)
	a := newAgentParts(t, w.kernel)
	var bare, ours [2][]time.Duration // handing over, taking back
	for i := range rounds + 3 {
		for _, way := range []struct {
			run   func(t *testing.T) (over, back time.Duration)
			times *[2][]time.Duration
		}{{d.round, &bare}, {func(t *testing.T) (over, back time.Duration) { return a.round(t, ns) }, &ours}} {
			over, back := way.run(t)
			if i >= 3 { // warm
				way.times[0], way.times[1] = append(way.times[0], over), append(way.times[1], back)
			}
		}
	}
	for i, what := range []string{"claim and move", "take back"} {
		b, o := median(bare[i]), median(ours[i])
		t.Logf("FIGURE %s: %v, bare %v, ratio %.2f (medians of %d)", what, o, b, float64(o)/float64(b), rounds)
	}
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}

// direct asks the kernel for the same, and nothing else.
type direct struct {
	kernel *linux.Namespaces
	ns     string
	pci    string
	index  int // of the function
}

func newDirect(t *testing.T, ns *lab.Namespace) *direct {
	t.Helper()
	k, err := linux.New(linux.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	return &direct{k, ns.Path, vf(t, 3), 3}
}

func (d *direct) round(t *testing.T) (over, back time.Duration) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	// What sysfs says of the card's functions, as a claim must know it.
	for i := range 6 {
		pci := vf(t, i)
		for _, file := range []string{"numa_node", "driver_override"} {
			_, err := os.ReadFile(filepath.Join(devices, pci, file))
			must(err)
		}
		for _, link := range []string{"driver", "iommu_group", "physfn"} {
			_, err := os.Readlink(filepath.Join(devices, pci, link))
			must(err)
		}
		_, err := os.ReadDir(filepath.Join(devices, pci, "net"))
		must(err)
	}
	all, err := d.kernel.VFs(pf)
	must(err)
	was := all[d.index]
	want := was
	want.VLAN, want.MaxRate = 7, 100
	must(d.kernel.SetVF(pf, was, want))
	own, err := d.kernel.Open(linux.OwnRef)
	must(err)
	to, err := d.kernel.Open(d.ns)
	must(err)
	home, err := own.LinkOf(d.pci)
	must(err)
	must(own.Move(home.Index, to, linux.Change{Name: "nsm0", Alias: "patchbay:c1:client", MTU: 1500, Up: true}))
	l, err := to.LinkOf(d.pci)
	must(err)
	must(to.ConfigureNew(l.Index, linux.Config{Addresses: []netip.Prefix{netip.MustParsePrefix("10.60.0.1/24")}}))
	over = time.Since(began)

	began = time.Now()
	must(to.Home(l.Index, home.Name))
	l, err = own.LinkOf(d.pci)
	must(err)
	must(d.kernel.Settle(l, home.Name, home.MTU, home.Up))
	must(d.kernel.SetVF(pf, want, was))
	must(own.Close())
	must(to.Close())
	return over, time.Since(began)
}

// agentParts are those of the agent that do it, without etcd and gRPC.
type agentParts struct {
	engine *reconcile.Engine
	vfs    *sriov.Plugin
	kernel *kernel.Mechanism
	told   chan reconcile.Status
}

func newAgentParts(t *testing.T, k *linux.Namespaces) *agentParts {
	t.Helper()
	a := &agentParts{told: make(chan reconcile.Status, 64)}
	a.engine = reconcile.New(reconcile.Options{OnStatus: func(s reconcile.Status) { a.told <- s }})
	var err error
	if a.vfs, err = sriov.New(sriov.Options{Config: sriov.Config{Sysfs: "/sys", RunDir: t.TempDir(),
		Pools: []sriov.Pool{{Name: "blue", PF: pf, VFs: "3", VLAN: 7, Rate: 100}}}, Kernel: k}); err != nil {
		t.Fatal(err)
	}
	a.vfs.Register(a.engine)
	a.kernel = kernel.New(k, nil).WithVFs(a.vfs)
	a.kernel.Register(a.engine, func(string) {})
	if err := k.Start(); err != nil {
		t.Fatal(err)
	}
	a.vfs.Look()
	if err := a.engine.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.engine.Stop)
	return a
}

func (a *agentParts) round(t *testing.T, ns *lab.Namespace) (over, back time.Duration) {
	t.Helper()
	x := &models.CrossConnect{Id: "c1", Client: &models.Attachment{Addresses: []string{"10.60.0.1/24"},
		Mechanism: &models.Mechanism{Type: "KERNEL", Parameters: map[string]string{"netns": ns.Path, "name": "nsm0", "pool": "blue"}}}}
	began := time.Now()
	if _, err := a.vfs.Settle(t.Context(), x, models.ClientSide, 0); err != nil {
		t.Fatal(err)
	}
	values, err := a.kernel.Pass(x, models.ClientSide)
	if err != nil {
		t.Fatal(err)
	}
	a.engine.Apply(reconcile.Change{Group: "c1", Values: values})
	a.await(t, reconcile.Applied)
	over = time.Since(began)
	began = time.Now()
	a.engine.Apply(reconcile.Change{Group: "c1"})
	a.await(t, reconcile.Gone)
	back = time.Since(began)
	a.vfs.Release("c1")
	return over, back
}

func (a *agentParts) await(t *testing.T, want reconcile.State) {
	t.Helper()
	late := time.After(time.Minute)
	for {
		select {
		case s := <-a.told:
			if s.State == want {
				return
			}
		case <-late:
			t.Fatalf("it is not %v", want)
		}
	}
}
