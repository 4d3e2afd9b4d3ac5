package nsm

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// node is the name of the agent's node and of its path segments.
const node = "n1"

// agent is an agent process with its own etcd in a scratch directory. Its network
// namespace is its own, too: what is tagged there as an agent's is taken for this one's,
// and several run at the same time.
type agent struct {
	t      *testing.T
	dir    string
	socket string // unix:///path
	net    *netns
	binary string
	config string
	log    log
	cmd    *exec.Cmd
	exited chan struct{}
}

// startAgent starts an agent that ends with the test, and waits until it is ready.
func startAgent(t *testing.T) *agent {
	t.Helper()
	return startAgentWith(t, newNetns(t), "dataplane: kernel")
}

// startAgentWith starts an agent in a namespace, nil for the test's own, with more lines
// of configuration.
func startAgentWith(t *testing.T, in *netns, more string) *agent {
	t.Helper()
	return startNode(t, in, func(a *agent) string {
		return more + fmt.Sprintf(`
node: {name: %s}
grpc: {listen: [%q]}
etcd: {listen: %q, data_dir: %q}
`, node, a.socket, a.etcd(), filepath.Join(a.dir, "etcd"))
	})
}

// etcd is where the agent's own etcd is reached.
func (a *agent) etcd() string { return "unix://" + filepath.Join(a.dir, "etcd.sock") }

// startNode starts an agent with a configuration of its own.
func startNode(t *testing.T, in *netns, configure func(a *agent) string) *agent {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "pbn-") // t.TempDir's names can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{t: t, dir: dir, socket: "unix://" + filepath.Join(dir, "agent.sock"), net: in,
		binary: path, config: filepath.Join(dir, "patchbay.yaml")}
	t.Cleanup(func() {
		a.end(syscall.SIGTERM)
		a.log.show(t, "agent")
		os.RemoveAll(dir)
	})
	config := configure(a) + `
http: {listen: "off"}
log: {level: debug}
`
	if err := os.WriteFile(a.config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	a.start()
	return a
}

// start starts the process, again after kill, and waits until it is ready.
func (a *agent) start() {
	a.t.Helper()
	command := []string{a.binary, "run", "--config", a.config}
	if a.net != nil {
		command = append([]string{"nsenter", "--net=/run/netns/" + a.net.name}, command...)
	}
	a.cmd = exec.Command(command[0], command[1:]...)
	a.cmd.Stdout, a.cmd.Stderr = &a.log, &a.log
	a.cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "PATCHBAY_") })
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := a.cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
	a.exited = make(chan struct{})
	go func(cmd *exec.Cmd, exited chan struct{}) {
		defer close(exited)
		if err := cmd.Wait(); err != nil {
			fmt.Fprintln(&a.log, "the agent ended:", err)
		}
	}(a.cmd, a.exited)
	a.awaitReady()
}

// awaitReady asks as NSM's health probes do.
func (a *agent) awaitReady() {
	a.t.Helper()
	cc, err := grpc.NewClient(a.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		a.t.Fatal(err)
	}
	defer cc.Close()
	ctx, cancel := context.WithTimeout(a.t.Context(), patience)
	defer cancel()
	go func(exited <-chan struct{}) { // the agent may be started again meanwhile
		select {
		case <-exited:
			cancel()
		case <-ctx.Done():
		}
	}(a.exited)
	for {
		stream, err := grpc_health_v1.NewHealthClient(cc).Watch(ctx,
			&grpc_health_v1.HealthCheckRequest{Service: "networkservice.NetworkService"}, grpc.WaitForReady(true))
		for err == nil {
			var h *grpc_health_v1.HealthCheckResponse
			if h, err = stream.Recv(); h.GetStatus() == grpc_health_v1.HealthCheckResponse_SERVING {
				return
			}
		}
		if ctx.Err() != nil {
			a.t.Fatalf("the agent is not ready: %v", err)
		}
	}
}

// kill kills the process as a crash would.
func (a *agent) kill() { a.end(syscall.SIGKILL) }

func (a *agent) end(sig syscall.Signal) {
	if a.cmd == nil || a.cmd.Process == nil {
		return
	}
	a.cmd.Process.Signal(sig) // it may have ended
	select {
	case <-a.exited:
	case <-time.After(10 * time.Second):
		a.t.Errorf("the agent did not end within 10 s of %v", sig)
		a.cmd.Process.Kill()
		<-a.exited
	}
	a.cmd = nil
}

// eventually polls check until it succeeds, for what other processes do and tell nobody of.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited 20 s for %s: %v", what, err)
		}
	}
}
