package tests

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"go.patchbay.dev/tests/lab"
)

// sharing has an agent keep its records in another's etcd.
func sharing(host *lab.Agent) lab.Option {
	return lab.With("etcd.endpoints", fmt.Sprintf("[%q]", "unix://"+host.Etcd))
}

// logs waits for a line in an agent's log.
func logs(t *testing.T, a *lab.Agent, text string) {
	t.Helper()
	lab.Eventually(t, 10*time.Second, "the log to say "+text, func() error {
		if !strings.Contains(a.Log(), text) {
			return fmt.Errorf("it does not")
		}
		return nil
	})
}

// TestTheSecondAgentOfANameWaits until the first is gone, and does nothing before.
func TestTheSecondAgentOfANameWaits(t *testing.T) {
	host := lab.StartAgent(t, lab.With("node.name", "host"))
	first := lab.StartAgent(t, sharing(host))
	second := lab.NewAgent(t, sharing(host))
	second.Start()
	logs(t, second, `another agent is alive as node \"n1\" in this etcd; stop it, or give one of the two another node.name`)
	if strings.Contains(second.Log(), "agent started") {
		t.Error("it has started all the same")
	}
	first.Kill()
	second.WaitReady()
	second.Patchbay("get", "agents")

	first.Start() // the service manager starts it again
	logs(t, first, "another agent is alive")
}

// TestAnAgentThatIsForgottenIsListedAgain: its lease has expired while it lives.
func TestAnAgentThatIsForgottenIsListedAgain(t *testing.T) {
	a := lab.StartAgent(t)
	a.Etcdctl("del", "/patchbay/v1/agents/n1")
	lab.Eventually(t, 10*time.Second, "the agent to be listed", func() error {
		if out := a.Etcdctl("get", "--keys-only", "/patchbay/v1/agents/n1"); strings.TrimSpace(out) == "" {
			return fmt.Errorf("it is not")
		}
		return nil
	})
}

// TestAnAgentWhoseNameIsTakenStops: two would program one node by the same records.
func TestAnAgentWhoseNameIsTakenStops(t *testing.T) {
	host := lab.StartAgent(t, lab.With("node.name", "host"))
	a := lab.StartAgent(t, sharing(host))
	host.Etcdctl("put", "/patchbay/v1/agents/n1", `{"node": "n1", "instance": "another", "fieldOfTheFuture": 1}`)
	select {
	case <-a.Exited():
	case <-time.After(10 * time.Second):
		t.Fatal("it goes on")
	}
	logs(t, a, `is alive as node "n1"`)
}

// TestExplainKnowsWhoReachesWhom: what both nodes offer is of no use where their agents
// cannot speak to each other.
func TestExplainKnowsWhoReachesWhom(t *testing.T) {
	host := lab.StartAgent(t, lab.With("node.name", "host"))
	a := lab.StartAgent(t, sharing(host))
	out, err := a.TryPatchbay("explain", "--node", "host")
	if err == nil || !strings.Contains(out, "endpoint: it is on node host, and this node has no identity for other nodes: set grpc.tls here") {
		t.Errorf("%v: %s", err, out)
	}
}

// durable is a durable request for a kernel interface in a namespace.
func durable(ns *lab.Namespace, service string) string {
	return fmt.Sprintf(`{"id": "d1", "networkService": %q, "mechanism": {"type": "KERNEL", "parameters": {"netns": %q, "name": "nsm0"}}}`, service, ns.Path)
}

// awaitDurable waits until the status of the durable request d1 holds a text.
func awaitDurable(t *testing.T, a *lab.Agent, text string) {
	t.Helper()
	lab.Eventually(t, 15*time.Second, "the status of d1 to hold "+text, func() error {
		if out := a.Etcdctl("get", "--print-value-only", "/patchbay/v1/status/n1/connections/d1"); !strings.Contains(out, text) {
			return fmt.Errorf("it is %s", out)
		}
		return nil
	})
}

// TestDurableRequestInEtcd is negotiated as a client's is, and kept across the death of the
// agent and of its etcd.
func TestDurableRequestInEtcd(t *testing.T) {
	s := newSetup(t)
	const key = "/patchbay/v1/nodes/n1/connections/d1"
	s.agent.Etcdctl("put", key, durable(s.ns, "fw"))
	awaitDurable(t, s.agent, `"state":"UP"`)
	s.ns.Ping(t, "10.0.1.2")
	index := ifindex(t, s.ns, "nsm0")

	s.agent.Kill()
	s.agent.Start()
	s.agent.WaitReady()
	awaitDurable(t, s.agent, `"state":"UP"`)
	s.ns.Ping(t, "10.0.1.2")
	if got := ifindex(t, s.ns, "nsm0"); got != index {
		t.Errorf("the interface was made anew: index %v, was %v", got, index)
	}

	s.agent.Etcdctl("put", key, durable(s.ns, "ghost"))
	awaitDurable(t, s.agent, `network service \"ghost\" is not known`)
	s.ns.Ping(t, "10.0.1.2") // what there was stays
	s.agent.Etcdctl("put", key, `{"id": "d1", "netns": "x"}`)
	awaitDurable(t, s.agent, "netns: is not known")
	s.agent.Etcdctl("del", key)
	lab.Eventually(t, 10*time.Second, "nothing to be left", func() error {
		left := s.agent.Etcdctl("get", "--prefix", "--keys-only", "/patchbay/v1/nodes/") + s.agent.Etcdctl("get", "--prefix", "--keys-only", "/patchbay/v1/status/")
		if got := s.ns.Interfaces(t); len(got) > 0 || strings.TrimSpace(left) != "" {
			return fmt.Errorf("interfaces %v, keys %s", got, left)
		}
		return nil
	})
}

func TestDurableRequestByCommand(t *testing.T) {
	s := newSetup(t)
	file := s.agent.Dir + "/d1.json"
	write(t, file, strings.Replace(durable(s.ns, "later"), "{", `{"kind": "Connection", `, 1))
	if out := s.agent.Patchbay("apply", "-f", file); !strings.Contains(out, "connection/d1 created") {
		t.Error(out)
	}
	lab.Eventually(t, 10*time.Second, "the list to say why it is not there", func() error {
		if out := s.agent.Patchbay("get", "connections", "d1"); !strings.Contains(out, `network service "later" is not known`) {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	if out := s.agent.Patchbay("describe", "connection", "d1"); !strings.Contains(out, "FAILED") {
		t.Error(out)
	}
	s.endpoint.Register(s.agent.Dial(), "later")
	awaitDurable(t, s.agent, `"state":"UP"`)
	if out := s.agent.Patchbay("get", "connections", "d1"); !strings.Contains(out, "UP") || !strings.Contains(out, "KERNEL") {
		t.Error(out)
	}
	write(t, file, `{"kind": "Connection", "id": "d1", "networkService": "later", "mechanism": {"type": "KERNEL", "parameters": {"name": "a/b"}}}`)
	if out, err := s.agent.TryPatchbay("apply", "-f", file); err == nil || !strings.Contains(out, "mechanism.parameters.") {
		t.Errorf("%v, %s", err, out)
	}
	s.agent.Patchbay("delete", "connection", "d1")
	lab.Eventually(t, 10*time.Second, "it to be gone", func() error {
		if got := s.ns.Interfaces(t); len(got) > 0 {
			return fmt.Errorf("interfaces %v", got)
		}
		return nil
	})
}
