package agent

import (
	"context"
	"fmt"
	"path/filepath"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/mechanism/kernel"
	"go.patchbay.dev/plugins/mechanism/noop"
	"go.patchbay.dev/plugins/mechanism/vf"
	"go.patchbay.dev/plugins/mechanism/vfio"
	"go.patchbay.dev/plugins/sriov"
	"go.patchbay.dev/vppapi"
)

// cgroupRoot and vfioDir are where the kernel's own are.
const (
	cgroupRoot = "/sys/fs/cgroup"
	vfioDir    = "/dev/vfio"
)

// withSRIOV adds what a node with pools of virtual functions offers; without, it adds nothing.
func (a *Agent) withSRIOV(mechanisms []mechanism) ([]mechanism, error) {
	c := a.cfg.SRIOV
	if len(c.Pools) == 0 {
		return mechanisms, nil
	}
	o := sriov.Options{Config: sriov.Config{Sysfs: c.Sysfs, RunDir: c.RunDir}, Kernel: a.linux, Log: a.log}
	for _, p := range c.Pools {
		o.Pools = append(o.Pools, sriov.Pool(p))
	}
	err := a.openTokens()
	if err != nil {
		return nil, err
	}
	if a.tokens != nil {
		o.Tokens = a.tokens
	}
	if a.sriov, err = sriov.New(o); err != nil {
		return nil, err
	}
	a.sriov.Register(a.engine)
	a.kernel.WithVFs(a.sriov)
	a.vfio = vfio.New(vfio.Options{VFs: a.sriov, Cgroups: cgroupRoot, Dev: vfioDir, RunDir: filepath.Join(c.RunDir, "grants"), Log: a.log})
	a.devices = &devices{a.sriov, a.vfio}
	mechanisms = append(mechanisms, a.vfio, noop.New())
	if a.vpp != nil {
		mechanisms = append(mechanisms, vf.New(vf.Options{VPP: a.vpp, VFs: a.sriov, Kernel: a.linux, RxMode: vppapi.ParseRxMode(a.cfg.VPP.RxMode),
			RunDir: filepath.Join(c.RunDir, "ports"), Room: a.budget.Interface, Log: a.log}))
	}
	return mechanisms, nil
}

// virtualFunctions looks for them while the agent runs.
func (a *Agent) virtualFunctions() part {
	if a.sriov == nil {
		return part{"sriov", func(context.Context) error { return nil }, func() {}}
	}
	return part{"sriov", func(ctx context.Context) error {
		a.done.Go(func() { a.followDevices(ctx) })
		return a.sriov.Start(ctx)
	}, a.sriov.Stop}
}

// followDevices has records checked again that were refused, when virtual functions come, go or are given back: the one that a
// record names may have been another's, or not there yet.
func (a *Agent) followDevices(ctx context.Context) {
	for {
		changed := a.sriov.Changed()
		var refused []string
		for _, e := range a.crossconnects.List() {
			if e.Status.GetState() == models.State_FAILED {
				refused = append(refused, e.ID)
			}
		}
		a.crossconnects.Again(refused...)
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// devices are the manager's Devices: virtual functions, and of VFIO the control group of who gets one.
type devices struct {
	*sriov.Plugin
	vfio *vfio.Mechanism
}

// Asks tells whether a mechanism is served by cards: NOOP and VFIO by no other, KERNEL where the client asks for it, or
// its network service has a pool.
func (d *devices) Asks(m *models.Mechanism, service string) bool {
	switch m.GetType() {
	case noop.Type, vfio.Type:
		return true
	case kernel.Type:
		return sriov.Asks(m.Parameters) || d.PoolOf(service) != ""
	}
	return false
}

// Settle gives one end of a record a virtual function if it asks for one.
func (d *devices) Settle(ctx context.Context, x *models.CrossConnect, side models.Side, pid int) (string, error) {
	m := x.At(side).Mechanism
	if m.Type == noop.Type || m.Type != vf.Type && !d.Asks(m, x.NetworkService) {
		return "", nil
	}
	reason, err := d.Plugin.Settle(ctx, x, side, pid)
	if err == nil && m.Type == vfio.Type && pid != 0 {
		m.Parameters[vfio.Cgroup], err = d.vfio.CgroupOf(pid, m.Parameters[vfio.Cgroup])
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", m.Type, err)
	}
	return reason, nil
}
