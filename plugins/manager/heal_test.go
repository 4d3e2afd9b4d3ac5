package manager

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.patchbay.dev/models"
)

// connectedTo waits until a connection of a node is up at an endpoint.
func (n *node) connectedTo(id string, within time.Duration, e *endpoint) time.Duration {
	n.t.Helper()
	return eventually(n.t, within, id+" to be connected", func() error {
		n.m.mu.Lock()
		defer n.m.mu.Unlock()
		c := n.m.connections[id]
		if c == nil || c.lost != "" || c.status.GetState() != models.State_UP {
			return fmt.Errorf("connection %v, lost %q, status %v", c != nil, lostOf(c), statusOf(c))
		}
		if c.conn.NetworkServiceEndpointName != e.name {
			return fmt.Errorf("it is at %s", c.conn.NetworkServiceEndpointName)
		}
		return nil
	})
}

// says waits until the status of a connection says that it is down, and why.
func (n *node) says(id, why string) {
	n.t.Helper()
	eventually(n.t, 10*time.Second, "the status to say so", func() error {
		_, s, _ := n.m.Records.Lookup(id)
		if s.GetState() != models.State_DOWN || !strings.Contains(s.GetReason(), why) {
			return fmt.Errorf("status %v", s)
		}
		return nil
	})
}

// has waits until a node has so many records.
func (n *node) has(records int) {
	n.t.Helper()
	eventually(n.t, 10*time.Second, fmt.Sprintf("%s to have %d records", n.name, records), func() error {
		if r := n.records(); len(r) != records {
			return fmt.Errorf("it has %v", r)
		}
		return nil
	})
}

func lostOf(c *connection) string {
	if c == nil {
		return ""
	}
	return c.lost
}

func statusOf(c *connection) *models.CrossConnectStatus {
	if c == nil {
		return nil
	}
	return c.status
}

// detected is how soon a node that is cut off is noticed at the latest, with a machine
// that has other things to do.
const detected = 3*time.Second + time.Second

