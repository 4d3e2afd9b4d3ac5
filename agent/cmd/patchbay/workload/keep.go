package workload

import (
	"context"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// Pauses: between attempts that fail, and before another endpoint is asked for.
const (
	minPause = time.Second
	maxPause = 30 * time.Second
	// minRefresh keeps a reply that is about to expire from a hot loop.
	minRefresh = 100 * time.Millisecond
)

// Keep refreshes the connection at a third of what it lasts and tells Changed what becomes
// of it, until ctx ends. Connect must have succeeded.
func (w *Workload) Keep(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := make(chan heard)
	done := make(chan struct{})
	go func() { defer close(done); w.listen(ctx, events) }()
	defer func() { cancel(); <-done }()

	k := &keeper{Workload: w, what: Up, pause: minPause, timer: time.NewTimer(refreshAfter(w.conn))}
	defer k.timer.Stop()
	for {
		select {
		case <-k.timer.C:
			k.ask(ctx)
		case h := <-events:
			k.hear(h)
		case <-ctx.Done():
			return
		}
	}
}

// keeper is the state of Keep, which one goroutine has.
type keeper struct {
	*Workload
	what  Kind          // the state as last told
	anew  bool          // the next request asks for another endpoint
	pause time.Duration // after the next failure
	timer *time.Timer   // of the next request
}

// ask sends the next request: a refresh, or one that forgets what was replied.
func (k *keeper) ask(ctx context.Context) {
	conn := k.conn.Clone()
	if k.anew {
		conn = k.first()
		conn.State = networkservice.State_RESELECT_REQUESTED
	}
	before := k.conn
	after, err := k.request(ctx, conn)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		if k.what != Away { // else that says it all, and what it had may still work
			k.tell(Trouble, err)
			k.anew = true
		}
		k.timer.Reset(k.pause)
		k.pause = min(k.pause*2, maxPause)
	default:
		if k.what != Up || !proto.Equal(timeless(before), timeless(after)) {
			k.tell(Up, nil)
		}
		k.anew, k.pause = false, minPause
		k.timer.Reset(refreshAfter(after))
	}
}

// hear takes in what the monitor says.
func (k *keeper) hear(h heard) {
	switch h.what {
	case wentAway:
		k.tell(Away, nil)
	case cameBack:
		// As it was: an agent that restarts has kept it, and mends what it has not.
		k.anew, k.pause = false, minPause
		k.timer.Reset(0)
	case isUp:
		if k.what == Down {
			k.moved(h.conn)
			k.tell(Up, nil)
			k.anew, k.pause = false, minPause
			k.timer.Reset(refreshAfter(k.conn))
		}
	case isDown, isClosed:
		if k.what == Up {
			k.tell(map[sound]Kind{isDown: Down, isClosed: Closed}[h.what], nil)
			// It may come up again by itself; else another endpoint may do.
			k.anew = true
			k.timer.Reset(k.pause)
		}
	}
}

func (k *keeper) tell(what Kind, err error) {
	if what != Trouble {
		k.what = what
	}
	conn := k.conn
	if what == Down {
		conn = conn.Clone()
		conn.State = networkservice.State_DOWN
	}
	k.Changed(Event{What: what, Connection: conn, Err: err})
}

// moved takes over where the agent has led the connection to without having been asked.
func (k *keeper) moved(to *networkservice.Connection) {
	conn := k.conn.Clone()
	conn.NetworkServiceEndpointName, conn.Context = to.GetNetworkServiceEndpointName(), to.GetContext()
	k.conn = conn
}

// heard is what the agent's monitor says, and of which connection.
type heard struct {
	what sound
	conn *networkservice.Connection // of isUp, as the agent's own path segment sees it
}

// sound is a kind of what is heard.
type sound int

const (
	isUp sound = iota
	isDown
	isClosed
	wentAway
	cameBack
)

// listen monitors the connection until ctx ends, over restarts of the agent.
func (w *Workload) listen(ctx context.Context, out chan<- heard) {
	say := func(h heard) {
		select {
		case out <- h:
		case <-ctx.Done():
		}
	}
	client := networkservice.NewMonitorConnectionClient(w.Agent)
	selector := &networkservice.MonitorScopeSelector{PathSegments: []*networkservice.PathSegment{{Id: w.ID, Name: w.Name}}}
	for away := false; ctx.Err() == nil; away = true {
		w.stream(ctx, client, selector, away, say)
		if ctx.Err() != nil {
			return
		}
		say(heard{what: wentAway})
		select {
		case <-time.After(minRefresh): // an agent that ends the stream at once is not asked in a hot loop
		case <-ctx.Done():
		}
	}
}

// stream hears until the agent goes away. Waiting for it to come back is gRPC's.
func (w *Workload) stream(ctx context.Context, client networkservice.MonitorConnectionClient, selector *networkservice.MonitorScopeSelector, away bool, say func(heard)) {
	stream, err := client.MonitorConnections(ctx, selector, grpc.WaitForReady(true))
	for err == nil {
		var e *networkservice.ConnectionEvent
		if e, err = stream.Recv(); err != nil {
			return
		}
		switch {
		case e.GetType() == networkservice.ConnectionEventType_INITIAL_STATE_TRANSFER && (away || len(e.GetConnections()) == 0):
			say(heard{what: cameBack})
		case len(e.GetConnections()) == 0:
		case e.GetType() == networkservice.ConnectionEventType_DELETE:
			say(heard{what: isClosed})
		default:
			say(stateOf(e))
		}
	}
}

func stateOf(e *networkservice.ConnectionEvent) (h heard) {
	for _, c := range e.GetConnections() {
		if h.conn = c; c.GetState() == networkservice.State_DOWN {
			return heard{what: isDown}
		}
	}
	return h
}

// refreshAfter is when a connection is to be refreshed: at a third of what it lasts.
func refreshAfter(conn *networkservice.Connection) time.Duration {
	return max(lasts(conn)/3, minRefresh)
}

// timeless is a connection without what every refresh changes.
func timeless(conn *networkservice.Connection) *networkservice.Connection {
	out := conn.Clone()
	for _, s := range out.GetPath().GetPathSegments() {
		s.Expires, s.Token = nil, ""
	}
	return out
}
