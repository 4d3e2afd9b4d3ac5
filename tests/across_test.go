package tests

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"

	nodes "go.patchbay.dev/agent/lab"
	"go.patchbay.dev/tests/lab"
)

// across is what stories between nodes need: a lab, a client with a namespace on the first
// node, an endpoint that serves "fw" on the second.
type across struct {
	*lab.Nodes
	near, far *lab.Node
	client    *lab.Client
	ns        *lab.Namespace
	endpoint  *lab.Endpoint
}

func newAcross(t *testing.T, o nodes.Options) *across {
	t.Helper()
	l := lab.StartNodes(t, o)
	s := &across{Nodes: l, near: l.List[0], far: l.List[1], ns: lab.NewNamespace(t)}
	s.client = lab.NewClient(t, s.near.Dial())
	s.endpoint = lab.NewEndpoint(t, s.far.Agent, "fw-2")
	s.endpoint.Register(s.far.Dial(), "fw")
	s.knows(t, s.near, "fw-2")
	return s
}

// knows waits until a node has heard of an endpoint.
func (s *across) knows(t *testing.T, n *lab.Node, endpoint string) {
	t.Helper()
	lab.Eventually(t, 10*time.Second, "the endpoint to be known", func() error {
		if out := n.Patchbay("get", "endpoints"); !strings.Contains(out, endpoint) {
			return fmt.Errorf("endpoints: %s", out)
		}
		return nil
	})
}

// connect connects the client, which tries again as every client does: a node is heard of by
// another watch than its endpoint.
func (s *across) connect(t *testing.T, id, name string) (conn *networkservice.Connection) {
	t.Helper()
	lab.Eventually(t, 10*time.Second, "connection "+id, func() (err error) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		conn, err = s.client.Pass(ctx, lab.NewRequest(t, id, "fw", s.ns, name), s.ns)
		return err
	})
	return conn
}

// farID is the id of a connection's record on the next node: that of the first agent's
// path segment.
func farID(conn *networkservice.Connection) string { return conn.Path.PathSegments[1].Id }

// leftNothing checks that no node has anything of any connection any more.
func (s *across) leftNothing(t *testing.T) {
	t.Helper()
	lab.Eventually(t, 10*time.Second, "everything to be gone", func() error {
		left := s.near.Etcdctl("get", "--prefix", "--keys-only", "/patchbay/v1/nodes/") + s.near.Etcdctl("get", "--prefix", "--keys-only", "/patchbay/v1/status/")
		return none(append(append(s.ns.Interfaces(t), s.endpoint.Net.Interfaces(t)...), strings.Fields(left)...))
	})
}

// statusAt reads the status of a cross-connect of a node.
func statusAt(n *lab.Node, id string) (s linkStatus, err error) {
	text, err := n.TryEtcdctl("get", "--print-value-only", "/patchbay/v1/status/"+n.Host.Name+"/crossconnects/"+id)
	switch {
	case err != nil:
		return s, fmt.Errorf("%w: %s", err, text)
	case strings.TrimSpace(text) == "":
		return s, fmt.Errorf("node %s has no status of %s yet", n.Host.Name, id)
	}
	return s, json.Unmarshal([]byte(text), &s)
}

// awaitAt waits until a cross-connect of a node has a state.
func awaitAt(t *testing.T, n *lab.Node, id, state string) (s linkStatus) {
	t.Helper()
	lab.Eventually(t, 20*time.Second, fmt.Sprintf("%s to be %s on node %s", id, state, n.Host.Name), func() (err error) {
		if s, err = statusAt(n, id); err == nil && s.State != state {
			err = fmt.Errorf("it is %+v", s)
		}
		return err
	})
	return s
}

// mtuOf is the MTU of an interface in a namespace.
func mtuOf(t *testing.T, ns *lab.Namespace, name string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(ns.Run(t, "cat", "/sys/class/net/"+name+"/mtu")))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// fullSize sends what fills the MTU and must not be cut, and sees that one byte more is
// refused by the workload's own kernel.
func fullSize(t *testing.T, ns *lab.Namespace, address string, mtu int) {
	t.Helper()
	headers := 28 // of IP and ICMP, bytes
	if strings.Contains(address, ":") {
		headers = 48
	}
	ns.Run(t, "ping", "-c", "1", "-w", "5", "-M", "do", "-s", strconv.Itoa(mtu-headers), address)
	if out, err := ns.Try("ping", "-c", "1", "-W", "0.1", "-M", "do", "-s", strconv.Itoa(mtu-headers+1), address); err == nil || !strings.Contains(out, "essage too long") {
		t.Errorf("a packet larger than %d bytes: %v: %s", mtu, err, out)
	}
}

