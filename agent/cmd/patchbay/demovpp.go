package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"go.patchbay.dev/agent/lab"
)

// vppAgentConfig is what the agent's configuration has besides: the demo's two workloads
// have kernel interfaces, which would be linked without VPP unless it is asked for.
const vppAgentConfig = `dataplane: vpp
vpp:  { api_socket: DIR/vpp/api.sock, stats_socket: DIR/vpp/stats.sock, run_dir: DIR/run }
mechanisms: { path: forwarder }
`

// startVPP starts a VPP of the demo's own.
func (d *demonstration) startVPP(ctx context.Context, where *lab.Installation) error {
	dir := filepath.Join(d.dir, "vpp")
	d.title("A VPP of the demo's own, without hugepages and network cards; its startup.conf is in %s.", dir)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	d.vpp = lab.NewVPP(where, dir, "")
	d.undo = append(d.undo, d.vpp.Stop)
	if err := d.vpp.Start(ctx, d.launcher, d.logFile.Name()); err != nil {
		return fmt.Errorf("VPP: %w", err)
	}
	return nil
}

// vppctl shows what VPP says.
func (d *demonstration) vppctl(ctx context.Context, command ...string) error {
	return d.showAs(ctx, "", append([]string{"vppctl"}, command...), d.vpp.Ctl(command...))
}
