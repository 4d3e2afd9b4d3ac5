package store

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// releaseTimeout bounds the delete of a key that is no longer held.
const releaseTimeout = 2 * time.Second

// Hold keeps a key in etcd while ctx lasts: on a lease of ttl that is renewed three times
// in that time, written again when etcd has lost it, and deleted at the end. The key's
// value is the newest that came from values (which is not to be closed); before the first
// there is no key. While nothing happens to the key, all that etcd sees of it is the
// renewals, over one stream.
//
// Hold returns when ctx ends or the store is closed. What goes wrong in between is logged
// and tried again; but where another has the key, as mine says (see Claim), Hold returns
// ErrTaken and leaves it.
func (s *Store) Hold(ctx context.Context, key string, ttl time.Duration, values <-chan []byte, mine func([]byte) bool) error {
	var value []byte
	select {
	case value = <-values:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.ctx.Done():
		return errClosed()
	}
	pause := minPause
	for {
		changed := s.Changed() // asked for first, so that etcd's return meanwhile is not missed
		began := time.Now()
		next, err := s.holdValue(ctx, key, value, ttl, values, mine)
		switch {
		case next != nil:
			value = next
			continue
		case errors.Is(err, ErrTaken):
			return err
		case ctx.Err() != nil:
			s.release(ctx, key)
			return ctx.Err()
		case s.ctx.Err() != nil:
			return errClosed()
		}
		s.log.Log(ctx, levelOf(err), "a held key is claimed again", "key", key, "err", err)
		if time.Since(began) > maxPause {
			pause = minPause
		}
		select {
		case value = <-values:
		case <-changed:
		case <-time.After(pause):
		case <-ctx.Done():
		case <-s.ctx.Done():
		}
		pause = min(2*pause, maxPause)
	}
}

// holdValue claims a key and keeps it until there is another value for it, which it returns,
// or until the error says why the key is not held, or not any more.
func (s *Store) holdValue(ctx context.Context, key string, value []byte, ttl time.Duration, values <-chan []byte, mine func([]byte) bool) (next []byte, err error) {
	ctx, cancel := context.WithCancel(ctx)
	lost := make(chan error, 1)
	go func() { lost <- s.keep(ctx, key, value, ttl, mine) }()
	select {
	case next = <-values:
		cancel()
		<-lost
	case err = <-lost:
		cancel()
	}
	return next, err
}

// keep claims a key and returns when ctx ends, or with what has happened to the key or its
// lease since.
func (s *Store) keep(ctx context.Context, key string, value []byte, ttl time.Duration, mine func([]byte) bool) error {
	var ses *session
	var c claimed
	bound, cancel := context.WithTimeout(ctx, max(ttl/2, time.Second))
	err := s.do(bound, "hold", key, func(ctx context.Context, now *session) (err error) {
		ses = now
		c, err = s.putLeased(ctx, ses, key, value, seconds(ttl), mine)
		return err
	})
	cancel()
	if err != nil {
		return err
	}
	s.saw(c.revision)
	ctx, release := ses.bind(ctx)
	defer release()
	ctx, end := context.WithCancel(ctx)
	errs := make(chan error)
	go func() { errs <- ses.renewals(ctx, c.lease, ttl) }()
	go func() { errs <- ses.untouched(ctx, key, c.seen) }()
	err = explain(ctx, ses, <-errs)
	end()
	<-errs
	return err
}

// renewals renews a lease three times in its ttl until ctx ends or the lease is lost. It does
// so over one stream, and over another when that breaks or is not answered in time: the
// member of etcd that it leads to may be gone, and a lease is short.
func (ses *session) renewals(ctx context.Context, id clientv3.LeaseID, ttl time.Duration) error {
	for last := time.Now(); ; {
		err := ses.renewOver(ctx, id, ttl, &last)
		if ctx.Err() != nil || errors.Is(err, rpctypes.ErrLeaseNotFound) || time.Since(last) > ttl {
			return err
		}
		select {
		case <-time.After(minPause):
		case <-ctx.Done():
		}
	}
}

// renewOver renews a lease over one stream until something fails, and notes when it was
// renewed last.
func (ses *session) renewOver(ctx context.Context, id clientv3.LeaseID, ttl time.Duration, last *time.Time) error {
	ctx, cancel := context.WithCancelCause(clientv3.WithRequireLeader(ctx))
	defer cancel(nil)
	late := time.AfterFunc(ttl/4, func() { cancel(context.DeadlineExceeded) })
	defer late.Stop()
	stream, err := ses.leases.LeaseKeepAlive(ctx)
	for {
		if err == nil {
			err = stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(id)})
		}
		var r *pb.LeaseKeepAliveResponse
		if err == nil {
			r, err = stream.Recv()
		}
		switch {
		case err != nil:
			return cmp.Or(context.Cause(ctx), err)
		case r.TTL <= 0:
			return rpctypes.ErrLeaseNotFound
		}
		*last = time.Now()
		ses.answered()
		late.Reset(ttl/3 + ttl/4)
		select {
		case <-time.After(ttl / 3):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// errTouched means that somebody else has written or deleted a key that is held.
var errTouched = errors.New("somebody else has changed it")

// untouched returns when ctx ends, or somebody writes or deletes a key after a revision.
func (ses *session) untouched(ctx context.Context, key string, revision int64) error {
	for r := range ses.client.Watch(clientv3.WithRequireLeader(ctx), key, clientv3.WithRev(revision+1)) {
		if err := r.Err(); err != nil {
			return err
		}
		if len(r.Events) > 0 {
			return errTouched
		}
	}
	return errStreamEnded
}

// release deletes a key that was held; if that fails, the lease lets it go.
func (s *Store) release(ctx context.Context, key string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	if _, err := s.Delete(ctx, key); err != nil {
		s.log.Log(ctx, levelOf(err), "a held key is left to expire", "key", key, "err", err)
	}
}

// levelOf is that of a failure's log line: that etcd is away has been said once already.
func levelOf(err error) slog.Level {
	if errors.Is(err, ErrUnavailable) {
		return slog.LevelDebug
	}
	return slog.LevelWarn
}
