package manager

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.patchbay.dev/models"
)

// wants puts a durable request of a node.
func (n *node) wants(json string) {
	n.t.Helper()
	c := &models.Connection{}
	if err := models.Unmarshal([]byte(json), c); err != nil {
		n.t.Fatal(err)
	}
	n.etcd.Put(n.t.Context(), n.keys.Connection(c.Id), []byte(json))
}

// durable waits until the status of a durable request is as check wants it.
func (n *node) durable(id, what string, check func(*models.ConnectionStatus) bool) *models.ConnectionStatus {
	n.t.Helper()
	var s *models.ConnectionStatus
	eventually(n.t, 15*time.Second, id+" to be "+what, func() error {
		s = nil
		if data := n.etcd.get(n.keys.ConnectionStatus(id)); data != nil {
			s = &models.ConnectionStatus{}
			if err := models.Unmarshal(data, s); err != nil {
				return err
			}
		}
		if !check(s) {
			return fmt.Errorf("status %v", s)
		}
		return nil
	})
	return s
}

func up(endpoint string) func(*models.ConnectionStatus) bool {
	return func(s *models.ConnectionStatus) bool {
		return s.GetState() == models.State_UP && s.GetEndpoint() == endpoint
	}
}

const durable1 = `{"id": "d1", "networkService": "fw", "mechanism": {"type": "KERNEL", "parameters": {"netns": "/run/netns/x"}}}`

// TestADurableRequestIsKept: across the restart of either agent and the loss of its
// endpoint, and until its record is deleted.
func TestADurableRequestIsKept(t *testing.T) {
	l := newLab(t)
	a, b := l.start("a"), l.start("b")
	a.wants(durable1)
	a.durable("d1", "refused", func(s *models.ConnectionStatus) bool {
		return s.GetState() == models.State_FAILED && strings.Contains(s.Reason, `network service "fw" is not known`)
	})
	first := b.serve("fw-1", "fw")
	s := a.durable("d1", "up", up("fw-1"))
	if s.Node != "b" || s.Tunnel != "VXLAN" || s.Mechanism != "KERNEL" || !slices.Equal(s.Addresses, []string{"10.9.0.1/24"}) || len(s.Decision) == 0 {
		t.Errorf("status %v", s)
	}
	for _, n := range []*node{a, b} {
		before := a.plane.keys()
		n.restart()
		a.connectedTo("d1", 10*time.Second, first)
		if !slices.Equal(before, a.plane.keys()) {
			t.Errorf("a has %v after a restart of %s, had %v", a.plane.keys(), n.name, before)
		}
	}
	twin := b.serve("fw-2", "fw")
	first.die()
	a.connectedTo("d1", 15*time.Second, twin)
	a.durable("d1", "healed", up("fw-2"))

	a.stop()
	a.etcd.Delete(t.Context(), a.keys.Connection("d1"))
	a.run()
	a.durable("d1", "gone", func(s *models.ConnectionStatus) bool { return s == nil })
	for _, n := range []*node{a, b} {
		eventually(t, 5*time.Second, "nothing to be left", n.empty)
	}
}

// TestADurableRequestIsDeletedWhileItIsBeingAsked: what comes of it is closed.
func TestADurableRequestIsDeletedWhileItIsBeingAsked(t *testing.T) {
	l := newLab(t)
	a, b := l.start("a"), l.start("b")
	e := b.serve("fw-1", "fw")
	e.mu.Lock() // it takes its time
	answer := sync.OnceFunc(e.mu.Unlock)
	defer answer()
	a.wants(durable1)
	eventually(t, 5*time.Second, "b to be asked", func() error {
		a.m.mu.Lock()
		defer a.m.mu.Unlock()
		if len(a.m.asking) == 0 {
			return errors.New("it is not")
		}
		return nil
	})
	a.etcd.Delete(t.Context(), a.keys.Connection("d1"))
	eventually(t, 5*time.Second, "a to hear of the deletion", func() error {
		a.m.durables.mu.Lock()
		defer a.m.durables.mu.Unlock()
		if !a.m.durables.by["d1"].gone {
			return errors.New("it has not")
		}
		return nil
	})
	answer()
	for _, n := range []*node{a, b} {
		eventually(t, 5*time.Second, "nothing to be left", n.empty)
	}
	e.idle()
}

