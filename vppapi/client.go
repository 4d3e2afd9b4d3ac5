// Package vppapi speaks VPP's binary API: a connection that never gives up, typed calls
// that can be repeated, the stats segment. It is the only room that imports govpp, of
// which it takes the messages and their encoding. The connection is its own, because
// govpp's notices VPP's end only by its next probe, leaves calls that were under way
// without an answer, and writes every message by itself.
package vppapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/memclnt"
)

// Release of VPP that this package speaks.
const Release = "25.10"

// ErrAway is wrapped by the error of every call while VPP cannot be called: it is not
// there, does not answer, or is another release.
var ErrAway = errors.New("VPP is away")

// Options of a Client.
type Options struct {
	Socket  string        // of the binary API, for instance /run/vpp/api.sock
	Name    string        // of this client, as `show api clients` lists it
	Timeout time.Duration // of each call whose context has no earlier deadline; 0: 5 s
	Probe   time.Duration // between probes of a VPP that is silent; 0: 1 s
	Log     *slog.Logger  // nil: no log

	// OnCall is told of every message that was sent and answered, or was not.
	OnCall func(message string, took time.Duration, err error)
	// Trace is told of every message before it is sent, when it is set.
	Trace func(message api.Message)
}

// Client is a connection to one VPP. Its methods may be called at the same time.
type Client struct {
	o   Options
	log *slog.Logger
	inv inventory

	ctx  context.Context // until Stop
	stop context.CancelFunc
	done sync.WaitGroup

	growth sync.RWMutex // see ReserveMemifs
	first  first        // see HoldSetups

	mu       sync.Mutex
	conn     *conn // nil: away
	why      error // why it is away
	version  string
	workers  int
	restarts int
	watchers []Watcher
	telling  sync.Mutex
}

// Watcher is told what happens to VPP. Its functions are called one after the other: they
// must be quick and call nothing of the Client that asks VPP.
type Watcher struct {
	Up   func()          // VPP answers; all that was known of it may have changed
	Down func(why error) // VPP went away
	// Links is told when interfaces that have a tag came up or went down, or are gone, and
	// Tagged knows; it may be told without cause.
	Links func(tags []string)
	BFD   func() // a BFD session has come up, or gone down
}

// New returns a Client that does nothing until Start.
func New(o Options) *Client {
	if o.Timeout <= 0 {
		o.Timeout = 5 * time.Second
	}
	if o.Probe <= 0 {
		o.Probe = time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.OnCall == nil {
		o.OnCall = func(string, time.Duration, error) {}
	}
	c := &Client{o: o, log: o.Log, why: fmt.Errorf("%w: nothing answers on %s", ErrAway, o.Socket)}
	c.inv.init()
	return c
}

// Watch adds a watcher; before Start.
func (c *Client) Watch(w Watcher) { c.watchers = append(c.watchers, w) }

// Start connects and stays connected until Stop. It returns after the first attempt,
// whatever has become of it.
func (c *Client) Start(ctx context.Context) {
	c.ctx, c.stop = context.WithCancel(context.WithoutCancel(ctx))
	first := make(chan struct{})
	c.done.Go(func() { c.run(c.ctx, sync.OnceFunc(func() { close(first) })) })
	<-first
}

// Stop closes the connection; what is programmed stays.
func (c *Client) Stop() {
	if c.stop != nil {
		c.stop()
	}
	c.done.Wait()
}

// Up is nil while VPP answers, else says why not; it wraps ErrAway then.
func (c *Client) Up() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil && !c.conn.silent {
		return nil
	}
	return c.why
}

// Gone tells whether VPP is not there at all, as opposed to silent: nothing of ours is in
// a VPP that is gone, and one that comes back is looked at before anything is done.
func (c *Client) Gone() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn == nil
}

// Version is VPP's, empty before it has answered for the first time.
func (c *Client) Version() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.version
}

// Restarts counts how often VPP came back after it was away.
func (c *Client) Restarts() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.restarts
}

// Pauses between attempts to connect: short while VPP is thought to be starting again, so
// that it is noticed at once; later long, for a node that has none.
const (
	minPause = 10 * time.Millisecond
	maxPause = 500 * time.Millisecond
	restart  = 10 * time.Second // that VPP may take to start
)

