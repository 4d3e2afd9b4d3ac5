package store

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
)

const (
	// probeEvery is how often an etcd that nothing else has asked is asked for an answer. A
	// lost connection is noticed at once by itself; this finds a server that hangs, one
	// that has lost its quorum and a host that is gone.
	probeEvery   = 3 * time.Second
	probeTimeout = 2 * time.Second

	// gRPC's own keepalive sees to connections that only watches use, to a server that hangs.
	// 10 s is the least that gRPC's client allows (google.golang.org/grpc/keepalive,
	// ClientParameters.Time).
	keepaliveTime = 10 * time.Second
	// keepaliveTimeout is also how long the kernel waits for anything from the other host
	// (tcp(7), TCP_USER_TIMEOUT, which gRPC sets to it): longer than three packets are lost.
	keepaliveTimeout = 2 * time.Second
	// tcpKeepalive is how often the kernel asks the other host while nothing else is sent: the
	// member on which a watch is may be cut off, and the watch goes on with another.
	tcpKeepalive = time.Second
)

// external is an etcd elsewhere.
type external struct{ Config }

// connect makes a client and has one answer from etcd.
func (c external) connect(ctx context.Context) (*session, error) {
	var tlsConfig *tls.Config
	if strings.HasPrefix(c.Endpoints[0], "https:") {
		var err error
		if tlsConfig, err = c.TLS.client(); err != nil {
			return nil, errTemporary{err} // readable when the store was opened
		}
	}
	options := []grpc.DialOption{grpc.WithChainUnaryInterceptor(failFast)}
	if !strings.HasPrefix(c.Endpoints[0], "unix:") {
		options = append(options, grpc.WithContextDialer(dialTCP))
	}
	ses := newSession()
	client, err := clientv3.New(clientv3.Config{
		Endpoints:            c.Endpoints,
		DialTimeout:          probeTimeout,
		DialKeepAliveTime:    keepaliveTime,
		DialKeepAliveTimeout: keepaliveTimeout,
		MaxUnaryRetries:      uint(len(c.Endpoints)) + 1,
		TLS:                  tlsConfig,
		Username:             c.Username,
		Password:             c.Password,
		Context:              ses.ctx,
		DialOptions:          options,
		Logger:               zap.NewNop(), // what fails comes back as an error and is logged once
	})
	if err != nil {
		ses.end(err)
		return nil, errTemporary{err}
	}
	p := prober{client: client, key: c.probeKey()}
	if err := p.probe(ctx); err != nil {
		ses.end(err)
		client.Close()
		return nil, errTemporary{err}
	}
	ses.client, ses.leases = client, pb.NewLeaseClient(client.ActiveConnection())
	ses.revision = p.revision
	ses.serve = func(func(error)) error { return p.serve(ses) }
	ses.close = func() { client.Close() }
	return ses, nil
}

func dialTCP(ctx context.Context, address string) (net.Conn, error) {
	d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: tcpKeepalive, Interval: tcpKeepalive}}
	return d.DialContext(ctx, "tcp", address)
}

// failFast makes a request that finds no connection fail, and say why. etcd's client would
// let it wait for one until its deadline and then say no more than that.
func failFast(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return invoke(ctx, method, req, reply, conn, append(opts, grpc.WaitForReady(false))...)
}

// probeKey is a key that an account which may use the prefix may read.
func (c external) probeKey() string {
	if c.Prefix == "" || strings.HasSuffix(c.Prefix, "/") {
		return c.Prefix + "health"
	}
	return c.Prefix + "/health"
}

// prober asks etcd for an answer through its quorum.
type prober struct {
	client   *clientv3.Client
	key      string
	cluster  uint64
	revision int64
}

// probe is nil when etcd answers and is the one that it was before.
func (p *prober) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	r, err := p.client.Get(ctx, p.key, clientv3.WithKeysOnly())
	if errors.Is(err, context.DeadlineExceeded) || code(err) == codes.DeadlineExceeded {
		return errLate
	}
	if err != nil {
		return unavailable("%s", reason(err))
	}
	if p.cluster != 0 && p.cluster != r.Header.ClusterId || r.Header.Revision < p.revision {
		return unavailable("another etcd answers, or one that was set back: revision %d after %d", r.Header.Revision, p.revision)
	}
	p.cluster, p.revision = r.Header.ClusterId, r.Header.Revision
	return nil
}

// errLate is what an etcd that hangs gives, and one that has too much to do.
var errLate = unavailable("no answer in time")

// serve returns when etcd no longer answers. One that is late and has told of a change, or
// renewed a lease, in the meantime is busy: if the session ended, all that is watched would be
// read again, by every agent, and it had more to do.
func (p *prober) serve(ses *session) error {
	conn := p.client.ActiveConnection()
	go func() {
		for state := connectivity.Ready; conn.WaitForStateChange(ses.ctx, state); state = conn.GetState() {
			ses.look()
		}
	}()
	for {
		select {
		case <-ses.ctx.Done():
			return context.Cause(ses.ctx)
		case <-ses.lookc:
		case <-time.After(probeEvery - ses.quiet()):
			if ses.quiet() < probeEvery {
				continue
			}
		}
		err := p.probe(ses.ctx)
		switch {
		case err == nil:
			ses.answered()
		case !errors.Is(err, errLate) || ses.quiet() >= probeTimeout:
			return err
		}
	}
}
