//go:build bench

package bench

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"google.golang.org/grpc"

	"go.patchbay.dev/plugins/fdpass"
	"go.patchbay.dev/tests/lab"
)

// calledEnv makes this program a server of bare calls, on the socket that it names.
const calledEnv = "BENCH_CALLED"

// called answers a request with the connection that it asks for, at once.
type called struct {
	networkservice.UnimplementedNetworkServiceServer
}

func (*called) Request(_ context.Context, in *networkservice.NetworkServiceRequest) (*networkservice.Connection, error) {
	return in.Connection, nil
}

// newCall starts a process to which a request is one bare gRPC call over a unix socket, and
// gives a client of it. Between two requests it is as idle as an agent.
func newCall(t *testing.T) *lab.Client {
	t.Helper()
	dir, err := os.MkdirTemp("", "pb-")
	check(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "called.sock")
	startSelf(t, calledEnv, socket)
	cc, err := dialFDs(socket)
	check(t, err)
	t.Cleanup(func() { cc.Close() })
	lab.Eventually(t, 10*time.Second, "the server of bare calls", func() error { _, err := os.Stat(socket); return err })
	return lab.NewClient(t, cc)
}

// startSelf starts this program as a process of another kind, until the test ends.
func startSelf(t *testing.T, env, value string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), env+"="+value)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	check(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
}

// runCalled serves until it is killed.
func runCalled(socket string) {
	l, err := net.Listen("unix", socket)
	if err == nil {
		s := grpc.NewServer(grpc.Creds(fdpass.Credentials()))
		networkservice.RegisterNetworkServiceServer(s, &called{})
		err = s.Serve(l)
	}
	fmt.Fprintln(os.Stderr, "the server of bare calls:", err)
	os.Exit(1)
}
