package store

import (
	"bytes"
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

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
		c, err := s.putLeased(ctx, ses, key, value, seconds(ttl), mine)
		revision = c.revision
		s.saw(revision)
		return err
	})
	return revision, err
}

func seconds(ttl time.Duration) int64 {
	return max(1, int64((ttl+time.Second-1)/time.Second))
}

// claimed is a key that is on its lease.
type claimed struct {
	lease    clientv3.LeaseID
	revision int64 // of the key's last write
	seen     int64 // of etcd, at which all this is so
}

func (s *Store) putLeased(ctx context.Context, ses *session, key string, value []byte, ttl int64, mine func([]byte) bool) (claimed, error) {
	r, err := ses.client.Get(ctx, key, ses.reads...)
	if err != nil {
		return claimed{}, err
	}
	var old clientv3.LeaseID
	var unless []clientv3.Cmp // the put fails unless all are so
	if mine != nil {
		var revision int64 // of what was read; none is 0
		if len(r.Kvs) > 0 {
			if !mine(r.Kvs[0].Value) {
				return claimed{}, ErrTaken
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
			return claimed{}, err
		}
		if renewed && bytes.Equal(kv.Value, value) {
			return claimed{old, kv.ModRevision, r.Header.Revision}, nil
		}
		if renewed {
			c, err := putOnLease(ctx, ses, key, value, old, unless)
			if !errors.Is(err, rpctypes.ErrLeaseNotFound) {
				return c, err
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
func (s *Store) putNewLease(ctx context.Context, ses *session, key string, value []byte, ttl int64, old clientv3.LeaseID, unless []clientv3.Cmp) (claimed, error) {
	if err := ses.writable(); err != nil {
		ses.look()
		return claimed{}, err
	}
	lease, err := ses.client.Grant(ctx, ttl)
	if err != nil {
		return claimed{}, err
	}
	c, err := putOnLease(ctx, ses, key, value, lease.ID, unless)
	if err != nil {
		s.dropLease(ctx, ses, lease.ID)
		return claimed{}, err
	}
	s.dropLease(ctx, ses, old)
	return c, nil
}

func putOnLease(ctx context.Context, ses *session, key string, value []byte, id clientv3.LeaseID, unless []clientv3.Cmp) (claimed, error) {
	if err := ses.writable(); err != nil {
		ses.look()
		return claimed{}, err
	}
	r, err := ses.client.Txn(ctx).If(unless...).Then(clientv3.OpPut(key, string(value), clientv3.WithLease(id))).Commit()
	switch {
	case err != nil:
		return claimed{}, err
	case !r.Succeeded:
		return claimed{}, ErrConflict
	}
	return claimed{id, r.Header.Revision, r.Header.Revision}, nil
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
