package tests

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	nodes "go.patchbay.dev/agent/lab"
	"go.patchbay.dev/tests/lab"
)

// do fails the test on an error.
func do(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// reaches pings an address once.
func reaches(ns *lab.Namespace, address string) error {
	if out, err := ns.Try("ping", "-c", "1", "-W", "1", address); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// awaitPing waits until an address answers.
func awaitPing(t *testing.T, ns *lab.Namespace, address string) {
	t.Helper()
	lab.Eventually(t, 20*time.Second, "an answer of "+address, func() error { return reaches(ns, address) })
}

// twin is an endpoint like the one on the second node, on another.
func (s *across) twin(t *testing.T, n *lab.Node) *lab.Endpoint {
	t.Helper()
	e := lab.NewEndpoint(t, n.Agent, "fw-twin").From(100)
	e.Register(n.Dial(), "fw")
	s.knows(t, s.near, "fw-twin")
	return e
}

func TestAcrossAgentRestartLosesNoPacket(t *testing.T) {
	t.Parallel()
	s := newAcross(t, nodes.Options{Nodes: 2})
	conn := s.connect(t, "c1", "nsm0")
	f := startFlow(t, s.ns, "10.0.1.2")
	for _, n := range []*lab.Node{s.near, s.far} {
		for _, end := range []func(){n.Stop, n.Kill} {
			end()
			n.Start()
		}
	}
	s.knows(t, s.near, "fw-2")
	again := s.connect(t, "c1", "nsm0") // as a client does whose monitor broke
	if farID(again) != farID(conn) {
		t.Error("the client's new request made another connection")
	}
	f.end(t)
	awaitAt(t, s.near, "c1", "UP")
	s.client.Disconnect(again)
	s.leftNothing(t)
}

func TestAcrossEndpointMovesWhenItsNodeDies(t *testing.T) {
	t.Parallel()
	s := newAcross(t, nodes.Options{Nodes: 3})
	s.connect(t, "c1", "nsm0")
	awaitPing(t, s.ns, "10.0.1.2")
	twin := s.twin(t, s.List[2])
	start := time.Now()
	do(t, s.Cut(s.far.Host)) // its etcd member goes with it
	awaitPing(t, s.ns, "10.0.1.2")
	t.Logf("reached the twin after %v", time.Since(start))
	if twin.Live() != 1 {
		t.Error("it is not the twin that answers")
	}
	awaitAt(t, s.near, "c1", "UP")
	out := s.near.Patchbay("describe", "crossconnect", "c1")
	if !strings.Contains(out, "fw-twin") || !strings.Contains(out, "dst_ip=10.99.0.3") {
		t.Errorf("the record is not the twin's:\n%s", out)
	}

	// It comes back: what it had goes, and the client stays where it is.
	do(t, s.Mend(s.far.Host))
	lab.Eventually(t, 30*time.Second, "the node that was away to be empty", func() error {
		keys, err := s.near.TryEtcdctl("get", "--prefix", "--keys-only", "/patchbay/v1/nodes/n2/crossconnects/")
		if err != nil { // its member's return may have etcd elect another leader
			return fmt.Errorf("%w: %s", err, keys)
		}
		return none(append(s.endpoint.Net.Interfaces(t), strings.Fields(keys)...))
	})
	if err := reaches(s.ns, "10.0.1.2"); err != nil || twin.Live() != 1 {
		t.Errorf("the client has moved again: %v", err)
	}
}

func TestAcrossEndpointThatDiesIsReplaced(t *testing.T) {
	t.Parallel()
	s := newAcross(t, nodes.Options{Nodes: 3})
	s.connect(t, "c1", "nsm0")
	awaitPing(t, s.ns, "10.0.1.2")
	twin := s.twin(t, s.List[2])
	s.endpoint.Kill()
	lab.Eventually(t, 20*time.Second, "the twin to have it", func() error {
		if n := twin.Live(); n != 1 {
			return fmt.Errorf("%d connections", n)
		}
		return nil
	})
	awaitPing(t, s.ns, "10.0.1.2")
	awaitAt(t, s.near, "c1", "UP")
	if left := s.endpoint.Net.Interfaces(t); len(left) > 0 {
		t.Errorf("left over at the endpoint that died: %v", left)
	}
}

// Two agents that cannot reach each other, and an endpoint that is nowhere else: the
// status says so, and all is well when the path is.
func TestAcrossPathBetweenAgentsBreaksAndComesBack(t *testing.T) {
	t.Parallel()
	s := newBeside(t)
	s.connect(t, "c1", "nsm0")
	awaitPing(t, s.ns, "10.0.1.2")
	do(t, s.CutPair(s.near.Host, s.far.Host))
	down := awaitAt(t, s.near, "c1", "DOWN")
	if !strings.Contains(down.Reason, "n5") {
		t.Errorf("the reason does not name the node: %s", down.Reason)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := s.client.Pass(ctx, lab.NewRequest(t, "c2", "fw", s.ns, "nsm1"), s.ns); err == nil || !strings.Contains(err.Error(), "fw-5") {
		t.Errorf("a request meanwhile: %v", err)
	}
	do(t, s.MendPair(s.near.Host, s.far.Host))
	awaitAt(t, s.near, "c1", "UP")
	awaitPing(t, s.ns, "10.0.1.2")
	lab.Eventually(t, 20*time.Second, "one connection on the endpoint's node", func() error {
		if names := s.endpoint.Net.Interfaces(t); len(names) != 1 {
			return fmt.Errorf("interfaces %v", names)
		}
		return nil
	})
}

// newBeside has the client on the fourth node and the endpoint on the fifth: etcd is on the
// first three, so what happens between the two does not happen to etcd.
func newBeside(t *testing.T) *across {
	t.Helper()
	l := lab.StartNodes(t, nodes.Options{Nodes: 5})
	s := &across{Nodes: l, near: l.List[3], far: l.List[4], ns: lab.NewNamespace(t)}
	s.client = lab.NewClient(t, s.near.Dial())
	s.endpoint = lab.NewEndpoint(t, s.far.Agent, "fw-5")
	s.endpoint.Register(s.far.Dial(), "fw")
	s.knows(t, s.near, "fw-5")
	return s
}

// A node that etcd does not hear loses its lease, and lives: what it carries goes on.
func TestAcrossAgentIsCutOffFromEtcd(t *testing.T) {
	t.Parallel()
	s := newBeside(t)
	conn := s.connect(t, "c1", "nsm0")
	f := startFlow(t, s.ns, "10.0.1.2")
	for _, n := range []*lab.Node{s.near, s.far} {
		members := s.List[:3]
		for _, m := range members {
			do(t, s.CutPair(n.Host, m.Host))
		}
		lab.Eventually(t, 20*time.Second, "the lease to end", func() error {
			if out := s.List[0].Patchbay("get", "agents"); strings.Contains(out, n.Host.Name+" ") {
				return fmt.Errorf("agents:\n%s", out)
			}
			return nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if _, err := s.client.Pass(ctx, lab.NewRequest(t, "c2", "fw", s.ns, "nsm1"), s.ns); err == nil {
			t.Errorf("a request while %s is without etcd was granted", n.Host.Name)
		}
		cancel()
		lab.Eventually(t, 20*time.Second, "what is known without etcd to be listed", func() error {
			if out, err := n.TryPatchbay("get", "connections"); err == nil || !strings.Contains(out, " UP ") || !strings.Contains(out, "are not listed: ") {
				return fmt.Errorf("get connections on %s: %v: %s", n.Host.Name, err, out)
			}
			return nil
		})
		for _, m := range members {
			do(t, s.MendPair(n.Host, m.Host))
		}
		lab.Eventually(t, 20*time.Second, "the node to be back", func() error {
			if out := s.List[0].Patchbay("get", "agents"); !strings.Contains(out, n.Host.Name+" ") {
				return fmt.Errorf("agents:\n%s", out)
			}
			return nil
		})
	}
	f.end(t)
	awaitAt(t, s.near, "c1", "UP")
	s.knows(t, s.near, "fw-5")
	again := s.connect(t, "c1", "nsm0")
	if farID(again) != farID(conn) {
		t.Error("it is another connection")
	}
	s.client.Disconnect(again)
	s.leftNothing(t)
}

func TestAcrossOneMemberOfEtcdIsLost(t *testing.T) {
	t.Parallel()
	s := newAcross(t, nodes.Options{Nodes: 3})
	s.connect(t, "c1", "nsm0")
	f := startFlow(t, s.ns, "10.0.1.2")
	for i, n := range s.List {
		do(t, n.Host.KillEtcd())
		id := fmt.Sprintf("d%d", i)
		lab.Eventually(t, 20*time.Second, "a connection without member "+n.Host.Name, func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			conn, err := s.client.Pass(ctx, lab.NewRequest(t, id, "fw", s.ns, id), s.ns)
			if err == nil {
				_, err = s.client.Close(ctx, conn)
			}
			return err
		})
		do(t, n.Host.StartEtcd(t.Context()))
	}
	f.end(t)
	awaitAt(t, s.near, "c1", "UP")
}
