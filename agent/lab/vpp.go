package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Installation is where a VPP is.
type Installation struct {
	binary, vppctl string
	libraries      string // empty: where the system looks
}

// FindVPP looks in $VPP_PREFIX, then /opt/vpp, then PATH.
func FindVPP() (*Installation, error) {
	for _, prefix := range []string{os.Getenv("VPP_PREFIX"), "/opt/vpp"} {
		i := &Installation{filepath.Join(prefix, "bin", "vpp"), filepath.Join(prefix, "bin", "vppctl"), filepath.Join(prefix, "lib", "x86_64-linux-gnu")}
		if _, err := os.Stat(i.binary); prefix != "" && err == nil {
			return i, nil
		}
	}
	binary, err1 := exec.LookPath("vpp")
	ctl, err2 := exec.LookPath("vppctl")
	if err := errors.Join(err1, err2); err != nil {
		return nil, errors.New("VPP is neither in $VPP_PREFIX nor in /opt/vpp nor in PATH; docs/vpp.md says how to install it")
	}
	return &Installation{binary: binary, vppctl: ctl}, nil
}

// VPP is a VPP in a folder of its own.
type VPP struct {
	Dir     string
	netns   string   // empty: this process's
	without []string // plugins that it does not load
	where   *Installation
	process *Process
}

// NewVPP describes a VPP that is not started yet.
func NewVPP(where *Installation, dir, netns string) *VPP {
	return &VPP{Dir: dir, netns: netns, where: where}
}

// APISocket, StatsSocket and CLISocket are where it answers.
func (v *VPP) APISocket() string   { return filepath.Join(v.Dir, "api.sock") }
func (v *VPP) StatsSocket() string { return filepath.Join(v.Dir, "stats.sock") }
func (v *VPP) CLISocket() string   { return filepath.Join(v.Dir, "cli.sock") }

// startup is a startup.conf for a machine without hugepages and network cards of VPP's. It
// sleeps between its rounds: several share a machine, and each polls.
const startup = `unix { nodaemon nobanner runtime-dir DIR cli-listen DIR/cli.sock log DIR/vpp.log poll-sleep-usec 100 }
api-segment { prefix NAME }
socksvr { socket-name DIR/api.sock }
statseg { socket-name DIR/stats.sock page-size 4k }
buffers { page-size 4k buffers-per-numa 16384 }
memory { main-heap-size 512M main-heap-page-size 4k }
plugins { PATH plugin dpdk_plugin.so { disable } WITHOUT }
`

// Start runs it, waits until it answers, and has it do commands of its command line.
func (v *VPP) Start(ctx context.Context, l *Launcher, log string, commands ...string) error {
	path := ""
	if v.where.libraries != "" {
		path = "path " + filepath.Join(v.where.libraries, "vpp_plugins")
	}
	var without strings.Builder
	for _, plugin := range v.without {
		fmt.Fprintf(&without, "plugin %s { disable } ", plugin)
	}
	name := strings.ReplaceAll(strings.Trim(v.Dir, "/"), "/", "-") // of its shared memory: one for all of the machine
	text := strings.NewReplacer("DIR", v.Dir, "NAME", name, "PATH", path, "WITHOUT", without.String()).Replace(startup)
	file := filepath.Join(v.Dir, "startup.conf")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	out, err := appended(log)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := within(v.netns, v.where.binary, "-c", file)
	cmd.Env, cmd.Stdout, cmd.Stderr = v.environ(), out, out
	if v.process, err = l.Start("vpp", cmd); err != nil {
		return err
	}
	for _, socket := range []string{v.APISocket(), v.CLISocket()} {
		if err := poll(ctx, v.process, func() error {
			c, err := net.Dial("unix", socket)
			if err != nil {
				return err
			}
			return c.Close()
		}); err != nil {
			return err
		}
	}
	return v.do(commands)
}

// do has it do commands, at once: an interface of af_packet at which packets arrive before it
// polls can stop VPP. They say nothing unless they fail, but for names of what they create.
func (v *VPP) do(commands []string) error {
	if len(commands) == 0 {
		return nil
	}
	file := filepath.Join(v.Dir, "commands")
	if err := os.WriteFile(file, []byte(strings.Join(commands, "\n")+"\n"), 0o600); err != nil {
		return err
	}
	out, err := v.Ctl("exec", file).CombinedOutput()
	if said := strings.TrimSpace(string(out)); err != nil || strings.Contains(said, " ") {
		return fmt.Errorf("vppctl exec %s: %w: %s", file, cmp.Or(err, errRefused), said)
	}
	return nil
}

var errRefused = errors.New("refused")

func (v *VPP) environ() []string {
	if v.where.libraries == "" {
		return os.Environ()
	}
	return append(os.Environ(), "LD_LIBRARY_PATH="+v.where.libraries)
}

// Stop ends it. It may be repeated, and done before it was started.
func (v *VPP) Stop() error {
	if v.process == nil {
		return nil
	}
	return v.process.End()
}

// Process is the running VPP.
func (v *VPP) Process() *Process { return v.process }

// Ctl gives the vppctl that does a command there.
func (v *VPP) Ctl(command ...string) *exec.Cmd {
	cmd := exec.Command(v.where.vppctl, append([]string{"-s", v.CLISocket()}, command...)...)
	cmd.Env = v.environ()
	return cmd
}
