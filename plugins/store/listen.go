package store

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3rpc"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
)

// maxSocketPath is the most that sockaddr_un holds (unix(7)), with its final zero.
const maxSocketPath = 107

// listen serves etcd's API to orchestrators and etcdctl at Config.Listen.
//
// The gRPC server is etcd's own, but not the one that embed makes: that one would also
// speak HTTP, bind its socket with whatever mode the umask gives, and take away the socket
// of another etcd that is alive.
func (c embedded) listen(server *etcdserver.EtcdServer, room *room) (closeAll func(), err error) {
	if c.Listen == "" {
		return func() {}, nil
	}
	u, err := parseURL(c.Listen)
	if err != nil {
		return nil, fmt.Errorf("etcd.listen: %w", err)
	}
	var tlsConfig *tls.Config
	if u.Scheme == "https" {
		if tlsConfig, err = c.TLS.server(); err != nil {
			return nil, err
		}
	}
	var l net.Listener
	if u.Scheme == "unix" {
		l, err = listenUnix(u.Path)
	} else {
		l, err = net.Listen("tcp", u.Host)
	}
	if err != nil {
		return nil, fmt.Errorf("etcd.listen: %w", err)
	}
	g := v3rpc.Server(server, tlsConfig, room.intercept, keepalives()...)
	go func() {
		if err := g.Serve(l); err != nil {
			c.Log.Error("the listener of the embedded etcd has ended", "listen", c.Listen, "err", err)
		}
	}()
	return g.Stop, nil
}

// keepalives are those of an etcd on its own (embed.Etcd.serveClients); gRPC's defaults
// would cut off clients that ask as often as etcd's do.
func keepalives() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: embed.DefaultGRPCKeepAliveMinTime}),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: embed.DefaultGRPCKeepAliveInterval, Timeout: embed.DefaultGRPCKeepAliveTimeout,
		}),
	}
}

// listenUnix makes a socket that only its owner may use, from its first moment. The socket
// of a process that has died is replaced; one that somebody listens to is not.
func listenUnix(path string) (net.Listener, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	// Of two who start at once the second must see the first one's socket as alive.
	lock, err := lockFile(dir, unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if err := removeStale(path); err != nil {
		return nil, err
	}
	// A socket's file gets the mode of the socket, less the umask (unix_bind in Linux).
	mode := func(_, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) }); e != nil {
			return e
		}
		return err
	}
	return (&net.ListenConfig{Control: mode}).Listen(context.Background(), "unix", path)
}

func removeStale(path string) error {
	switch fi, err := os.Lstat(path); {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case fi.Mode().Type() != os.ModeSocket:
		return fmt.Errorf("%s is there and is no socket", path)
	}
	conn, err := net.Dial("unix", path)
	if err == nil {
		conn.Close()
		return fmt.Errorf("%s: %w", path, errInUse)
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
}

// intercept refuses the writes of others, too, when there is no room for them.
func (r *room) intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	switch req.(type) {
	case *pb.PutRequest, *pb.TxnRequest, *pb.DeleteRangeRequest, *pb.CompactionRequest, *pb.LeaseGrantRequest, *pb.LeaseRevokeRequest:
		if err := r.admit(); err != nil {
			text := strings.TrimPrefix(err.Error(), ErrUnavailable.Error()+": ")
			return nil, status.Error(codes.ResourceExhausted, text)
		}
	}
	return handle(ctx, req)
}