// run connects again and again.
func (c *Client) run(ctx context.Context, attempted func()) {
	said, pause := "", minPause
	for gone := time.Now(); ; {
		k, err := c.connect(ctx)
		if err == nil {
			said, pause = "", minPause
			err = c.serve(ctx, k, attempted)
			gone = time.Now()
		}
		if ctx.Err() == nil {
			c.away(err)
		}
		attempted()
		if ctx.Err() != nil {
			return
		}
		if err.Error() != said {
			said = err.Error()
			c.log.Warn("VPP cannot be called", "err", err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		if time.Since(gone) > restart {
			pause = min(pause*3/2, maxPause)
		}
	}
}

// connect dials, says who we are and checks that it is the VPP that we know.
func (c *Client) connect(ctx context.Context) (*conn, error) {
	d := net.Dialer{Timeout: c.o.Timeout}
	sock, err := d.DialContext(ctx, "unix", c.o.Socket)
	if err != nil {
		return nil, fmt.Errorf("%w: nothing answers on %s: %w", ErrAway, c.o.Socket, err)
	}
	defer context.AfterFunc(ctx, func() { sock.Close() })()
	k := newConn(sock)
	if err := k.handshake(c.o.Name, time.Now().Add(c.o.Timeout)); err != nil {
		sock.Close()
		return nil, fmt.Errorf("%w: %s: %w", ErrAway, c.o.Socket, err)
	}
	if err := k.check(); err != nil {
		version := k.askVersion(c.o.Timeout)
		sock.Close()
		return nil, fmt.Errorf("%w: VPP %s on %s is not the release %s that this agent speaks: %w; install VPP %s",
			ErrAway, version, c.o.Socket, Release, err, Release)
	}
	return k, nil
}

// serve reads from a connection until it ends.
func (c *Client) serve(ctx context.Context, k *conn, attempted func()) error {
	ended := make(chan error, 1)
	go func() { ended <- k.read(c.event) }()
	defer context.AfterFunc(ctx, func() { k.sock.Close() })()
	probe := time.NewTicker(c.o.Probe)
	defer probe.Stop()
	err := c.greet(ctx, k)
	if err == nil {
		attempted()
	}
	for err == nil {
		select {
		case err = <-ended:
			ended <- err
		case <-probe.C:
			c.probe(ctx, k)
		}
	}
	k.sock.Close()
	if ctx.Err() == nil {
		c.away(err) // so that those whose calls fail find it gone
	}
	k.fail(fmt.Errorf("%w: the connection ended: %w", ErrAway, err))
	<-ended
	return err
}

// greet learns what is there and tells the watchers.
func (c *Client) greet(ctx context.Context, k *conn) error {
	version, workers, err := c.hello(ctx, k)
	if err != nil {
		return fmt.Errorf("%w: %s does not answer: %w", ErrAway, c.o.Socket, err)
	}
	c.mu.Lock()
	if c.version != "" {
		c.restarts++
	}
	c.conn, c.version, c.workers = k, version, workers
	c.mu.Unlock()
	c.log.Info("VPP answers", "version", version, "workers", workers, "socket", c.o.Socket)
	c.tell(func(w Watcher) {
		if w.Up != nil {
			w.Up()
		}
	})
	return nil
}

// tell calls the watchers, for one thing at a time.
func (c *Client) tell(what func(Watcher)) {
	c.telling.Lock()
	defer c.telling.Unlock()
	for _, w := range c.watchers {
		what(w)
	}
}

// away notes that VPP is gone and tells the watchers, once.
func (c *Client) away(err error) {
	if !errors.Is(err, ErrAway) {
		err = fmt.Errorf("%w: the connection to %s ended: %w", ErrAway, c.o.Socket, err)
	}
	c.mu.Lock()
	was := c.conn != nil
	c.conn, c.why = nil, err
	c.mu.Unlock()
	if !was {
		return
	}
	c.inv.clear()
	c.tell(func(w Watcher) {
		if w.Down != nil {
			w.Down(err)
		}
	})
}

// probe asks VPP for a sign of life. One that is stopped or busy for long counts as away:
// new calls fail at once, those under way keep their time.
func (c *Client) probe(ctx context.Context, k *conn) {
	if k.heard() < c.o.Probe {
		c.setSilent(k, false)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, c.o.Probe)
	defer cancel()
	err := c.exchange(ctx, k, one(&memclnt.ControlPing{}, &memclnt.ControlPingReply{}))
	c.setSilent(k, err != nil && k.heard() > 2*c.o.Probe)
}

func (c *Client) setSilent(k *conn, silent bool) {
	c.mu.Lock()
	was := k.silent
	k.silent = silent
	if silent {
		c.why = fmt.Errorf("%w: it has not answered for %s; see whether it is stopped or overloaded", ErrAway, k.heard().Round(time.Second))
	}
	c.mu.Unlock()
	switch {
	case silent && !was:
		c.log.Warn("VPP has stopped answering")
	case was && !silent:
		c.log.Info("VPP answers again")
	}
}