func TestAConnectionIsHealed(t *testing.T) {
	for _, c := range []struct {
		name  string
		cause func(b *node, e *endpoint)
	}{
		{"when its endpoint dies", func(_ *node, e *endpoint) { e.die() }},
		{"when its node dies", func(b *node, _ *endpoint) { b.die() }},
		{"when the path to its node is cut", func(b *node, _ *endpoint) { b.path.cut(true) }},
		{"when its endpoint wants it to go elsewhere", func(_ *node, e *endpoint) { e.say(networkservice.State_RESELECT_REQUESTED) }},
		{"when its endpoint says that it is down", func(_ *node, e *endpoint) { e.say(networkservice.State_DOWN) }},
		{"when the endpoint's node has closed it", func(b *node, _ *endpoint) {
			for _, key := range b.records() {
				b.etcd.Delete(context.Background(), key)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			a, b, other := l.start("a"), l.start("b"), l.start("c")
			first := b.serve("fw-1", "fw")
			conn := a.connect("c1", "fw")
			a.connectedTo("c1", 5*time.Second, first)
			twin := other.serve("fw-2", "fw")
			c.cause(b, first)
			took := a.connectedTo("c1", 15*time.Second, twin)
			if took > detected+time.Second {
				t.Logf("it took %v; the machine may be busy", took)
			}
			if got := conn.Path.PathSegments[0].Id; got != "c1" {
				t.Error("the id is", got)
			}
		})
	}
}

// TestAHealedConnectionIsThatOfItsClient: it is refreshed and closed as if nothing had been.
func TestAHealedConnectionIsThatOfItsClient(t *testing.T) {
	l := newLab(t)
	a, b := l.start("a"), l.start("b")
	first := b.serve("fw-1", "fw")
	c := a.connect("c1", "fw")
	twin := a.serve("fw-2", "fw")
	first.die()
	a.connectedTo("c1", 10*time.Second, twin)
	again, err := a.request(&networkservice.NetworkServiceRequest{Connection: c})
	if err != nil || again.NetworkServiceEndpointName == "" {
		t.Fatalf("refresh: %v, %v", again, err)
	}
	a.connectedTo("c1", 10*time.Second, twin)
	eventually(t, 5*time.Second, "b's half to be given back", b.empty)
	a.close(again)
	eventually(t, 5*time.Second, "nothing to be left", a.empty)
}

// TestAnAgentThatRestartsLosesNothing: neither side makes a new connection.
func TestAnAgentThatRestartsLosesNothing(t *testing.T) {
	l := newLab(t)
	a, b := l.start("a"), l.start("b")
	first, twin := b.serve("fw-1", "fw"), a.serve("fw-2", "fw")
	c, err := a.request(&networkservice.NetworkServiceRequest{Connection: &networkservice.Connection{Id: "c1", NetworkService: "fw", NetworkServiceEndpointName: "fw-1"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []*node{b, a} {
		n.restart()
		a.connectedTo("c1", 10*time.Second, first)
		if _, err := a.request(&networkservice.NetworkServiceRequest{Connection: c}); err != nil {
			t.Fatalf("refresh after a restart of %s: %v", n.name, err)
		}
		a.connectedTo("c1", 10*time.Second, first)
	}
	if n := twin.requests(); n != 0 {
		t.Errorf("the twin was asked %d times", n)
	}
	if strings.Contains(a.log.String(), "connection healed") {
		t.Error("a restart was healed")
	}
}

// TestWhatCannotBeHealedSaysSo, is tried with pauses, and is connected when an endpoint comes.
func TestWhatCannotBeHealedSaysSo(t *testing.T) {
	l := newLab(t)
	a, b := l.start("a"), l.start("b")
	first := b.serve("fw-1", "fw")
	a.connect("c1", "fw")
	b.etcd.Delete(t.Context(), b.keys.Endpoint("fw-1"))
	first.die()
	a.says("c1", "could not be healed: ")
	twin := b.serve("fw-2", "fw")
	a.connectedTo("c1", 5*time.Second, twin)
	_, s, _ := a.m.Records.Lookup("c1")
	if s.GetState() != models.State_UP || s.GetReason() != "" {
		t.Errorf("status %v", s)
	}
}

// TestANodeThatIsLostIsNotWaitedFor by requests: they go to the next endpoint, or fail with
// the reason before their time is up.
func TestANodeThatIsLostIsNotWaitedFor(t *testing.T) {
	l := newLab(t)
	a, b, other := l.start("a"), l.start("b"), l.start("c")
	b.serve("fw-1", "fw")
	a.connect("c1", "fw")
	b.path.cut(true)
	eventually(t, 10*time.Second, "a to have lost b", func() error {
		a.m.mu.Lock()
		defer a.m.mu.Unlock()
		if lostOf(a.m.connections["c1"]) == "" {
			return errors.New("it has not")
		}
		return nil
	})
	pinned := ask("c2", "fw")
	pinned.Connection.NetworkServiceEndpointName = "fw-1"
	if _, err := a.request(pinned); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "endpoint fw-1: node b does not answer") {
		t.Errorf("a request for the endpoint there: %v", err)
	}
	twin := other.serve("fw-2", "fw")
	a.connectedTo("c1", 10*time.Second, twin)
	for _, id := range []string{"c3", "c4"} { // by turns, one would go to b
		a.connect(id, "fw")
		a.connectedTo(id, 5*time.Second, twin)
	}
}

// TestANodeThatComesIsTried at once for what could not be healed, however long the pause is.
func TestANodeThatComesIsTried(t *testing.T) {
	l := newLab(t)
	a, b, other := l.start("a"), l.start("b"), l.start("c")
	first, twin := b.serve("fw-1", "fw"), other.serve("fw-2", "fw")
	in := ask("c1", "fw")
	in.Connection.NetworkServiceEndpointName = "fw-1"
	eventually(t, 5*time.Second, "a connection", func() error { _, err := a.request(in); return err })
	other.etcd.Delete(t.Context(), other.keys.Agent())
	eventually(t, 5*time.Second, "c to be gone", func() error {
		if a.m.Node("c") != nil {
			return errors.New("it is there")
		}
		return nil
	})
	first.die()
	eventually(t, 10*time.Second, "healing to fail", func() error {
		a.m.mu.Lock()
		defer a.m.mu.Unlock()
		h := &a.m.connections["c1"].healing
		if h.failed == "" || h.timer == nil {
			return errors.New("it has not")
		}
		h.timer.Reset(time.Hour)
		return nil
	})
	other.publish()
	a.connectedTo("c1", 10*time.Second, twin)
}

// TestALongRequestPutsNothingOff for good: what was due while it had the connection is done
// when it has ended.
func TestALongRequestPutsNothingOff(t *testing.T) {
	t.Parallel()
	a := newLab(t).start("a")
	first := a.serve("fw-1", "fw")
	a.connect("c1", "fw")
	soon := ask("c2", "fw")
	soon.Connection.Path = &networkservice.Path{PathSegments: []*networkservice.PathSegment{{Name: "client", Id: "c2", Expires: at(2 * time.Second)}}}
	if _, err := a.request(soon); err != nil {
		t.Fatal(err)
	}
	var ends []func()
	for _, id := range []string{"c1", "c2"} {
		unlock, err := a.m.ids.lock(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, unlock)
	}
	twin := a.serve("fw-2", "fw")
	first.say(networkservice.State_RESELECT_REQUESTED)
	time.Sleep(DefaultTimeout + 3*time.Second) // longer than either is waited for
	for _, end := range ends {
		end()
	}
	a.connectedTo("c1", 10*time.Second, twin)
	a.has(1)
}

// TestHealingDoesNotFlap: an endpoint that takes connections and loses them again is left
// alone for longer each time.
func TestHealingDoesNotFlap(t *testing.T) {
	h := healing{}
	var last time.Duration
	for i := range 8 {
		h.tries = i
		p := h.pause(healSettle)
		if p < last && last < healMost {
			t.Errorf("pause %d is %v after %v", i, p, last)
		}
		last = p
	}
	if last < healMost || last > healMost+healMost/5 {
		t.Errorf("the longest pause is %v", last)
	}
}

// TestWhatWasWellForLongIsTriedWithGrowingPausesToo: only its first try is at once.
func TestWhatWasWellForLongIsTriedWithGrowingPausesToo(t *testing.T) {
	l := newLab(t)
	a := l.start("a")
	first := a.serve("fw-1", "fw")
	a.connect("c1", "fw")
	a.m.mu.Lock()
	a.m.connections["c1"].healing = healing{tries: 7, well: time.Now().Add(-2 * healStable)}
	a.m.mu.Unlock()
	first.die()
	eventually(t, 10*time.Second, "a second try", func() error {
		a.m.mu.Lock()
		defer a.m.mu.Unlock()
		if n := a.m.connections["c1"].healing.tries; n != 2 {
			return fmt.Errorf("tries %d", n)
		}
		return nil
	})
}

// TestAConnectionThatComesBackOutlivesItsClose: the endpoint that it left hears of that late,
// and only then that it is there again.
func TestAConnectionThatComesBackOutlivesItsClose(t *testing.T) {
	l := newLab(t)
	a := l.start("a")
	first := a.serve("fw-1", "fw")
	conn := a.connect("c1", "fw")
	twin := a.serve("fw-2", "fw")
	asked, closing, closed := first.requests(), make(chan struct{}), make(chan struct{})
	first.parts = func() func() {
		close(closing)
		for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end) && first.requests() == asked; {
			time.Sleep(time.Millisecond)
		}
		return func() { close(closed) }
	}
	for _, e := range []*endpoint{twin, first} {
		conn.State, conn.NetworkServiceEndpointName = networkservice.State_RESELECT_REQUESTED, e.name
		var err error
		if conn, err = a.request(&networkservice.NetworkServiceRequest{Connection: conn}); err != nil || conn.NetworkServiceEndpointName != e.name {
			t.Fatalf("to %s: %v, %v", e.name, conn, err)
		}
		<-closing
	}
	<-closed
	first.mu.Lock()
	defer first.mu.Unlock()
	if n := len(first.conns); n != 1 {
		t.Errorf("the endpoint has %d connections", n)
	}
}

// TestAClientThatMonitorsIsToldAndMayActItself: it hears of the loss, asks for another
// endpoint, and the agent does nothing of its own.
func TestAClientThatMonitorsIsToldAndMayActItself(t *testing.T) {
	l := newLab(t)
	a, b := l.start("a"), l.start("b")
	first := b.serve("fw-1", "fw")
	c := a.connect("c1", "fw")
	stream, err := networkservice.NewMonitorConnectionClient(a.dial()).MonitorConnections(t.Context(),
		&networkservice.MonitorScopeSelector{PathSegments: []*networkservice.PathSegment{{Id: "c1"}}})
	if err != nil {
		t.Fatal(err)
	}
	next := func(state networkservice.State) {
		t.Helper()
		for {
			e, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range e.Connections {
				if c.State == state {
					return
				}
			}
		}
	}
	next(networkservice.State_UP)
	twin := a.serve("fw-2", "fw")
	first.say(networkservice.State_RESELECT_REQUESTED)
	next(networkservice.State_RESELECT_REQUESTED)
	c.State, c.NetworkServiceEndpointName, c.Mechanism = networkservice.State_RESELECT_REQUESTED, "", nil
	if _, err := a.request(&networkservice.NetworkServiceRequest{Connection: c, MechanismPreferences: ask("", "").MechanismPreferences}); err != nil {
		t.Fatal(err)
	}
	next(networkservice.State_UP)
	a.connectedTo("c1", 5*time.Second, twin)
	if n := twin.requests(); n != 1 {
		t.Errorf("the twin was asked %d times, want 1", n)
	}
}

// TestManyConnectionsAreHealedAtOnce when a node is cut off.
func TestManyConnectionsAreHealedAtOnce(t *testing.T) {
	l := newLab(t)
	a, b, other := l.start("a"), l.start("b"), l.start("c")
	first := b.serve("fw-1", "fw")
	const n = 100
	errs := make(chan error, n)
	for i := range n {
		go func() { _, err := a.request(ask(fmt.Sprint("c", i), "fw")); errs <- err }()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	a.connectedTo("c0", 5*time.Second, first)
	twin := other.serve("fw-2", "fw")
	b.die()
	start := time.Now()
	for i := range n {
		a.connectedTo(fmt.Sprint("c", i), 20*time.Second, twin)
	}
	t.Logf("%d connections healed in %v", n, time.Since(start))
}

// TestHalvesWithoutTheOtherAreGivenBack: an agent that has forgotten a connection is known to
// have when the stream to it is open again.
func TestHalvesWithoutTheOtherAreGivenBack(t *testing.T) {
	l := newLab(t)
	a, b := l.start("a"), l.start("b")
	b.serve("fw-1", "fw")
	a.connect("c1", "fw")
	a.connect("c2", "fw")
	a.stop()
	a.etcd.Delete(t.Context(), a.keys.CrossConnect("c1")) // it died before it was put
	a.run()
	b.has(1)
}

// TestAHalfThatIsBeingAskedForStays: what the agent that asks has not on record yet it names
// to the node that it asks, and to no other.
func TestAHalfThatIsBeingAskedForStays(t *testing.T) {
	l := newLab(t)
	a, b, other := l.start("a"), l.start("b"), l.start("c")
	b.serve("fw-1", "fw")
	a.connect("c1", "fw")
	id := strings.TrimPrefix(b.records()[0], b.keys.CrossConnects())
	done := a.m.asks(nodeURL("b"), id)
	initial := func(n *node) *networkservice.ConnectionEvent {
		t.Helper()
		cc, err := n.m.dialNode("a")
		if err != nil {
			t.Fatal(err)
		}
		defer cc.Close()
		stream, err := networkservice.NewMonitorConnectionClient(cc).MonitorConnections(t.Context(),
			&networkservice.MonitorScopeSelector{PathSegments: []*networkservice.PathSegment{{Name: n.name}}})
		if err != nil {
			t.Fatal(err)
		}
		e, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	if e := initial(other); len(e.Connections) != 0 {
		t.Errorf("c is told of %v", e.Connections)
	}
	e := initial(b)
	if e.Connections[id] == nil {
		t.Fatalf("b is told of %v, and not of %s", e.Connections, id)
	}
	e.Connections = map[string]*networkservice.Connection{id: e.Connections[id]}
	b.m.endpointEvent(nodeURL("a"), time.Now(), e)
	b.m.mu.Lock()
	c := b.m.connections[id]
	b.m.mu.Unlock()
	if c == nil || c.orphan != nil {
		t.Fatalf("it is thought to be nobody's: %v", c)
	}
	done()
	e.Connections = nil
	b.m.endpointEvent(nodeURL("a"), time.Now(), e)
	b.has(0)
}