// Nobody was there to hear of it, and what an agent finds on record it takes for well.
func TestADurableRequestLeavesAnEndpointThatDiedUnseen(t *testing.T) {
	l := newLab(t)
	a, b := l.start("a"), l.start("b")
	a.wants(durable1)
	first := b.serve("fw-1", "fw")
	a.durable("d1", "up", up("fw-1"))
	a.stop()
	twin := b.serve("fw-2", "fw")
	b.stop()
	first.die()
	b.run()
	a.run()
	a.connectedTo("d1", 15*time.Second, twin)
	a.durable("d1", "healed", up("fw-2"))
}

func TestAChangeOfADurableRequestTakesEffect(t *testing.T) {
	l := newLab(t)
	a, b := l.start("a"), l.start("b")
	b.serve("fw-1", "fw")
	b.serve("dns-1", "dns")
	a.wants(durable1)
	a.durable("d1", "up", up("fw-1"))
	a.wants(strings.Replace(durable1, `"fw"`, `"dns", "mtu": 1300`, 1))
	a.durable("d1", "changed", up("dns-1"))
	if x, _, _ := a.m.known("d1"); x.Mtu != 1300 {
		t.Errorf("the MTU is %d", x.Mtu)
	}
	a.wants(strings.Replace(durable1, `"netns"`, `"bad": "x", "netns"`, 1))
	s := a.durable("d1", "refused", func(s *models.ConnectionStatus) bool { return s.GetState() == models.State_FAILED })
	if !strings.Contains(s.Reason, "mechanism.parameters.bad: is not known") || strings.Contains(s.Reason, "client.") {
		t.Errorf("reason %q", s.Reason)
	}
	if x, _, _ := a.m.known("d1"); x.NetworkService != "dns" {
		t.Errorf("what was connected is now %v", x)
	}
	a.wants(strings.Replace(durable1, `"fw"`, `"fw", "endpoint": "fw-9"`, 1))
	a.durable("d1", "waiting for its endpoint", func(s *models.ConnectionStatus) bool {
		return s.GetState() == models.State_FAILED && strings.Contains(s.Reason, "fw-9")
	})
	b.serve("fw-9", "fw")
	a.durable("d1", "at the endpoint that it names", up("fw-9"))
	a.etcd.Delete(t.Context(), a.keys.Connection("d1"))
	for _, n := range []*node{a, b} {
		eventually(t, 5*time.Second, "nothing to be left", n.empty)
	}
}

// TestADurableRequestTakesNobodysId: what has the id stays, and the status says so.
func TestADurableRequestTakesNobodysId(t *testing.T) {
	l := newLab(t)
	a := l.start("a")
	a.serve("fw-1", "fw")
	c := a.connect("d1", "fw")
	a.wants(durable1)
	a.durable("d1", "refused", func(s *models.ConnectionStatus) bool {
		return s.GetState() == models.State_FAILED && strings.Contains(s.Reason, "a client's connection has the id")
	})
	if x, _, _ := a.m.known("d1"); x.GetRequest().GetOwner() == ownerEtcd {
		t.Error("it has taken over a client's connection")
	}
	a.close(c)
	a.durable("d1", "up when the id is free", up("fw-1"))
	if _, err := a.request(ask("d1", "fw")); err != nil && !strings.Contains(err.Error(), "used by another client") {
		t.Errorf("a client that takes the id of a durable request: %v", err)
	}
}

// TestAConnectionThatWasClosedIsMadeAgain, as long as the durable request stands.
func TestAConnectionThatWasClosedIsMadeAgain(t *testing.T) {
	l := newLab(t)
	a := l.start("a")
	e := a.serve("fw-1", "fw")
	a.wants(durable1)
	a.durable("d1", "up", up("fw-1"))
	first := e.requests()
	a.etcd.Delete(t.Context(), a.keys.CrossConnect("d1"))
	eventually(t, 10*time.Second, "it to be made again", func() error {
		if e.requests() == first || len(a.records()) == 0 {
			return errors.New("it is not")
		}
		return nil
	})
	a.durable("d1", "up again", up("fw-1"))
}
