package store

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3rpc"
	"go.etcd.io/etcd/server/v3/proxy/grpcproxy/adapter"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// tuning is of an etcd with one member and one node's record: a few megabytes, a few
// hundred writes a second at the most. Zero means the default; tests set others.
type tuning struct {
	quota int64         // bytes of the database at which etcd takes no more writes
	keep  int64         // revisions that are kept for watches to go on from
	step  int64         // revisions beyond keep at which the older ones are dropped
	every time.Duration // between two turns of upkeep

	// Bytes of a database that is worth shrinking when most of it is unused: its pages are
	// mapped, so they count as the agent's memory.
	large int64

	etcd func(*embed.Config) // more that a test wants
}

const (
	defaultQuota = 256 << 20
	defaultKeep  = 5000
	defaultStep  = 5000
	defaultEvery = time.Second
	defaultLarge = 32 << 20

	// etcd wakes up at every tick, and each time costs as much as a small request. With one
	// member ticks serve nothing but its election, which elect cuts short. 5 ticks are the
	// least that etcd allows an election, and 1.5 elections the least time to live of a lease.
	tickMs     = 200
	electionMs = 5 * tickMs

	// etcd writes its log into segments that it allocates beforehand, one ahead.
	segmentBytes = 8 << 20

	// A start replays at most so many writes, and a few. Twice as many stay in memory: at an
	// election raft may look back as far as that while etcd is ahead of it already.
	snapshotCount = 500
	catchUp       = 2 * snapshotCount

	// How long writes may stay in the log only before they go to the database. They are on
	// disk either way; a longer batch means fewer syncs that hold up the writes after it.
	batchInterval = 500 * time.Millisecond

	startTimeout = 30 * time.Second
)

// setSegment sets what etcd has as a variable of its package, before the first use.
var setSegment = sync.OnceFunc(func() { wal.SegmentSizeBytes = segmentBytes })

// embedded is an etcd in this process.
type embedded struct{ Config }

// connect starts etcd and its listener.
func (c embedded) connect(ctx context.Context) (_ *session, err error) {
	c.tuning.fill()
	unlock, err := lockDataDir(c.DataDir)
	if err != nil {
		return nil, err
	}
	undo := []func(){unlock}
	defer func() {
		if err != nil {
			runBackwards(undo)
		}
	}()
	room := &room{dir: c.DataDir}
	if err := room.check(); err != nil {
		return nil, errTemporary{err}
	}
	etcd, stop, err := c.startTwice(ctx, room)
	if err != nil {
		return nil, fmt.Errorf("start etcd in etcd.data_dir %s: %w", c.DataDir, err)
	}
	undo = append(undo, stop)
	room.db = etcd.Server.Backend()
	closeListener, err := c.listen(etcd.Server, room)
	if err != nil {
		return nil, err
	}
	undo = append(undo, closeListener)

	client := v3client.New(etcd.Server)
	undo = append(undo, func() { client.Close() })
	ses := newSession()
	ses.client, ses.leases = client, adapter.LeaseServerToLeaseClient(v3rpc.NewLeaseServer(etcd.Server))
	ses.reads = []clientv3.OpOption{clientv3.WithSerializable()} // the only member has seen every write that was acknowledged
	ses.writable = room.admit
	ses.revision = etcd.Server.KV().Rev()
	up := upkeep{tuning: c.tuning, server: etcd.Server, client: client, room: room, log: c.Log}
	ses.serve = func(report func(error)) error { return up.serve(ses, report) }
	ses.close = func() { runBackwards(undo) }
	return ses, nil
}

func runBackwards(fs []func()) {
	for i := len(fs) - 1; i >= 0; i-- {
		fs[i]()
	}
}

func (t *tuning) fill() {
	if t.quota == 0 {
		t.quota = defaultQuota
	}
	if t.keep == 0 {
		t.keep, t.step = defaultKeep, defaultStep
	}
	if t.every == 0 {
		t.every = defaultEvery
	}
	if t.large == 0 {
		t.large = defaultLarge
	}
}

