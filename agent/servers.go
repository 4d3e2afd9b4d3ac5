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

// grpcServer serves the agent's API on its sockets.
func (a *Agent) grpcServer() part {
	server := grpc.NewServer(
		grpc.Creds(fdpass.Credentials()),
		grpc.MaxRecvMsgSize(manager.MaxMessage),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Minute}),
	)
	a.manager.Register(server)
	a.admin.Register(server)
	start := func(context.Context) error {
		for _, url := range a.cfg.GRPC.Listen {
			path, ok := strings.CutPrefix(url, "unix://")
			if !ok {
				return fmt.Errorf("grpc.listen: %s: this version serves unix:// sockets only", url)
			}
			l, err := listenUnix(path)
			if err != nil {
				return fmt.Errorf("grpc.listen: %w", err)
			}
			a.done.Go(func() {
				if err := server.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
					a.log.Error("gRPC server ended", "err", err)
				}
			})
		}
		return nil
	}
	stop := func() {
		a.manager.Quit() // ends the streams, which would hold the server up
		done := make(chan struct{})
		go func() { server.GracefulStop(); close(done) }()
		select {
		case <-done:
		case <-time.After(stopTimeout):
			server.Stop()
		}
	}
	return part{"grpc", start, stop}
}

// listenUnix listens on a socket that any workload may connect to: what each may do is
// decided by its credentials. A socket that a killed agent left is replaced, one that
// answers is not.
func listenUnix(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
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
