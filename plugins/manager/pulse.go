package manager

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"go.patchbay.dev/plugins/store"
)

// How soon a node that is cut off is noticed: 2.5 s at the latest.
const (
	pulseEvery   = time.Second
	pulseTimeout = time.Second             // of one pulse
	pulseSilence = 1500 * time.Millisecond // so long none is answered: it is lost
	pulseAgain   = 250 * time.Millisecond  // between pulses that fail at once
	// away is how long the agent of a node that answers may be gone: it restarts, or is
	// upgraded, and what its dataplane carries goes on. A node that has just booted answers
	// like that, too.
	away = 30 * time.Second
)

// followAgent keeps a monitor stream to the agent of another node open, and feels its
// pulse: the stream alone would not tell of a path that is cut.
func (l *links) followAgent(ctx context.Context, k *link, node string) {
	select {
	case <-l.m.nodes.loaded: // else it is not known where any node is reached
	case <-ctx.Done():
		return
	}
	client := networkservice.NewMonitorConnectionClient(k.cc)
	p := &pulse{m: l.m, link: k, node: node, health: healthpb.NewHealthClient(k.cc)}
	for ctx.Err() == nil {
		streaming, cut := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- l.stream(streaming, k.url, client, grpc.WaitForReady(true)) }()
		why := p.beat(ctx, ended)
		cut() // what a stream has missed comes with the first event of the next
		if why == "" {
			continue // the stream has ended by itself
		}
		release := l.lose(k, why)
		l.m.endpointLost(k.url, why)
		p.returns(ctx, release)
		l.found(k)
		release()
	}
}

// pulse tells whether another node is there.
type pulse struct {
	m      *Manager
	link   *link
	node   string
	health healthpb.HealthClient
	absent time.Time // since when its agent is away; zero: it is there
}

// beat feels the pulse until the node, or the path to it, is lost, and says why; empty: the
// stream has ended.
func (p *pulse) beat(ctx context.Context, ended <-chan error) (lost string) {
	tick := time.NewTicker(pulseEvery)
	defer tick.Stop()
	for {
		if why := p.missed(ctx); why != "" {
			return why
		}
		if why := p.broken(ctx, false); why != "" {
			return why
		}
		select {
		case <-tick.C:
		case <-p.link.changed:
		case <-ended:
			select { // not in a hot loop
			case <-time.After(reconnect / 4):
			case <-ctx.Done():
			}
			return ""
		case <-ctx.Done():
			return ""
		}
	}
}

// returns waits until the node answers, and its path carries, again. One that is not listed
// any more is sent no request, so it need not be looked for on their account.
func (p *pulse) returns(ctx context.Context, release func()) {
	for p.check(ctx, pulseTimeout) != nil || p.broken(ctx, true) != "" {
		if p.m.nodes.get(p.node) == nil {
			release()
		}
		if !store.Pause(ctx, pulseEvery) {
			return
		}
	}
	p.absent = time.Time{}
}

// missed says why the node is lost: it has not answered for a while, or its agent is away
// for too long.
func (p *pulse) missed(ctx context.Context) string {
	began := time.Now()
	for {
		err := p.check(ctx, min(pulseTimeout, pulseSilence-time.Since(began)))
		switch {
		case err == nil:
			p.absent = time.Time{}
			return ""
		case p.refuses(ctx, err):
			return p.isAway()
		case ctx.Err() != nil:
			return ""
		case time.Since(began)+pulseAgain >= pulseSilence:
			return "node " + p.node + " does not answer: " + clean(err)
		}
		if !store.Pause(ctx, pulseAgain) {
			return ""
		}
	}
}

// isAway takes note that the node is there and its agent is not.
func (p *pulse) isAway() string {
	switch {
	case p.absent.IsZero():
		p.absent = time.Now()
		p.m.Log.Info("the agent of a node is away; its connections stay", "node", p.node)
	case time.Since(p.absent) > away:
		return "the agent of node " + p.node + " has been away for " + away.String()
	}
	return ""
}

func (p *pulse) check(ctx context.Context, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	_, err := p.health.Check(ctx, &healthpb.HealthCheckRequest{})
	return err
}

// refuses tells whether the node is there and its agent is not: its kernel refuses the
// connection, or takes it, when the agent has just come back. Where neither agent has been
// there for a moment, it is not known where to ask, and the same is assumed.
func (p *pulse) refuses(ctx context.Context, err error) bool {
	if status.Code(err) != codes.Unavailable {
		return false // it hangs
	}
	address, err := p.m.addressOf(p.node)
	if err != nil {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, pulseAgain)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err == nil {
		c.Close()
		return true
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}
