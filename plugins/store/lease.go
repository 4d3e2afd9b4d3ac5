package store

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// releaseTimeout bounds the delete of a key that is no longer held.
const releaseTimeout = 2 * time.Second

// leastTTL is more than the least time to live that etcd grants, in seconds: that is 1.5
// of its election timeouts (lease.LessorConfig.MinLeaseTTL).
const leastTTL = 10

// PutLeased writes a key that goes away by itself after ttl unless it is put again. The
// ttl is rounded up to whole seconds; etcd grants 2 s at the least. Every such key has a
// lease of its own, which is known in etcd only: putting again what is there already
// renews the lease and writes nothing, also after a restart. The revision is that of the
// key's last write.
func (s *Store) PutLeased(ctx context.Context, key string, value []byte, ttl time.Duration) (revision int64, err error) {
	return s.Claim(ctx, key, value, ttl, nil)
}

// Claim is PutLeased for a key that others may want: what is there and is not mine stays,
// and the error is ErrTaken. Of two that claim it at once, one gets it; the other's error
// is ErrTaken or ErrConflict. A nil mine takes the key from anyone.
func (s *Store) Claim(ctx context.Context, key string, value []byte, ttl time.Duration, mine func(value []byte) bool) (revision int64, err error) {
	err = s.do(ctx, "put", key, func(ctx context.Context, ses *session) error {
		var err error
		revision, err = s.putLeased(ctx, ses, key, value, seconds(ttl), mine)
		s.saw(revision)
		return err
	})
	return revision, err
}

func seconds(ttl time.Duration) int64 {
	return max(1, int64((ttl+time.Second-1)/time.Second))
}

func (s *Store) putLeased(ctx context.Context, ses *session, key string, value []byte, ttl int64, mine func([]byte) bool) (int64, error) {
	r, err := ses.client.Get(ctx, key, ses.reads...)
	if err != nil {
		return 0, err
	}
	var old clientv3.LeaseID
	var unless []clientv3.Cmp // the put fails unless all are so
	if mine != nil {
		var revision int64 // of what was read; none is 0
		if len(r.Kvs) > 0 {
			if !mine(r.Kvs[0].Value) {
				return 0, ErrTaken
			}
			revision = r.Kvs[0].ModRevision
		}
		unless = []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(key), "=", revision)}
	}
	if len(r.Kvs) > 0 {
		kv := r.Kvs[0]
		old = clientv3.LeaseID(kv.Lease)
		renewed, err := renew(ctx, ses, old, ttl)
		if err != nil {
			return 0, err
		}
		if renewed && bytes.Equal(kv.Value, value) {
			return kv.ModRevision, nil
		}
		if renewed {
			revision, err := putOnLease(ctx, ses, key, value, old, unless)
			if !errors.Is(err, rpctypes.ErrLeaseNotFound) {
				return revision, err
			}
		}
	}
	return s.putNewLease(ctx, ses, key, value, ttl, old, unless)
}

// renew keeps a lease alive if it is still there and has the wanted time to live, or the
// least that etcd grants.
func renew(ctx context.Context, ses *session, id clientv3.LeaseID, ttl int64) (bool, error) {
	if id == clientv3.NoLease {
		return false, nil
	}
	r, err := ses.client.KeepAliveOnce(ctx, id)
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return ttl <= r.TTL && r.TTL < ttl+leastTTL, nil
}

// putNewLease gives the key a new lease; the old one goes.
func (s *Store) putNewLease(ctx context.Context, ses *session, key string, value []byte, ttl int64, old clientv3.LeaseID, unless []clientv3.Cmp) (int64, error) {
	if err := ses.writable(); err != nil {
		ses.look()
		return 0, err
	}
	lease, err := ses.client.Grant(ctx, ttl)
	if err != nil {
		return 0, err
	}
	revision, err := putOnLease(ctx, ses, key, value, lease.ID, unless)
	if err != nil {
		s.dropLease(ctx, ses, lease.ID)
		return 0, err
	}
	s.dropLease(ctx, ses, old)
	return revision, nil
}

func putOnLease(ctx context.Context, ses *session, key string, value []byte, id clientv3.LeaseID, unless []clientv3.Cmp) (int64, error) {
	if err := ses.writable(); err != nil {
		ses.look()
		return 0, err
	}
	r, err := ses.client.Txn(ctx).If(unless...).Then(clientv3.OpPut(key, string(value), clientv3.WithLease(id))).Commit()
	switch {
	case err != nil:
		return 0, err
	case !r.Succeeded:
		return 0, ErrConflict
	}
	return r.Header.Revision, nil
}

// dropLease revokes a lease on which no key is left. When that fails, the lease expires by
// itself, so it is no error.
func (s *Store) dropLease(ctx context.Context, ses *session, id clientv3.LeaseID) {
	if id == clientv3.NoLease {
		return
	}
	r, err := ses.client.TimeToLive(ctx, id, clientv3.WithAttachedKeys())
	if err == nil && len(r.Keys) == 0 && r.TTL > 0 {
		_, err = ses.client.Revoke(ctx, id)
	}
	if err != nil {
		s.log.Debug("a lease is left to expire", "lease", int64(id), "err", err)
	}
}

// Hold keeps a key in etcd while ctx lasts: on a lease of ttl that is renewed three times
// in that time, written again when etcd has lost it, and deleted at the end. The key's
// value is the newest that came from values (which is not to be closed); before the first
// there is no key.
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
	for {
		changed := s.Changed() // asked for first, so that etcd's return during the attempt is not missed
		wait := ttl / 3
		switch err := s.renewHeld(ctx, key, value, ttl, mine); {
		case errors.Is(err, ErrTaken):
			return err
		case err != nil:
			wait = min(wait, maxPause)
		}
		select {
		case value = <-values:
		case <-changed:
		case <-time.After(wait):
		case <-ctx.Done():
			s.release(ctx, key)
			return ctx.Err()
		case <-s.ctx.Done():
			return errClosed()
		}
	}
}

func (s *Store) renewHeld(ctx context.Context, key string, value []byte, ttl time.Duration, mine func([]byte) bool) error {
	bound, cancel := context.WithTimeout(ctx, ttl)
	defer cancel()
	_, err := s.Claim(bound, key, value, ttl, mine)
	if err != nil && ctx.Err() == nil {
		s.log.Log(ctx, levelOf(err), "a held key could not be renewed", "key", key, "err", err)
	}
	return err
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
