package lab

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"go.patchbay.dev/plugins/fdpass"
	"go.patchbay.dev/tests/report"
	"go.patchbay.dev/vppapi/vpptest"
)

// Agent is an agent process with its own etcd in a scratch directory.
type Agent struct {
	Dir    string
	Socket string // gRPC, without unix://
	Etcd   string // etcd's socket, without unix://
	HTTP   string // host:port of /metrics

	t      testing.TB
	in     *Namespace // nil: this process's own
	binary string
	config string
	cmd    *exec.Cmd
	exited chan struct{}
	mu     sync.Mutex
	log    bytes.Buffer
}

// Option changes the configuration of an agent: lines of YAML that are added to it.
type Option func(a *Agent, config map[string]string)

// With sets a key of the configuration, "kernel.allow_agent_netns", to a YAML value.
func With(key, value string) Option {
	return func(_ *Agent, c map[string]string) { c[key] = value }
}

// Program runs another build of the program.
func Program(path string) Option {
	return func(a *Agent, _ map[string]string) { a.binary = path }
}

// NewAgent makes an agent that is not started yet.
func NewAgent(t testing.TB, options ...Option) *Agent {
	t.Helper()
	NeedRoot(t)
	report.Part(t, "etcd", parts().etcd+", embedded in the agent")
	report.Part(t, "Linux", parts().kernel)
	// Not t.TempDir: its names can be too long for a unix socket.
	dir, err := os.MkdirTemp("", "pb-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // for clients that are not root
		t.Fatal(err)
	}
	a := &Agent{Dir: dir, t: t, binary: Binary(t), HTTP: freePort(t),
		Socket: filepath.Join(dir, "agent.sock"), Etcd: filepath.Join(dir, "etcd.sock")}
	settings := map[string]string{
		"node.name":     "n1",
		"dataplane":     "kernel",
		"grpc.listen":   "[unix://" + a.Socket + "]",
		"etcd.listen":   "unix://" + a.Etcd,
		"etcd.data_dir": filepath.Join(dir, "etcd"),
		"http.listen":   a.HTTP,
		"log.level":     "debug",
		"node.lease":    fmt.Sprint(int(vpptest.Patience(2 * time.Second).Seconds())),
	}
	for _, o := range options {
		o(a, settings)
	}
	a.config = filepath.Join(dir, "patchbay.yaml")
	var b strings.Builder
	for key, value := range settings {
		indent := ""
		parts := strings.Split(key, ".")
		for _, p := range parts[:len(parts)-1] {
			fmt.Fprintf(&b, "%s%s: {", indent, p)
		}
		fmt.Fprintf(&b, "%s: %s%s\n", parts[len(parts)-1], value, strings.Repeat("}", len(parts)-1))
	}
	if err := os.WriteFile(a.config, []byte(merge(b.String())), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		a.Stop()
		if t.Failed() {
			t.Logf("log of the agent:\n%s", a.Log())
		}
		os.RemoveAll(dir)
	})
	return a
}

// merge joins the lines "a: {b: 1}" and "a: {c: 2}" into one mapping of a.
func merge(lines string) string {
	by := map[string][]string{}
	var out strings.Builder
	for _, line := range strings.Split(strings.TrimSpace(lines), "\n") {
		name, rest, _ := strings.Cut(line, ": ")
		if inner, ok := strings.CutPrefix(rest, "{"); ok {
			by[name] = append(by[name], strings.TrimSuffix(inner, "}"))
		} else {
			out.WriteString(line + "\n")
		}
	}
	for name, inner := range by {
		fmt.Fprintf(&out, "%s: {%s}\n", name, strings.Join(inner, ", "))
	}
	return out.String()
}

// StartAgent starts an agent and waits until it is ready.
func StartAgent(t testing.TB, options ...Option) *Agent {
	t.Helper()
	a := NewAgent(t, options...)
	a.Start()
	a.WaitReady()
	return a
}

// StartAndTime starts the process and gives the time from exec to its word to the service
// manager that it is ready.
func (a *Agent) StartAndTime() time.Duration {
	a.t.Helper()
	socket := filepath.Join(a.Dir, "notify.sock")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		a.t.Fatal(err)
	}
	defer os.Remove(socket)
	defer l.Close()
	l.SetReadDeadline(time.Now().Add(20 * time.Second))
	start := time.Now()
	a.Start("NOTIFY_SOCKET=" + socket)
	buf := make([]byte, 64)
	n, err := l.Read(buf)
	took := time.Since(start)
	if err != nil || string(buf[:n]) != "READY=1" {
		a.t.Fatalf("the agent's word was %q, %v", buf[:n], err)
	}
	return took
}