// manyBytes sends 4 MB over TCP, in full segments, and sees that all of them arrive.
func manyBytes(t *testing.T, from, to *lab.Namespace, address string) {
	t.Helper()
	const size = 4 << 20
	l, err := to.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	arrived := make(chan int64, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			arrived <- 0
			return
		}
		defer conn.Close()
		n, _ := io.Copy(io.Discard, conn) // what is missing is seen below
		arrived <- n
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, err := from.Dial(ctx, "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	deadline, _ := ctx.Deadline()
	err = conn.SetDeadline(deadline)
	if err == nil {
		_, err = conn.Write(make([]byte, size))
	}
	if err = errors.Join(err, conn.Close()); err != nil {
		t.Fatalf("send: %v", err)
	}
	select {
	case n := <-arrived:
		if n != size {
			t.Errorf("%d of %d bytes arrived", n, size)
		}
	case <-ctx.Done():
		t.Error("not all has arrived after 20 s")
	}
}

func TestAcrossConnectAndLeaveNothing(t *testing.T) {
	t.Parallel()
	s := newAcross(t, nodes.Options{Nodes: 2})
	conn := s.connect(t, "c1", "nsm0")
	s.ns.Ping(t, "10.0.1.2")
	s.ns.Ping(t, "fd00:1::2")
	s.endpoint.Net.Ping(t, "10.0.1.1")

	t.Run("the path names both agents", func(t *testing.T) {
		var names []string
		for _, p := range conn.Path.PathSegments {
			names = append(names, p.Name)
			if p.Expires == nil || p.Id == "" {
				t.Errorf("path segment %v lacks something", p)
			}
		}
		if got := strings.Join(names, " "); got != "client n1 n2 fw-2" {
			t.Errorf("path %s", got)
		}
	})
	t.Run("both nodes say what was decided and why", func(t *testing.T) {
		for n, id := range map[*lab.Node]string{s.near: "c1", s.far: farID(conn)} {
			out := n.Patchbay("describe", "crossconnect", id)
			for _, want := range []string{"State:          UP", "VXLAN: ", "KERNEL: ", "src_ip=10.99.0.1", "dst_ip=10.99.0.2"} {
				if !strings.Contains(out, want) {
					t.Errorf("node %s does not say %q:\n%s", n.Host.Name, want, out)
				}
			}
		}
	})
	t.Run("a refresh touches nothing", func(t *testing.T) {
		before := ifindex(t, s.ns, "nsm0")
		again := s.connect(t, "c1", "nsm0")
		if farID(again) != farID(conn) || ifindex(t, s.ns, "nsm0") != before {
			t.Error("a refresh made another connection")
		}
	})
	t.Run("a second connection has a number of its own", func(t *testing.T) {
		other := s.connect(t, "c2", "nsm1")
		s.ns.Ping(t, "10.0.2.2")
		s.client.Disconnect(other)
		s.ns.Ping(t, "10.0.1.2")
	})
	s.client.Disconnect(conn)
	s.leftNothing(t)
}

// Nothing is left on either side when one of both fails.
func TestAcrossHalfMadeConnectionsGo(t *testing.T) {
	t.Parallel()
	s := newAcross(t, nodes.Options{Nodes: 2})
	t.Run("the endpoint's side", func(t *testing.T) {
		s.endpoint.Intercept(func(context.Context, *networkservice.NetworkServiceRequest) (*networkservice.Connection, error) {
			return nil, errors.New("I will not")
		})
		defer s.endpoint.Intercept(nil)
		s.fails(t, "c1", "nsm0", "I will not")
	})
	t.Run("the client's side", func(t *testing.T) {
		s.ns.Run(t, "ip", "link", "add", "taken", "type", "bridge")
		s.fails(t, "c1", "taken", "taken")
		s.ns.Run(t, "ip", "link", "del", "taken")
	})
	t.Run("the endpoint's side after it had answered the client's", func(t *testing.T) {
		// Its namespace goes away as it answers, so what is on record there cannot be made.
		s.endpoint.Intercept(func(ctx context.Context, in *networkservice.NetworkServiceRequest) (*networkservice.Connection, error) {
			out, err := s.endpoint.Answer(ctx, in)
			if err == nil {
				out.Mechanism.Parameters["name"] = "lo"
			}
			return out, err
		})
		defer s.endpoint.Intercept(nil)
		s.fails(t, "c1", "nsm0", "lo")
	})
	s.client.Disconnect(s.connect(t, "c1", "nsm0"))
	s.leftNothing(t)
}

// fails requests a connection that must fail with a reason and leave nothing.
func (s *across) fails(t *testing.T, id, name, says string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err := s.client.Pass(ctx, lab.NewRequest(t, id, "fw", s.ns, name), s.ns)
	if err == nil || !strings.Contains(err.Error(), says) {
		t.Errorf("the error does not say %q: %v", says, err)
	}
	lab.Eventually(t, 10*time.Second, "nothing to be left in etcd", func() error {
		return none(strings.Fields(s.near.Etcdctl("get", "--prefix", "--keys-only", "/patchbay/v1/nodes/")))
	})
	if left := s.endpoint.Net.Interfaces(t); len(left) > 0 {
		t.Errorf("left over at the endpoint: %v", left)
	}
}
