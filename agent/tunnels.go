package agent

import (
	"context"
	"net/netip"
	"path/filepath"
	"time"

	"go.patchbay.dev/plugins/bfd"
	"go.patchbay.dev/plugins/mechanism/geneve"
	"go.patchbay.dev/plugins/mechanism/gre"
	"go.patchbay.dev/plugins/mechanism/ipip"
	"go.patchbay.dev/plugins/mechanism/vxlan"
	"go.patchbay.dev/plugins/mechanism/wireguard"
	"go.patchbay.dev/plugins/tunnel"
)

// withTunnels adds the tunnels to other nodes, on both dataplanes: a new one is a line here.
// Their order is the node's preference. Then come the bridges, whose mesh is the first of them.
func (a *Agent) withTunnels(mechanisms []mechanism) []mechanism {
	o := tunnel.Options{Node: a.cfg.Node.Name, Addresses: a.tunnelAddresses(), MTU: a.cfg.Node.MTU, VPP: a.vpp, RunDir: a.cfg.VPP.RunDir, Log: a.log}
	if a.cfg.Dataplane != "vpp" {
		o.Kernel = a.linux
	}
	if a.budget != nil {
		o.Budget = a.budget.Interface
	}
	a.tunnels = tunnel.New(o)
	if a.cfg.Tunnels.Detect > 0 {
		a.paths = bfd.New(bfd.Options{Detect: time.Duration(a.cfg.Tunnels.Detect) * time.Second, Addresses: o.Addresses, VPP: a.vpp, OnVPP: a.tunnels.OnVPP, Log: a.log})
	}
	mesh := vxlan.New(a.tunnels)
	mechanisms = append(mechanisms,
		mesh,
		geneve.New(a.tunnels),
		gre.New(a.tunnels),
		ipip.New(a.tunnels),
		wireguard.New(a.tunnels, filepath.Join(filepath.Dir(a.cfg.Etcd.DataDir), "wireguard.secret")),
	)
	return a.withBridges(mechanisms, mesh)
}

// tunnelPaths watches what the tunnels go through.
func (a *Agent) tunnelPaths() part {
	if a.paths == nil {
		return part{"bfd", func(context.Context) error { return nil }, func() {}}
	}
	return part{"bfd", a.paths.Start, a.paths.Stop}
}

func (a *Agent) tunnelAddresses() (all []netip.Addr) {
	for _, s := range []string{a.cfg.Node.Address, a.cfg.Node.Address6} {
		if ip, err := netip.ParseAddr(s); err == nil {
			all = append(all, ip)
		}
	}
	return all
}

// lookAgain is how often the node looks for its tunnel addresses: neither VPP nor, for what
// it could load, the kernel tells of a change.
const lookAgain = 2 * time.Second

// lookForAddresses keeps what the node offers up to date while the agent runs.
func (a *Agent) lookForAddresses(ctx context.Context) {
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		a.tunnels.Look(ctx)
		a.bridges.look()
		a.publishOffer()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