// Start starts the process, with more variables in its environment.
func (a *Agent) Start(env ...string) {
	a.t.Helper()
	a.cmd = a.command("run", "--config", a.config)
	a.cmd.Stdout, a.cmd.Stderr = a, a
	a.cmd.Env = append(environ(), env...)
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := a.cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
	a.exited = make(chan struct{})
	go func(cmd *exec.Cmd, exited chan struct{}) {
		cmd.Wait()
		close(exited)
	}(a.cmd, a.exited)
}

// environ is the environment without what configures the agent, or the tests.
func environ() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "PATCHBAY_") })
}

// Write takes in the agent's log.
func (a *Agent) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.log.Write(p)
}

// Log is what the agent has logged so far.
func (a *Agent) Log() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.log.String()
}

// Pid of the running process.
func (a *Agent) Pid() int { return a.cmd.Process.Pid }

// Exited is closed when the process has ended.
func (a *Agent) Exited() <-chan struct{} { return a.exited }

// WaitReady waits for /readyz.
func (a *Agent) WaitReady() {
	a.t.Helper()
	a.Eventually(20*time.Second, "the agent to be ready", func() error {
		select {
		case <-a.exited:
			a.t.Fatalf("the agent ended:\n%s", a.Log())
		default:
		}
		r, err := a.Get("/readyz")
		if err != nil {
			return err
		}
		defer r.Body.Close()
		if r.StatusCode != http.StatusOK {
			return fmt.Errorf("readyz: %s", r.Status)
		}
		return nil
	})
}

// Kill kills the process as a crash would.
func (a *Agent) Kill() { a.end(syscall.SIGKILL) }

// Stop stops the process as a service manager does.
func (a *Agent) Stop() { a.end(syscall.SIGTERM) }

func (a *Agent) end(sig syscall.Signal) {
	if a.cmd == nil {
		return
	}
	a.cmd.Process.Signal(sig)
	select {
	case <-a.exited:
	case <-time.After(20 * time.Second):
		a.cmd.Process.Kill()
		<-a.exited
		a.t.Errorf("the agent did not end within 20 s of %v", sig)
	}
	a.cmd = nil
}

// Dial connects to the agent, and again whenever it comes back; the connection ends with
// the test.
func (a *Agent) Dial() *grpc.ClientConn {
	a.t.Helper()
	c, err := grpc.NewClient("unix://"+a.Socket, grpc.WithTransportCredentials(fdpass.Credentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true), grpc.MaxCallSendMsgSize(64<<20)),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: 5 * time.Second, Backoff: backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1.5, MaxDelay: 200 * time.Millisecond}}))
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { c.Close() })
	return c
}

// Patchbay runs a patchbay command against this agent; it must succeed.
func (a *Agent) Patchbay(args ...string) string {
	a.t.Helper()
	out, err := a.TryPatchbay(args...)
	if err != nil {
		a.t.Fatalf("patchbay %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// TryPatchbay runs a patchbay command that may fail.
func (a *Agent) TryPatchbay(args ...string) (string, error) {
	cmd := a.command(args...)
	cmd.Env = append(environ(), "PATCHBAY_AGENT=unix://"+a.Socket)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// Etcdctl runs Debian's etcdctl against the embedded etcd; it must succeed.
func (a *Agent) Etcdctl(args ...string) string {
	a.t.Helper()
	out, err := a.TryEtcdctl(args...)
	if err != nil {
		a.t.Fatalf("etcdctl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// TryEtcdctl runs etcdctl, which may fail.
func (a *Agent) TryEtcdctl(args ...string) (string, error) {
	timeout := vpptest.Patience(5 * time.Second).String()
	cmd := exec.Command("etcdctl", append([]string{"--endpoints=unix://" + a.Etcd, "--command-timeout=" + timeout}, args...)...)
	cmd.Env = append(os.Environ(), "ETCDCTL_API=3")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// Eventually polls check, which looks from outside at what another process does.
func (a *Agent) Eventually(within time.Duration, what string, check func() error) {
	a.t.Helper()
	Eventually(a.t, within, what, check)
}

// Eventually polls check until it succeeds, for things that other processes do and tell
// nobody of.
func Eventually(t testing.TB, within time.Duration, what string, check func() error) {
	t.Helper()
	within = vpptest.Patience(within)
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	for {
		began := time.Now()
		err := check()
		if err == nil {
			return
		}
		pause := 5 * time.Millisecond
		if took := time.Since(began); took > 100*time.Millisecond { // a slow machine has more to do than to look
			pause = took
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			t.Fatalf("waited %v for %s: %v", within, what, err)
		}
	}
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
