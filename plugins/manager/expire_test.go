package manager

import (
	"errors"
	"testing"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// lasting asks for a connection that lasts so long.
func lasting(id string, d time.Duration) *networkservice.NetworkServiceRequest {
	in := ask(id, "fw")
	in.Connection.Path = &networkservice.Path{PathSegments: []*networkservice.PathSegment{{Name: "client", Id: id, Expires: at(d)}}}
	return in
}

// spares waits until a connection is spared or is not any more.
func (n *node) spares(id string, want bool) {
	n.t.Helper()
	eventually(n.t, 10*time.Second, "the expiry of "+id, func() error {
		n.m.mu.Lock()
		defer n.m.mu.Unlock()
		if c := n.m.connections[id]; c == nil || c.spared != want {
			return errors.New("it is not as it should be")
		}
		return nil
	})
}

func TestAConnectionOutlivesAnEtcdThatIsAway(t *testing.T) {
	for _, c := range []struct {
		name  string
		lasts time.Duration
		away  func(n *node)
	}{
		{"when it expires meanwhile", 2 * time.Second, func(*node) {}},
		{"when it could not be refreshed and expires just after", 2 * time.Second, func(n *node) {
			if _, err := n.request(lasting("c1", time.Minute)); status.Code(err) != codes.Unavailable {
				n.t.Errorf("a refresh while etcd is away: %v", err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := newLab(t).start("a")
			n.serve("fw-1", "fw")
			if _, err := n.request(lasting("c1", c.lasts)); err != nil {
				t.Fatal(err)
			}
			n.etcd.cut(true)
			c.away(n)
			n.spares("c1", true)
			n.etcd.cut(false)
			n.spares("c1", false) // it has expired, and has its grace
			if records := n.records(); len(records) != 1 {
				t.Fatalf("records %v", records)
			}
			if _, err := n.request(lasting("c1", 2*time.Second)); err != nil {
				t.Errorf("a refresh once etcd is back: %v", err)
			}
			eventually(t, 10*time.Second, "it to expire as every other", n.empty)
		})
	}
}
