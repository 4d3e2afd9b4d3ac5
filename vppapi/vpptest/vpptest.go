// Package vpptest starts the real VPP for tests of any room, without hugepages and DPDK,
// in a directory of its own.
package vpptest

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Prefix is the environment variable that names the folder where VPP is installed.
const Prefix = "VPP_PREFIX"

// VPP is a running VPP.
type VPP struct {
	Dir         string // of all that follows
	APISocket   string
	StatsSocket string
	CLISocket   string
	Version     string

	t      testing.TB
	prefix string // empty: the system's
	binary string
	conf   string

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// Option changes the VPP that Start starts.
type Option func(*config)

type config struct {
	workers int
	extra   []string
}

// Workers gives it threads besides the main one.
func Workers(n int) Option { return func(c *config) { c.workers = n } }

// Config adds lines to its startup.conf.
func Config(lines ...string) Option {
	return func(c *config) { c.extra = append(c.extra, lines...) }
}

// Sleeping has it sleep for 0.1 ms between its rounds. A VPP that polls an interface takes a whole processor without, and
// tests with several VPPs share two; where packets come in bursts, their rings overflow with it.
func Sleeping() Option { return Config("unix { poll-sleep-usec 100 }") }

// Find looks for VPP in $VPP_PREFIX, /opt/vpp and PATH; the version is its release, "25.10".
func Find() (path, version string, ok bool) {
	found.once.Do(func() {
		for _, prefix := range []string{os.Getenv(Prefix), "/opt/vpp"} {
			if path := filepath.Join(prefix, "bin", "vpp"); prefix != "" && executable(path) {
				found.path, found.prefix = path, prefix
				break
			}
		}
		if found.path == "" {
			found.path, _ = exec.LookPath("vpp")
		}
		if found.path != "" {
			found.version = release(found.path)
		}
	})
	return found.path, found.version, found.path != ""
}

// found is the answer of the first Find; VPP does not come and go while tests run.
var found struct {
	once                  sync.Once
	path, prefix, version string
}

func executable(path string) bool {
	s, err := os.Stat(path)
	return err == nil && s.Mode().IsRegular() && s.Mode()&0o111 != 0
}

// release reads the version from the names of the libraries that the program needs: it
// tells it no other way without being run.
func release(path string) string {
	if f, err := elf.Open(path); err == nil {
		defer f.Close()
		needed, _ := f.ImportedLibraries()
		for _, l := range needed {
			if version, ok := strings.CutPrefix(l, "libvnet.so."); ok {
				return version
			}
		}
	}
	return "of an unknown release"
}

func environment(prefix string) []string {
	if prefix == "" {
		return os.Environ()
	}
	return append(os.Environ(), "LD_LIBRARY_PATH="+strings.Join(libraries(prefix), ":"))
}

func libraries(prefix string) []string {
	return []string{filepath.Join(prefix, "lib", "x86_64-linux-gnu"), filepath.Join(prefix, "lib")}
}

// Start starts a VPP that ends with the test. The test is skipped where there is none.
func Start(t testing.TB, opts ...Option) *VPP {
	t.Helper()
	path, version, ok := Find()
	if !ok {
		t.Skipf("needs VPP: it is neither in $%s nor in /opt/vpp nor in PATH", Prefix)
	}
	dir, err := os.MkdirTemp("/tmp", "vpp") // t.TempDir's is too long for the name of a socket
	if err != nil {
		t.Fatal(err)
	}
	v := &VPP{
		Dir: dir, APISocket: filepath.Join(dir, "api.sock"), StatsSocket: filepath.Join(dir, "stats.sock"), CLISocket: filepath.Join(dir, "cli.sock"),
		Version: version, t: t, prefix: found.prefix, binary: path, conf: filepath.Join(dir, "startup.conf"),
	}
	t.Cleanup(func() {
		v.Kill()
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "vpp.log"))
			t.Logf("VPP said:\n%s", log)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	c := config{workers: threads()}
	for _, o := range opts {
		o(&c)
	}
	if err := os.WriteFile(v.conf, []byte(v.startup(c)), 0o600); err != nil {
		t.Fatal(err)
	}
	v.start()
	// vpp v25.10-release built by …
	if f := strings.Fields(v.CLI("show version")); len(f) > 1 {
		v.Version = strings.TrimPrefix(f[1], "v")
	}
	t.Attr("patchbay-part", "VPP "+v.Version) // see tests/report
	return v
}

// startup is a startup.conf for a machine without hugepages.
func (v *VPP) startup(c config) string {
	cpu, path := "", ""
	if c.workers > 0 {
		cpu = fmt.Sprintf("workers %d", c.workers)
	}
	if v.prefix != "" {
		var folders []string
		for _, l := range libraries(v.prefix) {
			folders = append(folders, filepath.Join(l, "vpp_plugins"))
		}
		path = "path " + strings.Join(folders, ":")
	}
	return fmt.Sprintf(`unix { nodaemon nobanner runtime-dir %[1]s cli-listen %[2]s log %[1]s/unix.log }
api-segment { prefix %[3]s }
api-trace { on }
socksvr { socket-name %[4]s }
statseg { socket-name %[5]s page-size 4k }
memory { main-heap-size 512M main-heap-page-size 4k }
buffers { page-size 4k buffers-per-numa 16384 }
cpu { %[6]s }
plugins { %[7]s plugin dpdk_plugin.so { disable } }
%[8]s
`, v.Dir, v.CLISocket, filepath.Base(v.Dir), v.APISocket, v.StatsSocket, cpu, path, strings.Join(c.extra, "\n"))
}

// start runs it and waits until its API takes connections.
func (v *VPP) start() {
	v.t.Helper()
	log, err := os.OpenFile(filepath.Join(v.Dir, "vpp.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		v.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(v.binary, "-c", v.conf)
	cmd.Env, cmd.Stdout, cmd.Stderr = environment(v.prefix), log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := start(cmd); err != nil {
		v.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait() // its state tells
		close(done)
	}()
	v.mu.Lock()
	v.cmd, v.done = cmd, done
	v.mu.Unlock()
	for deadline := time.Now().Add(Patience(30 * time.Second)); ; time.Sleep(5 * time.Millisecond) {
		if c, err := net.Dial("unix", v.APISocket); err == nil {
			c.Close()
			return
		}
		select {
		case <-done:
			text, _ := os.ReadFile(log.Name())
			v.t.Fatalf("VPP ended at once: %v\n%s", cmd.ProcessState, text)
		default:
		}
		if time.Now().After(deadline) {
			v.t.Fatal("VPP does not open its API socket")
		}
	}
}

// PID is VPP's process.
func (v *VPP) PID() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.cmd.Process.Pid
}

// Kill ends it by SIGKILL and waits until it is gone. It may be repeated.
func (v *VPP) Kill() {
	v.mu.Lock()
	cmd, done := v.cmd, v.done
	v.mu.Unlock()
	if cmd == nil {
		return
	}
	if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		v.t.Error(err)
	}
	<-done
}

// Restart is Kill and a new start with the same sockets.
func (v *VPP) Restart() {
	v.t.Helper()
	v.Kill()
	v.start()
}

// Stop stops it (SIGSTOP) until Cont.
func (v *VPP) Stop() { v.signal(syscall.SIGSTOP) }

// Cont lets it go on (SIGCONT).
func (v *VPP) Cont() { v.signal(syscall.SIGCONT) }

func (v *VPP) signal(s syscall.Signal) {
	v.t.Helper()
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.cmd.Process.Signal(s); err != nil {
		v.t.Error(err)
	}
}

// CLI runs a command of VPP's command line and returns what it prints.
func (v *VPP) CLI(command string) string {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience(10*time.Second))
	defer cancel()
	vppctl := filepath.Join(filepath.Dir(v.binary), "vppctl")
	cmd := exec.CommandContext(ctx, vppctl, append([]string{"-s", v.CLISocket}, strings.Fields(command)...)...)
	cmd.Env = environment(v.prefix)
	out, err := cmd.CombinedOutput()
	if err != nil {
		v.t.Errorf("%s: %v: %s", command, err, out)
	}
	return string(out)
}
