package manager

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"go.patchbay.dev/models"
)

// wires are the paths from a node, in memory.
type wires struct {
	mu      sync.Mutex
	broken  map[models.TunnelPath]bool
	watched map[models.TunnelPath]func()
	unready bool // its ends have just begun
	none    bool // it watches no paths
	asked   chan struct{}
}

func newWires() *wires {
	return &wires{broken: map[models.TunnelPath]bool{}, watched: map[models.TunnelPath]func(){}, asked: make(chan struct{}, 100)}
}

func (w *wires) Watch(p models.TunnelPath, changed func()) (stop func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watched[p] = changed
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.watched, p)
	}
}

func (w *wires) Broken(p models.TunnelPath) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.broken[p]
}

func (w *wires) Asked(models.TunnelPath) (ready, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case w.asked <- struct{}{}:
	default:
	}
	return !w.unready, !w.none
}

// set has a node's paths be broken, or not, and tells its manager.
func (w *wires) set(broken bool, to ...*node) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for p, changed := range w.watched {
		for _, n := range to {
			if p.Remote == addressOf(n.name) {
				w.broken[p] = broken
				changed()
			}
		}
	}
}

// answers is what the node tells others from now on.
func (w *wires) answers(unready, none bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unready, w.none = unready, none
}

// paths is how many are watched.
func (n *node) paths() int {
	n.wires.mu.Lock()
	defer n.wires.mu.Unlock()
	return len(n.wires.watched)
}

func TestAPathThatBreaksIsLeft(t *testing.T) {
	l := newLab(t)
	a, b, other := l.start("a"), l.start("b"), l.start("c")
	first := b.serve("fw-1", "fw")
	c := a.connect("c1", "fw")
	a.connectedTo("c1", 5*time.Second, first)
	if a.paths() != 1 || b.paths() != 1 {
		t.Fatalf("%d paths are watched on a, %d on b", a.paths(), b.paths())
	}
	twin := other.serve("fw-2", "fw")
	a.wires.set(true, b)
	b.wires.set(true, a)
	if took := a.connectedTo("c1", 10*time.Second, twin); took > detected {
		t.Logf("it took %v; the machine may be busy", took)
	}
	if want := "the path to node b (fd00::62) carries nothing, though its agent answers"; !strings.Contains(a.log.String(), want) {
		t.Errorf("the log does not say %q", want)
	}
	eventually(t, 5*time.Second, "b's half to be given back", b.empty)
	for _, id := range []string{"c2", "c3"} { // by turns, one would go to b
		a.connect(id, "fw")
		a.connectedTo(id, 5*time.Second, twin)
	}
	a.wires.set(false, b)
	b.wires.set(false, a)
	eventually(t, 10*time.Second, "b to be asked again", func() error {
		conn := a.connect("c4", "fw")
		defer a.close(conn)
		if conn.NetworkServiceEndpointName != "fw-1" {
			return errors.New("it is not")
		}
		return nil
	})
	a.connectedTo("c1", 5*time.Second, twin) // nothing moves back
	for _, id := range []string{"c1", "c2", "c3"} {
		c.Id, c.Path.PathSegments[0].Id = id, id
		a.close(c)
	}
	eventually(t, 5*time.Second, "no path to be watched", func() error {
		if n := a.paths() + b.paths(); n != 0 {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
}

// pathLost is connection c1 of node a to an endpoint of node b, when the path there is down.
func pathLost(t *testing.T) (a, b *node, first *endpoint) {
	l := newLab(t)
	a, b = l.start("a"), l.start("b")
	first = b.serve("fw-1", "fw")
	a.connect("c1", "fw")
	a.connectedTo("c1", 5*time.Second, first)
	a.wires.set(true, b)
	return a, b, first
}

// Without a twin the connection stays, says why it carries nothing, and is well again when
// the path is.
func TestAPathThatComesBack(t *testing.T) {
	a, b, first := pathLost(t)
	a.says("c1", "the path to node b")
	b.wires.answers(true, false) // its agent restarts; that makes no path well
	b.restart()
	if _, err := a.request(ask("c2", "fw")); err == nil || !strings.Contains(err.Error(), "the path to node b") {
		t.Errorf("a request meanwhile: %v", err)
	}
	a.wires.set(false, b)
	a.connectedTo("c1", 10*time.Second, first)
	if n := first.requests(); n > 2 { // once, and once more if a try to heal it meets the path's return
		t.Errorf("the endpoint was asked %d times", n)
	}
}

// answering is another agent's health.
type answering struct {
	healthpb.HealthClient
	is  healthpb.HealthCheckResponse_ServingStatus
	err error
}

func (a answering) Check(context.Context, *healthpb.HealthCheckRequest, ...grpc.CallOption) (*healthpb.HealthCheckResponse, error) {
	if a.err != nil {
		return nil, a.err
	}
	return &healthpb.HealthCheckResponse{Status: a.is}, nil
}

// What the other end says of a path whose session is down, or that it says nothing.
func TestWhatIsThoughtOfAPath(t *testing.T) {
	a, _, _ := pathLost(t)
	a.m.links.mu.Lock()
	link := a.m.links.by[nodeURL("b")]
	a.m.links.mu.Unlock()
	for _, c := range []struct {
		name       string
		other      answering
		anew, once bool // broken, if it was thought well before, and if it was thought broken
	}{
		{"it has had the time", answering{is: healthpb.HealthCheckResponse_SERVING}, true, true},
		{"it has just come back", answering{is: healthpb.HealthCheckResponse_NOT_SERVING}, false, true},
		{"it ends while it is asked", answering{err: status.Error(codes.Unavailable, "")}, false, true},
		{"it hangs", answering{err: status.Error(codes.DeadlineExceeded, "")}, false, true},
		{"it watches no paths", answering{err: status.Error(codes.NotFound, "")}, false, false},
	} {
		p := &pulse{m: a.m, node: "b", link: link, health: c.other}
		for before, want := range map[bool]bool{false: c.anew, true: c.once} {
			if why := p.broken(t.Context(), before); (why != "") != want {
				t.Errorf("%s, thought broken before: %v: %q", c.name, before, why)
			}
		}
	}
}

// A session that is down says nothing while the other end has not had the time to come up, or
// where it watches no paths.
func TestAnEndThatCannotSayIsBelieved(t *testing.T) {
	for _, c := range []struct {
		name          string
		unready, none bool
		lost          bool // in the end
	}{
		{"its agent, or VPP, has just come back", true, false, true},
		{"it watches no paths", false, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			a, b, other := l.start("a"), l.start("b"), l.start("c")
			first := b.serve("fw-1", "fw")
			a.connect("c1", "fw")
			a.connectedTo("c1", 5*time.Second, first)
			twin := other.serve("fw-2", "fw")
			b.wires.answers(c.unready, c.none)
			a.wires.set(true, b)
			<-b.wires.asked // at once
			<-b.wires.asked // and with the next pulse
			a.connectedTo("c1", 5*time.Second, first)
			if !c.lost {
				return
			}
			b.wires.answers(false, false)
			a.connectedTo("c1", 10*time.Second, twin)
		})
	}
}
