// Package store keeps the node's record in etcd: embedded in the agent, or external. It
// puts, gets, lists, watches (a snapshot, then every change) and keeps keys on leases.
package store

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// KV is a key as it stands in etcd.
type KV struct {
	Key      string
	Value    []byte // shared with others: not to be changed
	Revision int64  // of the last write of this key (etcd's mod_revision)
	Created  int64  // revision of its first write since it was absent (create_revision)
}

// Store is a connection to etcd that outlives etcd's absences. All methods may be called
// at the same time.
type Store struct {
	log     *slog.Logger
	connect func(context.Context) (*session, error)

	ctx  context.Context
	stop context.CancelFunc
	done chan struct{}

	revision atomic.Int64

	mu      sync.Mutex
	session *session      // nil while etcd is away
	err     error         // what Up says
	changed chan struct{} // closed when what Up says changes
}

// Open starts the embedded etcd, or connects to the external one.
//
// An external etcd that does not answer is no error, nor is a disk without room for the
// embedded one: Up says so, and the store works as soon as that is over. What cannot heal
// by itself is an error: a wrong configuration (it names the key), an embedded etcd whose
// directory is in use, not writable or corrupt. Open returns after a few seconds at most;
// ctx bounds only Open itself.
func Open(ctx context.Context, c Config) (*Store, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	s := &Store{log: c.Log, done: make(chan struct{}), changed: make(chan struct{})}
	s.ctx, s.stop = context.WithCancel(context.Background())
	if len(c.Endpoints) > 0 {
		s.connect = external{c}.connect
	} else {
		s.connect = embedded{c}.connect
	}
	first, err := s.connect(ctx)
	if err != nil && !temporary(err) {
		s.stop()
		return nil, err
	}
	s.set(first, err)
	go s.run(first)
	return s, nil
}

// Close stops the embedded etcd, or leaves the external one. Every Watch returns.
func (s *Store) Close() error {
	s.stop()
	<-s.done
	return nil
}

// Put writes a key and returns the revision of that write. When it returns, the write is
// on disk (for an external etcd: on those of a quorum).
func (s *Store) Put(ctx context.Context, key string, value []byte) (revision int64, err error) {
	return s.write(ctx, "put", key, func(ctx context.Context, ses *session) (int64, error) {
		r, err := ses.client.Put(ctx, key, string(value))
		if err != nil {
			return 0, err
		}
		return r.Header.Revision, nil
	})
}

// MaxWrite is how many keys one Write may have (etcd's max-txn-ops).
const MaxWrite = 128

// Write puts and deletes several keys at once, all or none, for the price of one. No key
// may be given twice. Of the KVs only key and value count.
func (s *Store) Write(ctx context.Context, puts []KV, deletes []string) (revision int64, err error) {
	ops := operations(puts, deletes)
	if len(ops) == 0 {
		return 0, nil
	}
	return s.txn(ctx, "write", "several keys", nil, ops, nil)
}

// Create writes a key that is not there yet; if it is, the error is ErrExists.
func (s *Store) Create(ctx context.Context, key string, value []byte) (revision int64, err error) {
	absent := clientv3.Compare(clientv3.CreateRevision(key), "=", 0)
	return s.putIf(ctx, "create", key, value, absent, ErrExists)
}

// WriteIf is Write if each key of same still has the revision given there, 0: is still absent.
// If one has not, the error is ErrConflict.
func (s *Store) WriteIf(ctx context.Context, same, puts []KV, deletes []string) (revision int64, err error) {
	var conds []clientv3.Cmp
	for _, kv := range same {
		conds = append(conds, clientv3.Compare(clientv3.ModRevision(kv.Key), "=", kv.Revision))
	}
	return s.txn(ctx, "write", "several keys", conds, operations(puts, deletes), ErrConflict)
}

// Replace writes a key that still has the given revision; if it was changed or deleted
// since, the error is ErrConflict.
func (s *Store) Replace(ctx context.Context, key string, value []byte, revision int64) (int64, error) {
	same := clientv3.Compare(clientv3.ModRevision(key), "=", revision)
	return s.putIf(ctx, "replace", key, value, same, ErrConflict)
}

