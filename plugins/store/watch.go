package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Batch is what a Watch has to say at once.
type Batch struct {
	// Snapshot: Puts is everything that there is, and what is not in it is gone. Else the
	// batch is the changes since the one before.
	Snapshot bool

	// Revision of etcd that the batch leads to.
	Revision int64

	// Puts and Deletes have every changed key once, as the batch leaves it: a key that was
	// put, deleted and put again between two batches is one put.
	Puts    []KV
	Deletes []string
}

// Watch calls f, one call after another, with a snapshot of everything under prefix and
// then with every change after it, in the order of etcd's revisions. When etcd was away,
// or has forgotten the changes in between (compaction), it begins again with a new
// snapshot, so no change is missed. While etcd is away, f is not called: what was said
// last stays true as far as anybody knows.
//
// Watch returns only when ctx ends (with its error) or the store is closed (ErrUnavailable).
func (s *Store) Watch(ctx context.Context, prefix string, f func(Batch)) error {
	pause := minPause
	for {
		ses, err := s.await(ctx)
		if err != nil {
			return fmt.Errorf("watch %q: %w", prefix, err)
		}
		start := time.Now()
		err = s.follow(ctx, ses, prefix, f)
		if ctx.Err() != nil || ses.ctx.Err() != nil || errors.Is(err, rpctypes.ErrCompacted) {
			continue
		}
		level := slog.LevelDebug
		if time.Since(start) > maxPause || pause == minPause {
			level, pause = slog.LevelWarn, minPause
		}
		s.log.Log(ctx, level, "a watch of etcd failed; it begins again", "key", prefix, "err", err)
		ses.look()
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		case <-ses.ctx.Done():
		}
		pause = min(2*pause, maxPause)
	}
}

// follow gives a snapshot and the changes after it until something fails.
func (s *Store) follow(ctx context.Context, ses *session, prefix string, f func(Batch)) error {
	ctx, release := ses.bind(ctx)
	defer release()
	kvs, revision, err := ses.list(ctx, prefix)
	if err != nil {
		return explain(ctx, ses, err)
	}
	s.saw(revision)
	f(Batch{Snapshot: true, Revision: revision, Puts: kvs})

	changes := ses.client.Watch(clientv3.WithRequireLeader(ctx), prefix, clientv3.WithPrefix(), clientv3.WithRev(revision+1))
	for r := range changes {
		if err := r.Err(); err != nil {
			return err
		}
		if len(r.Events) == 0 || ctx.Err() != nil {
			continue
		}
		b := batch(r.Events)
		s.saw(b.Revision)
		ses.answered()
		f(b)
	}
	return errStreamEnded
}

var errStreamEnded = errors.New("the stream of changes has ended")

// batch makes one of events, which are in order; of several of one key the last counts.
func batch(events []*clientv3.Event) Batch {
	b := Batch{Revision: events[len(events)-1].Kv.ModRevision}
	last := map[string]int{}
	if len(events) > 1 {
		for i, e := range events {
			last[string(e.Kv.Key)] = i
		}
	}
	for i, e := range events {
		if len(events) > 1 && last[string(e.Kv.Key)] != i {
			continue
		}
		if e.Type == clientv3.EventTypeDelete {
			b.Deletes = append(b.Deletes, string(e.Kv.Key))
		} else {
			b.Puts = append(b.Puts, asKV(e.Kv))
		}
	}
	return b
}
