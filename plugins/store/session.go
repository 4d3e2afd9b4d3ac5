package store

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	minPause = 100 * time.Millisecond // between attempts to reach etcd
	maxPause = 2 * time.Second
)

// session is one time in which etcd answers. When etcd goes away its session ends, with
// every request and watch in it; when it comes back there is a new one, in which watches
// start with a new snapshot. Nothing is carried over, so nothing can be missed.
type session struct {
	client   *clientv3.Client
	leases   pb.LeaseClient      // for the stream by which a held key's lease is renewed
	reads    []clientv3.OpOption // of every read
	writable func() error        // nil, or why a write cannot be tried
	revision int64               // at the start
	serve    func(report func(error)) error
	close    func()

	ctx    context.Context // ends with the session; its cause says why
	end    context.CancelCauseFunc
	lookc  chan struct{} // something went wrong: look after it now
	lastOK atomic.Int64  // when etcd answered last, Unix nanoseconds
}

func newSession() *session {
	ses := &session{writable: func() error { return nil }, lookc: make(chan struct{}, 1)}
	ses.ctx, ses.end = context.WithCancelCause(context.Background())
	ses.answered()
	return ses
}

// bind makes a context that ends with ctx or with the session.
func (ses *session) bind(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	unhook := context.AfterFunc(ses.ctx, func() { cancel(context.Cause(ses.ctx)) })
	return ctx, func() { unhook(); cancel(nil) }
}

// look asks serve to look after the session now rather than at its next turn.
func (ses *session) look() {
	select {
	case ses.lookc <- struct{}{}:
	default:
	}
}

func (ses *session) answered() { ses.lastOK.Store(time.Now().UnixNano()) }

// quiet is how long etcd has not answered.
func (ses *session) quiet() time.Duration {
	return time.Duration(time.Now().UnixNano() - ses.lastOK.Load())
}

func (ses *session) list(ctx context.Context, prefix string) ([]KV, int64, error) {
	opts := append([]clientv3.OpOption{clientv3.WithPrefix()}, ses.reads...)
	r, err := ses.client.Get(ctx, prefix, opts...)
	if err != nil {
		return nil, 0, err
	}
	kvs := make([]KV, len(r.Kvs))
	for i, kv := range r.Kvs {
		kvs[i] = asKV(kv)
	}
	return kvs, r.Header.Revision, nil
}

func asKV(kv *mvccpb.KeyValue) KV {
	return KV{Key: string(kv.Key), Value: kv.Value, Revision: kv.ModRevision, Created: kv.CreateRevision}
}

// errTemporary marks an error of connect that may go away by itself.
type errTemporary struct{ error }

func (e errTemporary) Unwrap() error { return e.error }

func temporary(err error) bool {
	var t errTemporary
	return errors.As(err, &t)
}

// run has one session after another until the store is closed; the first may be there
// already.
func (s *Store) run(ses *session) {
	defer close(s.done)
	pause := minPause
	for {
		if ses != nil {
			s.live(ses)
			pause = minPause
		}
		s.pause(pause)
		if s.ctx.Err() != nil {
			s.set(nil, errClosed())
			return
		}
		pause = min(2*pause, maxPause)
		var err error
		ses, err = s.connect(s.ctx)
		s.set(ses, err)
	}
}

// live serves a session to its end.
func (s *Store) live(ses *session) {
	unhook := context.AfterFunc(s.ctx, func() { ses.end(errClosed()) })
	defer unhook()
	err := ses.serve(func(err error) { s.set(ses, err) })
	s.set(nil, err)
	ses.end(err)
	ses.close()
}

// pause waits d, give or take a fifth so that the nodes of a cluster do not come in step,
// or until the store is closed.
func (s *Store) pause(d time.Duration) {
	d += time.Duration((rand.Float64() - 0.5) * 0.4 * float64(d))
	select {
	case <-time.After(d):
	case <-s.ctx.Done():
	}
}
