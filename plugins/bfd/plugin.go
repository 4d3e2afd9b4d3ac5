// Package bfd finds out whether what tunnels go through between two nodes carries packets, by
// Bidirectional Forwarding Detection (RFC 5880) over several hops (RFC 5883): in asynchronous
// mode, without echo and authentication. VPP has the sessions of its tunnel addresses; those of
// the kernel's have a speaker of the agent's own.
package bfd

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"go.patchbay.dev/models"
	"go.patchbay.dev/vppapi"
)

// Options of a Plugin.
type Options struct {
	Detect    time.Duration  // after which a path that carries nothing is noticed
	Addresses []netip.Addr   // of this node, that tunnels end at
	VPP       *vppapi.Client // nil: none
	// OnVPP tells whether an address is VPP's, or the kernel's; not ok: it is not known yet.
	OnVPP func(netip.Addr) (vpp, ok bool)
	Log   *slog.Logger // nil: no log
}

const (
	// multiplier is how many packets must be missing in a row.
	multiplier = 4
	// settled is how long a session is given to come up before it counts that it has not: a
	// dataplane may have been restarted, and packets go once a second until then.
	settled = 5 * time.Second
	// linger is how long a path is watched after its last tunnel, so that the other node, too,
	// has noticed what this one has and can say so when it is asked.
	linger = time.Minute
	// again is how often it is seen to that all sessions are there.
	again = 2 * time.Second
)

// Plugin watches paths. Its methods may be called at the same time.
type Plugin struct {
	o        Options
	interval time.Duration
	speaker  *speaker
	kick     chan struct{}
	stop     context.CancelFunc
	done     sync.WaitGroup

	mu    sync.Mutex
	paths map[models.TunnelPath]*path
}

// path is one that is watched.
type path struct {
	watchers map[*func()]bool
	until    time.Time // it is watched without watchers
	vpp      bool      // has its session
	began    time.Time // when its session did; zero: there is none now
	up       bool
	carried  bool   // it has been up, and the other side has not said that it ends its session
	refused  string // why it has no session
}

// New returns a Plugin; call it before VPP's client is started.
func New(o Options) *Plugin {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	p := &Plugin{o: o, interval: o.Detect / multiplier, kick: make(chan struct{}, 1), paths: map[models.TunnelPath]*path{}}
	p.speaker = newSpeaker(p.interval, multiplier, p.changed, p.renewed)
	if o.VPP != nil {
		o.VPP.Watch(vppapi.Watcher{Up: p.soon, Down: func(error) { p.soon() }, BFD: p.soon})
	}
	return p
}

// Start begins to keep the sessions.
func (p *Plugin) Start(ctx context.Context) error {
	ctx, p.stop = context.WithCancel(context.WithoutCancel(ctx))
	p.done.Go(func() { p.run(ctx) })
	return nil
}

// Stop ends the sessions of the kernel's tunnels, of which it tells the other nodes. VPP goes
// on with its own.
func (p *Plugin) Stop() {
	p.stop()
	p.done.Wait()
	p.speaker.close()
}

// Watch has a path watched until stop. changed is called when the path does not carry any
// more, or does again; it must be quick.
func (p *Plugin) Watch(at models.TunnelPath, changed func()) (stop func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.watched(at)
	w.watchers[&changed] = true
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(w.watchers, &changed)
		w.until = time.Now().Add(linger)
	}
}

// watched is the path, from now on. p.mu is held.
func (p *Plugin) watched(at models.TunnelPath) *path {
	w := p.paths[at]
	if w == nil {
		w = &path{watchers: map[*func()]bool{}}
		p.paths[at] = w
		p.soon()
	}
	return w
}

// Broken tells whether a path that has carried packets does not any more.
func (p *Plugin) Broken(at models.TunnelPath) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.paths[at]
	return w != nil && w.broken()
}

func (w *path) broken() bool { return w.carried && !w.up && !w.began.IsZero() }

// Asked is what another node, whose end of the path is down, is told of this end: whether it
// has had the time to come up. The path is watched for its sake for a while; not ok: it cannot
// be, or is none of this node's.
func (p *Plugin) Asked(at models.TunnelPath) (ready, ok bool) {
	if !slices.Contains(p.o.Addresses, at.Local) {
		return false, false
	}
	p.speaker.check(at)
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.watched(at)
	w.until = time.Now().Add(linger)
	return w.ready(), w.refused == ""
}

func (w *path) ready() bool { return !w.began.IsZero() && time.Since(w.began) > settled }

// States of paths in [Plugin.Count].
const (
	StateNew  = "new"  // not up yet, or so new that it is no matter if it goes down
	StateUp   = "up"   // it carries packets
	StateDown = "down" // it does not any more
)

// Count is how many paths are in each state.
func (p *Plugin) Count() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := map[string]int{StateNew: 0, StateUp: 0, StateDown: 0}
	for _, w := range p.paths {
		switch {
		case w.broken():
			all[StateDown]++
		case w.up && w.ready():
			all[StateUp]++
		default:
			all[StateNew]++
		}
	}
	return all
}

// soon has the sessions looked at.
func (p *Plugin) soon() {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// changed takes in what has become of a session; left: the other side has ended it.
func (p *Plugin) changed(at models.TunnelPath, up, left bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w := p.paths[at]; w != nil {
		p.set(at, w, up, left)
	}
}

// renewed takes in that a session has begun anew.
func (p *Plugin) renewed(at models.TunnelPath) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w := p.paths[at]; w != nil {
		w.begin(time.Now())
	}
}

// set is changed for a path. p.mu is held.
func (p *Plugin) set(at models.TunnelPath, w *path, up, left bool) {
	if w.carried = (w.carried || up) && !left; w.up == up {
		return
	}
	w.up = up
	p.o.Log.Info("tunnel path", "local", at.Local, "remote", at.Remote, "up", up)
	for changed := range w.watchers {
		(*changed)()
	}
}

// begin notes that a path has a session that nothing is known of, or, with zero, none. p.mu is held.
func (w *path) begin(now time.Time) { w.began, w.up, w.carried = now, false, false }
