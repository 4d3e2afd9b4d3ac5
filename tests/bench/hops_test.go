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

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"go.patchbay.dev/plugins/fdpass"
)

// relayEnv makes this program a relay, on the socket that it names.
const relayEnv = "BENCH_RELAY"

// hops are the two gRPC calls that no request can do without, empty: from a client to a
// process that stands where the agent does, which calls an endpoint before it answers.
type hops struct{ relay healthpb.HealthClient }

func newHops(t *testing.T) *hops {
	t.Helper()
	dir, err := os.MkdirTemp("", "pb-")
	check(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	serve(t, relay{}, endpointOf(dir))
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), relayEnv+"="+filepath.Join(dir, "relay.sock"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	check(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	cc, err := dialHealth(filepath.Join(dir, "relay.sock"))
	check(t, err)
	t.Cleanup(func() { cc.Close() })
	return &hops{healthpb.NewHealthClient(cc)}
}

// once makes the two calls.
func (h *hops) once(t *testing.T) time.Duration {
	t.Helper()
	start := time.Now()
	_, err := h.relay.Check(t.Context(), &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true))
	check(t, err)
	return time.Since(start)
}

// endpointOf is the endpoint's socket, beside the relay's.
func endpointOf(dir string) string { return filepath.Join(dir, "endpoint.sock") }

// runRelay serves until it is killed.
func runRelay(socket string) {
	cc, err := dialHealth(endpointOf(filepath.Dir(socket)))
	if err == nil {
		err = listen(relay{next: healthpb.NewHealthClient(cc)}, socket, func(s *grpc.Server, l net.Listener) error { return s.Serve(l) })
	}
	fmt.Fprintln(os.Stderr, "relay:", err)
	os.Exit(1)
}

// relay passes calls on to next, if there is one.
type relay struct {
	healthpb.UnimplementedHealthServer
	next healthpb.HealthClient
}

func (r relay) Check(ctx context.Context, in *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	if r.next != nil {
		return r.next.Check(ctx, in, grpc.WaitForReady(true))
	}
	return &healthpb.HealthCheckResponse{}, nil
}

func listen(r relay, socket string, serve func(*grpc.Server, net.Listener) error) error {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	s := grpc.NewServer(grpc.Creds(fdpass.Credentials()))
	healthpb.RegisterHealthServer(s, r)
	return serve(s, l)
}

// serve serves a relay in this process.
func serve(t *testing.T, r relay, socket string) {
	t.Helper()
	check(t, listen(r, socket, func(s *grpc.Server, l net.Listener) error {
		go s.Serve(l)
		t.Cleanup(s.Stop)
		return nil
	}))
}

func dialHealth(socket string) (*grpc.ClientConn, error) {
	return grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(fdpass.Credentials()))
}