// startTwice starts etcd; in a new directory first only to have a snapshot of its log.
// Without one, a later start could not be hurried as elect does: raft looks in an election
// at entries that it does not know to be applied yet, and panics if etcd, which is ahead of
// it, has dropped them. After 100 writes etcd drops the very first (compactRaftLog in
// etcdserver), but raft begins to look only behind the snapshot.
func (c embedded) startTwice(ctx context.Context, room *room) (_ *embed.Etcd, stop func(), err error) {
	snapshots, err := filepath.Glob(filepath.Join(c.DataDir, "member", "snap", "*.snap"))
	if err == nil && len(snapshots) == 0 {
		_, err := os.Stat(filepath.Join(c.DataDir, "member"))
		fresh := errors.Is(err, os.ErrNotExist)
		_, stop, err := c.start(ctx, room, 1, fresh)
		if err != nil {
			return nil, nil, err
		}
		stop()
	}
	return c.start(ctx, room, snapshotCount, true)
}

// start starts etcd and waits until it takes requests.
func (c embedded) start(ctx context.Context, room *room, snapshotCount uint64, hurry bool) (_ *embed.Etcd, stop func(), err error) {
	if err := awaitFiles(c.DataDir); err != nil {
		return nil, nil, err
	}
	setSegment()
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	guard := newGuard(c.Log, room.spend)
	conf := c.config(guard)
	conf.SnapshotCount = snapshotCount

	etcd, err := guard.start(ctx, conf)
	if err != nil {
		return nil, nil, err
	}
	stop = func() {
		guard.quiet.Store(true)
		etcd.Close()
	}
	if hurry {
		go elect(ctx, etcd.Server)
	}
	select {
	case <-etcd.Server.ReadyNotify():
		guard.running.Store(true)
		return etcd, stop, nil
	case err := <-guard.failed:
		return nil, nil, err // and no Close: it would wait for a goroutine that has ended
	case <-etcd.Server.StopNotify():
		return nil, nil, errors.New("etcd has stopped by itself")
	case <-ctx.Done():
		stop()
		return nil, nil, context.Cause(ctx)
	}
}

// elect makes the only member the leader at once: by itself it waits for the election
// timeout, in case there is a leader elsewhere. The message is that with which a leader
// hands over (MsgTimeoutNow in go.etcd.io/raft/v3); raft ignores it while it is not ready.
func elect(ctx context.Context, server *etcdserver.EtcdServer) {
	self := uint64(server.MemberID())
	again := time.NewTicker(2 * time.Millisecond)
	defer again.Stop()
	for server.Lead() == raft.None {
		m := &raftpb.Message{Type: raftpb.MsgTimeoutNow.Enum(), From: &self, To: &self}
		if server.Process(ctx, m) != nil {
			return
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return
		}
	}
}

// config is etcd's, for one member that nobody else on the network can reach.
func (c embedded) config(g *guard) *embed.Config {
	conf := embed.NewConfig()
	conf.Name = "patchbay"
	conf.Dir = c.DataDir
	conf.ZapLoggerBuilder = embed.NewZapLoggerBuilder(g.logger())

	// No member but this one, so no listener for others: the URL is a name and no more.
	self := url.URL{Scheme: "unix", Host: conf.Name + ":0"}
	conf.ListenPeerUrls, conf.AdvertisePeerUrls = nil, []url.URL{self}
	conf.InitialCluster = conf.InitialClusterFromName(conf.Name)
	// The listener for clients is ours, see listen.
	conf.ListenClientUrls, conf.AdvertiseClientUrls = nil, []url.URL{self}
	if u, err := parseURL(c.Listen); err == nil {
		conf.AdvertiseClientUrls = []url.URL{*u}
	}
	conf.EnableGRPCGateway = false

	conf.TickMs, conf.ElectionMs = tickMs, electionMs
	conf.SnapshotCatchUpEntries = catchUp
	conf.MaxSnapFiles, conf.MaxWalFiles = 2, 2
	conf.BackendBatchInterval = batchInterval
	conf.QuotaBackendBytes = c.tuning.quota
	if c.tuning.etcd != nil {
		c.tuning.etcd(conf)
	}
	return conf
}
