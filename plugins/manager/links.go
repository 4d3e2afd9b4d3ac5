package manager

import (
	"context"
	"sync"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/fdpass"
)

// links are the gRPC connections to endpoints and other agents, one per URL, kept while a connection of
// the network service uses it. Each watches its endpoint, so that clients are told
// when it goes away.
type links struct {
	m  *Manager
	mu sync.Mutex
	by map[string]*link
}

type link struct {
	url    string
	cc     *grpc.ClientConn
	users  int
	watch  bool
	lost   string // why the node there is thought lost; empty: it is not
	cancel context.CancelFunc

	paths   map[models.TunnelPath]func() // of tunnels to the node there; each ends its watch
	changed chan struct{}                // one of them
}

// close ends all that is kept for a link.
func (k *link) close() {
	k.cancel()
	for _, stop := range k.paths {
		stop()
	}
	k.cc.Close()
}

// reconnect is the pause before an endpoint that went away is looked for again.
const reconnect = time.Second

func (l *links) init(m *Manager) { l.m, l.by = m, map[string]*link{} }

func (l *links) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range l.by {
		k.close()
	}
}

// use gives the connection to an endpoint; release gives it back.
func (l *links) use(url string) (cc *grpc.ClientConn, release func(), err error) {
	if _, ok := bridgeOf(url); ok {
		return nil, func() {}, nil // it is nowhere else
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.by[url]
	if k == nil {
		cc, err := l.dial(url)
		if err != nil {
			return nil, nil, err
		}
		k = &link{url: url, cc: cc, cancel: func() {}, changed: make(chan struct{}, 1)}
		l.by[url] = k
	}
	return k.cc, l.take(k), nil
}

// take counts one more user of a link; release takes it back. l.mu is held.
func (l *links) take(k *link) (release func()) {
	k.users++
	return sync.OnceFunc(func() { l.release(k) })
}

// lose notes why the node at the other end is lost. The link stays, and the node is looked
// for, until release, even when no connection leads there any more.
func (l *links) lose(k *link, why string) (release func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k.lost = why
	return l.take(k)
}

// found notes that the node is there again.
func (l *links) found(k *link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k.lost = ""
}

// lost says why the node that a URL leads to is thought lost, as far as is known here; empty:
// it is not.
func (l *links) lost(url string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k := l.by[url]; k != nil {
		return k.lost
	}
	return ""
}

func (l *links) dial(url string) (*grpc.ClientConn, error) {
	if node, ok := nodeOf(url); ok {
		return l.m.dialNode(node)
	}
	return grpc.NewClient(url, append(dialOptions(DefaultTimeout), grpc.WithTransportCredentials(fdpass.Credentials()))...)
}

// dialOptions are those for endpoints and for agents of other nodes; timeout is of one attempt.
func dialOptions(timeout time.Duration) []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessage)),
		grpc.WithStaticStreamWindowSize(Window), grpc.WithStaticConnWindowSize(Window),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: timeout, Backoff: backoff.Config{
			BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: reconnect}}),
	}
}

func (l *links) release(k *link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k.users--; k.users == 0 {
		delete(l.by, k.url)
		k.close()
	}
}

// hold is use for a connection's whole life: it also watches the endpoint.
func (l *links) hold(url string) (release func(), err error) {
	cc, release, err := l.use(url)
	if err != nil || cc == nil {
		return release, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if k := l.by[url]; !k.watch {
		k.watch = true
		var ctx context.Context
		ctx, k.cancel = context.WithCancel(l.m.run)
		if node, ok := nodeOf(url); ok {
			l.m.done.Go(func() { l.followAgent(ctx, k, node) })
		} else {
			l.m.done.Go(func() { l.follow(ctx, k) })
		}
	}
	return release, nil
}

// follow keeps a monitor stream to the endpoint open. The first is not waited for: an
// endpoint that has died by then, or while no agent was there, would never be missed.
func (l *links) follow(ctx context.Context, k *link) {
	client := networkservice.NewMonitorConnectionClient(k.cc)
	for wait := false; ctx.Err() == nil; wait = true {
		err := l.stream(ctx, k.url, client, grpc.WaitForReady(wait))
		if status.Code(err) == codes.Unimplemented || ctx.Err() != nil {
			return // an endpoint that cannot be watched is found out by the next refresh
		}
		l.m.endpointLost(k.url, "its endpoint does not answer: "+clean(err))
		select {
		case <-time.After(reconnect):
		case <-ctx.Done():
		}
	}
}

// stream hears of this agent's connections at one endpoint until the stream breaks.
func (l *links) stream(ctx context.Context, url string, client networkservice.MonitorConnectionClient, options ...grpc.CallOption) error {
	began := time.Now()
	stream, err := client.MonitorConnections(ctx, &networkservice.MonitorScopeSelector{
		PathSegments: []*networkservice.PathSegment{{Name: l.m.Keys.Node}},
	}, options...)
	if err != nil {
		return err
	}
	for {
		e, err := stream.Recv()
		if err != nil {
			return err
		}
		l.m.endpointEvent(url, began, e)
	}
}
