package store

import (
	"context"
	"log/slog"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/etcdserver"
)

// upkeep is what an operator would do for an etcd: drop old revisions, shrink the
// database, take back the alarm when it fits again.
type upkeep struct {
	tuning
	server *etcdserver.EtcdServer
	client *clientv3.Client
	room   *room
	log    *slog.Logger

	backed int64 // size of the database for which there are blocks on the disk
	shrunk int64 // revision at the last shrinking
}

// serve looks after etcd until the session ends.
func (u *upkeep) serve(ses *session, report func(error)) error {
	tick := time.NewTicker(u.every)
	defer tick.Stop()
	for {
		report(u.turn(ses.ctx))
		select {
		case <-ses.ctx.Done():
			return context.Cause(ses.ctx)
		case <-u.server.StopNotify():
			return unavailable("the embedded etcd has stopped by itself")
		case <-ses.lookc:
		case <-tick.C:
		}
	}
}

// turn does what is due and says why no write is possible, if so.
func (u *upkeep) turn(ctx context.Context) error {
	if err := u.room.admit(); err != nil {
		return err // every step needs room
	}
	if size := u.server.Backend().Size(); size != u.backed {
		if err := u.room.backUp(); err != nil {
			return err
		}
		u.backed = size
	}
	u.compact(ctx)
	alarm := u.alarm()
	if alarm || u.server.Backend().Size() >= u.large {
		u.shrink(ctx, alarm)
		alarm = u.alarm()
	}
	if alarm {
		return errQuota()
	}
	return nil
}

// compact drops revisions by their number, not by time: a quiet node keeps days, and one
// with many writes does not fill its memory.
func (u *upkeep) compact(ctx context.Context) {
	kv := u.server.KV()
	if revision := kv.Rev(); revision-kv.FirstRev() > u.keep+u.step {
		u.try("compact", func() error { _, err := u.client.Compact(ctx, revision-u.keep); return err })
	}
}

func (u *upkeep) alarm() bool {
	for _, a := range u.server.Alarms() {
		if a.Alarm == pb.AlarmType_NOSPACE {
			return true
		}
	}
	return false
}

// shrink rewrites the database when most of it is unused. At an alarm it does so after
// every change, without old revisions, and takes the alarm back if that was enough.
func (u *upkeep) shrink(ctx context.Context, alarm bool) {
	db, revision := u.server.Backend(), u.server.KV().Rev()
	changed := alarm && revision != u.shrunk
	if changed && revision > u.server.KV().FirstRev() {
		u.try("compact", func() error {
			_, err := u.client.Compact(ctx, revision, clientv3.WithCompactPhysical())
			return err
		})
	}
	if (changed || db.SizeInUse() < db.Size()/2) && u.room.checkFor(db.Size()) == nil {
		u.try("defragment", u.server.Defragment)
		u.backed, u.shrunk = 0, revision
	}
	if alarm && db.Size() < u.quota*9/10 {
		u.try("take back the alarm", func() error {
			_, err := u.client.AlarmDisarm(ctx, &clientv3.AlarmMember{
				MemberID: uint64(u.server.MemberID()), Alarm: pb.AlarmType_NOSPACE,
			})
			return err
		})
	}
}

// try does a step of upkeep. What fails is tried again at the next turn.
func (u *upkeep) try(what string, f func() error) {
	start := time.Now()
	err := f()
	u.log.Debug("upkeep of etcd", "step", what, "took", time.Since(start), "err", err)
}
