package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"go.patchbay.dev/plugins/fdpass"
	"go.patchbay.dev/plugins/manager"
)

// stopTimeout bounds how long requests under way may take when the agent stops.
const stopTimeout = 3 * time.Second

// streamWorkers is how many goroutines gRPC keeps for requests: the stack of a new one grows as it works, and is
// copied each time. A stream has one for itself; when all are taken, gRPC begins new ones.
const streamWorkers = 64

// grpcServer serves the agent's API on its sockets.
func (a *Agent) grpcServer() part {
	server := grpc.NewServer(
		grpc.Creds(fdpass.Credentials()),
		grpc.MaxRecvMsgSize(manager.MaxMessage),
		grpc.StaticStreamWindowSize(manager.Window), grpc.StaticConnWindowSize(manager.Window),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Minute}),
		grpc.NumStreamWorkers(streamWorkers),
	)
	a.manager.Register(server)
	a.admin.Register(server)
	start := func(context.Context) error {
		for _, url := range a.cfg.GRPC.Listen {
			path, ok := strings.CutPrefix(url, "unix://")
			if !ok {
				continue
			}
			l, err := listenUnix(path)
			if err != nil {
				return fmt.Errorf("grpc.listen: %w", err)
			}
			a.serve(server, l)
		}
		return nil
	}
	return part{"grpc", start, func() { a.stopServer(server) }}
}

// peerServer serves the agents of other nodes: connections and their monitoring, over
// mutual TLS. It offers neither the registries nor the commands' API.
func (a *Agent) peerServer() part {
	addresses := a.cfg.GRPC.TCP()
	if a.identity == nil || len(addresses) == 0 {
		return part{"grpc for agents", func(context.Context) error { return nil }, func() {}}
	}
	server := grpc.NewServer(
		grpc.Creds(a.identity.Server()),
		grpc.MaxRecvMsgSize(manager.MaxMessage),
		grpc.StaticStreamWindowSize(manager.Window), grpc.StaticConnWindowSize(manager.Window),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
	)
	a.manager.RegisterPeers(server)
	start := func(context.Context) error {
		for _, address := range addresses {
			l, err := net.Listen("tcp", address)
			if err != nil {
				return fmt.Errorf("grpc.listen: %w", err)
			}
			a.serve(server, l)
		}
		return nil
	}
	return part{"grpc for agents", start, func() { a.stopServer(server) }}
}

// handshakeTimeout bounds how long a stranger holds a connection before it is known.
const handshakeTimeout = 5 * time.Second

func (a *Agent) serve(server *grpc.Server, l net.Listener) {
	a.done.Go(func() {
		if err := server.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			a.log.Error("gRPC server ended", "listen", l.Addr().String(), "err", err)
		}
	})
}

func (a *Agent) stopServer(server *grpc.Server) {
	a.manager.Quit() // ends the streams, which would hold the server up
	done := make(chan struct{})
	go func() { server.GracefulStop(); close(done) }()
	select {
	case <-done:
	case <-time.After(stopTimeout):
		server.Stop()
	}
}

// listenUnix listens on a socket that any workload may connect to: what each may do is
// decided by its credentials. A socket that a killed agent left is replaced, one that
// answers is not.
func listenUnix(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	// Linux says of any file that nobody listens there.
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() != os.ModeSocket {
		return nil, fmt.Errorf("%s is there and is no socket; choose another path", path)
	}
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return nil, fmt.Errorf("%s: another agent answers there; stop it or choose another socket", path)
	} else if errors.Is(err, syscall.ECONNREFUSED) {
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	return l, os.Chmod(path, 0o666)
}

// httpServer serves metrics and health, where it is configured.
func (a *Agent) httpServer() part {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", a.metrics.Handler())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := a.readiness(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	start := func(context.Context) error {
		if a.cfg.HTTP.Listen == "" {
			return nil
		}
		l, err := net.Listen("tcp", a.cfg.HTTP.Listen)
		if err != nil {
			return fmt.Errorf("http.listen: %w", err)
		}
		a.log.Debug("http", "listen", l.Addr().String())
		a.done.Go(func() {
			if err := server.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
				a.log.Error("http server ended", "err", err)
			}
		})
		return nil
	}
	return part{"http", start, func() { server.Close() }}
}
