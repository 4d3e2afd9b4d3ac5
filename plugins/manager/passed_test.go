package manager

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.patchbay.dev/plugins/fdpass"
)

// passes says what becomes of the descriptors that are passed from now on.
func (n *node) passes(f func() (string, error)) { n.passed.Store(&f) }

// namespace is what becomes of a descriptor unless a test wants otherwise.
func namespace() (string, error) { return "ns-of-a-descriptor", nil }

// requestPassing asks for a connection in a namespace that is passed as a descriptor.
func (n *node) requestPassing(id, service string) (*networkservice.Connection, error) {
	n.t.Helper()
	f, err := os.Open("/proc/self/ns/net")
	if err != nil {
		n.t.Fatal(err)
	}
	defer f.Close()
	url, err := fdpass.URL(f)
	if err != nil {
		n.t.Fatal(err)
	}
	in := ask(id, service)
	in.MechanismPreferences[0].Parameters = map[string]string{"inodeURL": url}
	return networkservice.NewNetworkServiceClient(n.dial()).Request(n.t.Context(), in, fdpass.Send(f))
}

// A namespace that came as a descriptor is opened while the endpoint is asked.
func TestTheEndpointIsAskedMeanwhile(t *testing.T) {
	n := newLab(t).start("a")
	e := n.serve("e", "svc")
	n.passes(func() (string, error) {
		eventually(t, 10*time.Second, "the endpoint to be asked", func() error {
			if e.requests() == 0 {
				return errors.New("it is not")
			}
			return nil
		})
		return "the-place", nil
	})
	if _, err := n.requestPassing("c", "svc"); err != nil {
		t.Fatal(err)
	}
	x, _, _ := n.m.Records.Lookup("c")
	if got := x.GetClient().GetMechanism().GetParameters()[paramNetns]; got != "the-place" {
		t.Errorf("on record is %q", got)
	}
}

// One that turns out to be none ends the request, whatever the endpoint says of it, and nothing is left.
func TestADescriptorThatIsNoNamespace(t *testing.T) {
	refused := func(t *testing.T, n *node, e *endpoint) {
		t.Helper()
		n.passes(func() (string, error) { return "", errors.New("it is a file") })
		start := time.Now()
		_, err := n.requestPassing("c", "svc")
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "mechanism KERNEL: parameter inodeURL: it is a file") {
			t.Error(err)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("it was said after %v", took)
		}
	}
	t.Run("the endpoint hangs", func(t *testing.T) {
		n := newLab(t).start("a")
		e := n.serve("e", "svc")
		e.mu.Lock()
		refused(t, n, e)
		e.mu.Unlock()
		e.idle()
		if err := n.empty(); err != nil {
			t.Error(err)
		}
	})
	t.Run("the endpoint agrees", func(t *testing.T) {
		n := newLab(t).start("a")
		e := n.serve("e", "svc")
		refused(t, n, e)
		e.idle()
		if err := n.empty(); err != nil {
			t.Error(err)
		}
		n.passes(namespace)
		if _, err := n.requestPassing("c", "svc"); err != nil { // nothing stands in the way of the next
			t.Error(err)
		}
	})
	t.Run("the connection that there was stays", func(t *testing.T) {
		n := newLab(t).start("a")
		e := n.serve("e", "svc")
		if _, err := n.requestPassing("c", "svc"); err != nil {
			t.Fatal(err)
		}
		refused(t, n, e)
		if x, _, ok := n.m.Records.Lookup("c"); !ok || x.GetRequest().GetEndpointUrl() == "" {
			t.Error("it has gone")
		}
		n.passes(namespace)
		if _, err := n.requestPassing("c", "svc"); err != nil {
			t.Error(err)
		}
	})
}
