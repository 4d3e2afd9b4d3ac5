package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// installation is where a VPP is.
type installation struct {
	binary, vppctl string
	libraries      string // empty: where the system looks
}

// findVPP looks in $VPP_PREFIX, then /opt/vpp, then PATH.
func findVPP() (installation, error) {
	for _, prefix := range []string{os.Getenv("VPP_PREFIX"), "/opt/vpp"} {
		i := installation{filepath.Join(prefix, "bin", "vpp"), filepath.Join(prefix, "bin", "vppctl"), filepath.Join(prefix, "lib", "x86_64-linux-gnu")}
		if _, err := os.Stat(i.binary); prefix != "" && err == nil {
			return i, nil
		}
	}
	binary, err1 := exec.LookPath("vpp")
	ctl, err2 := exec.LookPath("vppctl")
	if err := errors.Join(err1, err2); err != nil {
		return installation{}, errors.New("demo: VPP is neither in $VPP_PREFIX nor in /opt/vpp nor in PATH; docs/vpp.md says how to install it, or leave DATAPLANE out")
	}
	return installation{binary: binary, vppctl: ctl}, nil
}

// vppConfig is a startup.conf for a machine without hugepages and network cards of VPP's.
const vppConfig = `unix { nodaemon cli-listen DIR/cli.sock log DIR/vpp.log }
api-segment { prefix NAME }
socksvr { socket-name DIR/api.sock }
statseg { socket-name DIR/stats.sock }
buffers { page-size 4k buffers-per-numa 16384 }
memory { main-heap-page-size 4k }
plugins { PATH plugin dpdk_plugin.so { disable } }
`

// vppAgentConfig is what the agent's configuration has besides: the demo's two workloads
// have kernel interfaces, which would be linked without VPP unless it is asked for.
const vppAgentConfig = `dataplane: vpp
vpp:  { api_socket: DIR/api.sock, stats_socket: DIR/stats.sock, run_dir: DIR/vpp }
mechanisms: { path: forwarder }
`

// startVPP starts a VPP of the demo's own.
func (d *demonstration) startVPP(ctx context.Context) error {
	d.title("A VPP of the demo's own, without hugepages and network cards.")
	path := ""
	if d.vpp.libraries != "" {
		path = "path " + filepath.Join(d.vpp.libraries, "vpp_plugins")
		d.env = append(d.env, "LD_LIBRARY_PATH="+d.vpp.libraries)
	}
	config := strings.NewReplacer("DIR", d.dir, "NAME", filepath.Base(d.dir), "PATH", path).Replace(vppConfig)
	file := filepath.Join(d.dir, "startup.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return err
	}
	cmd := exec.Command(d.vpp.binary, "-c", file)
	cmd.Env, cmd.Stdout, cmd.Stderr = d.env, d.logFile, d.logFile
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	fmt.Fprintf(d.out, "   $ %s -c %s\n", d.vpp.binary, file)
	if err := cmd.Start(); err != nil {
		return err
	}
	p := &process{name: "vpp", cmd: cmd, ended: make(chan struct{})}
	go func() { p.err = cmd.Wait(); close(p.ended) }()
	d.undo = append(d.undo, p.end)
	ready := make(chan struct{})
	go func() {
		for ctx.Err() == nil && !p.hasEnded() {
			if c, err := net.Dial("unix", filepath.Join(d.dir, "cli.sock")); err == nil {
				c.Close()
				close(ready)
				return
			}
			time.Sleep(10 * time.Millisecond) // nothing tells when a socket is listened on
		}
	}()
	return p.await(ctx, ready)
}

// vppctl shows what VPP says.
func (d *demonstration) vppctl(ctx context.Context, command ...string) error {
	return d.show(ctx, "vppctl", d.vpp.vppctl, append([]string{"-s", filepath.Join(d.dir, "cli.sock")}, command...))
}
