package store

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// counted are the requests of a store, but for watches.
type counted struct {
	pb.LeaseClient
	requests, streams, renewals atomic.Int64
	hang                        atomic.Bool // no read is answered
}

// openCounted opens a store at the server whose requests are counted.
func openCounted(t *testing.T, server *server) (*Store, *counted) {
	t.Helper()
	c := &counted{}
	s := &Store{log: testLog(t), done: make(chan struct{}), changed: make(chan struct{})}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.connect = func(ctx context.Context) (*session, error) {
		ses, err := external{Config{Endpoints: []string{server.Listen}}}.connect(ctx)
		if err == nil {
			c.LeaseClient = ses.leases
			ses.client.KV, ses.client.Lease, ses.leases = countedKV{ses.client.KV, c}, countedLease{ses.client.Lease, c}, c
		}
		return ses, err
	}
	first, err := s.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.set(first, nil)
	go s.run(first)
	t.Cleanup(func() { s.Close() })
	return s, c
}

type countedKV struct {
	clientv3.KV
	c *counted
}

func (k countedKV) Get(ctx context.Context, key string, o ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	k.c.requests.Add(1)
	if k.c.hang.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return k.KV.Get(ctx, key, o...)
}

func (k countedKV) Txn(ctx context.Context) clientv3.Txn {
	k.c.requests.Add(1)
	return k.KV.Txn(ctx)
}

type countedLease struct {
	clientv3.Lease
	c *counted
}

func (l countedLease) KeepAliveOnce(ctx context.Context, id clientv3.LeaseID) (*clientv3.LeaseKeepAliveResponse, error) {
	l.c.requests.Add(1)
	return l.Lease.KeepAliveOnce(ctx, id)
}

// LeaseKeepAlive is of pb.LeaseClient.
func (c *counted) LeaseKeepAlive(ctx context.Context, o ...grpc.CallOption) (grpc.BidiStreamingClient[pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse], error) {
	c.streams.Add(1)
	s, err := c.LeaseClient.LeaseKeepAlive(ctx, o...)
	return countedStream{s, c}, err
}

type countedStream struct {
	grpc.BidiStreamingClient[pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse]
	c *counted
}

func (s countedStream) Send(r *pb.LeaseKeepAliveRequest) error {
	s.c.renewals.Add(1)
	return s.BidiStreamingClient.Send(r)
}

// A thousand agents hold a key each: what one costs is renewals, and nothing beside them.
func TestHeldKeyCostsItsRenewalsOnly(t *testing.T) {
	t.Parallel()
	s, c := openCounted(t, newServer(t))
	values, _ := hold(t, s, "/agents/n1", 300*time.Millisecond)
	values <- []byte("one")
	eventually(t, "a renewal", func() bool { return c.renewals.Load() > 1 })
	before := c.requests.Load()
	eventually(t, "ten renewals", func() bool { return c.renewals.Load() >= 11 })
	if n := c.requests.Load() - before; n != 0 {
		t.Errorf("%d requests beside the renewals", n)
	}
	if n := c.streams.Load(); n != 1 {
		t.Errorf("%d streams", n)
	}
}

// An etcd that hangs for longer than the lease lasts has lost the key when it goes on.
func TestHoldSurvivesAnEtcdThatHangs(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	p := newProxy(t, "unix", server.Listen[len("unix://"):])
	s := open(t, Config{Endpoints: []string{p.url()}, Insecure: true})
	v, _ := watch(t, server.Store, "/agents/")
	values, _ := hold(t, s, "/agents/n1", time.Second)
	values <- []byte("one")
	v.has(t, "/agents/n1", "one")
	p.freeze()
	v.has(t, "/agents/n1", "")
	p.thaw()
	v.has(t, "/agents/n1", "one")
}

// An etcd that has too much to do is late with its answers, and tells of changes all the
// same: who began anew, with all that there is, would give it more to do.
func TestBusyEtcdIsNotGivenUp(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	s, c := openCounted(t, server)
	v, _ := watch(t, s, "/a/")
	v.until(t, "a snapshot", func() bool { return v.snapshots == 1 })
	c.hang.Store(true)
	ses, before := s.session, c.requests.Load()
	eventually(t, "two probes in vain", func() bool {
		ses.look() // as every request does that is late
		mustPut(t, server.Store, "/a/b", "c")
		return c.requests.Load() > before+2
	})
	if err := s.Up(); err != nil || v.count() != 1 {
		t.Errorf("up: %v, after %d snapshots", err, v.count())
	}
	untilDown(t, s) // nothing is told any more
}