func (s *Store) putIf(ctx context.Context, what, key string, value []byte, cond clientv3.Cmp, otherwise error) (int64, error) {
	return s.txn(ctx, what, key, []clientv3.Cmp{cond}, []clientv3.Op{clientv3.OpPut(key, string(value))}, otherwise)
}

// txn does all of ops if all of conds hold; else the error is otherwise.
func (s *Store) txn(ctx context.Context, what, key string, conds []clientv3.Cmp, ops []clientv3.Op, otherwise error) (int64, error) {
	return s.write(ctx, what, key, func(ctx context.Context, ses *session) (int64, error) {
		r, err := ses.client.Txn(ctx).If(conds...).Then(ops...).Commit()
		if err != nil {
			return 0, err
		}
		if !r.Succeeded {
			return 0, otherwise
		}
		return r.Header.Revision, nil
	})
}

func operations(puts []KV, deletes []string) (ops []clientv3.Op) {
	for _, kv := range puts {
		ops = append(ops, clientv3.OpPut(kv.Key, string(kv.Value)))
	}
	for _, key := range deletes {
		ops = append(ops, clientv3.OpDelete(key))
	}
	return ops
}

// Delete removes a key and returns the revision of that. An absent key is no error; the
// revision is 0 then. A lease that was the key's own goes with it.
func (s *Store) Delete(ctx context.Context, key string) (revision int64, err error) {
	return s.write(ctx, "delete", key, func(ctx context.Context, ses *session) (int64, error) {
		r, err := ses.client.Delete(ctx, key, clientv3.WithPrevKV())
		if err != nil {
			return 0, err
		}
		if r.Deleted == 0 {
			return 0, nil
		}
		for _, kv := range r.PrevKvs {
			s.dropLease(ctx, ses, clientv3.LeaseID(kv.Lease))
		}
		return r.Header.Revision, nil
	})
}

// Get reads a key; if it is not there, the error is ErrNotFound.
func (s *Store) Get(ctx context.Context, key string) (KV, error) {
	var kv KV
	err := s.do(ctx, "get", key, func(ctx context.Context, ses *session) error {
		r, err := ses.client.Get(ctx, key, ses.reads...)
		if err != nil {
			return err
		}
		s.saw(r.Header.Revision)
		if len(r.Kvs) == 0 {
			return ErrNotFound
		}
		kv = asKV(r.Kvs[0])
		return nil
	})
	return kv, err
}

// List reads all keys under a prefix, in the order of their names, as of the revision it
// returns.
func (s *Store) List(ctx context.Context, prefix string) ([]KV, int64, error) {
	var kvs []KV
	var revision int64
	err := s.do(ctx, "list", prefix, func(ctx context.Context, ses *session) error {
		var err error
		kvs, revision, err = ses.list(ctx, prefix)
		s.saw(revision)
		return err
	})
	return kvs, revision, err
}

// Revision is the last revision of etcd that was seen here.
func (s *Store) Revision() int64 { return s.revision.Load() }

// write does a request that needs room on the disk; f returns the revision of the write.
func (s *Store) write(ctx context.Context, what, key string, f func(context.Context, *session) (int64, error)) (int64, error) {
	var revision int64
	err := s.do(ctx, what, key, func(ctx context.Context, ses *session) error {
		if err := ses.writable(); err != nil {
			ses.look()
			return err
		}
		var err error
		revision, err = f(ctx, ses)
		s.saw(revision)
		return err
	})
	return revision, err
}

// do runs a request of the present session; it ends when ctx or the session does. For who has
// gone already nothing is begun: an etcd in this process might still do it.
func (s *Store) do(ctx context.Context, what, key string, f func(context.Context, *session) error) error {
	ses, err := s.current()
	if err == nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		bound, release := ses.bind(ctx)
		err = explain(ctx, ses, f(bound, ses))
		release()
	}
	if err != nil {
		return fmt.Errorf("%s %q: %w", what, key, err)
	}
	ses.answered()
	return nil
}

// saw takes note of a revision.
func (s *Store) saw(revision int64) {
	for {
		old := s.revision.Load()
		if revision <= old || s.revision.CompareAndSwap(old, revision) {
			return
		}
	}
}
