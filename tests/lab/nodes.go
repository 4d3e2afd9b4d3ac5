package lab

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	nodes "go.patchbay.dev/agent/lab"
	"go.patchbay.dev/tests/report"
)

// Nodes is a lab of several nodes that ends with the test.
type Nodes struct {
	*nodes.Lab
	t    testing.TB
	List []*Node
}

// Node is one node of a lab: its host, and its agent as the tests know agents.
type Node struct {
	*Agent
	Host *nodes.Node
	t    testing.TB
}

var etcdVersion = sync.OnceValue(func() string {
	path, err := nodes.FindEtcd()
	if err != nil {
		return ""
	}
	out, err := exec.Command(path, "--version").Output()
	if err != nil {
		return "of an unknown version"
	}
	line, _, _ := strings.Cut(string(out), "\n") // etcd Version: 3.4.23
	return strings.TrimPrefix(line, "etcd Version: ")
})

// StartNodes starts a lab; Program and Name of the options are filled in. The test is
// skipped where there cannot be one.
func StartNodes(t testing.TB, o nodes.Options) *Nodes {
	t.Helper()
	NeedRoot(t)
	if etcdVersion() == "" {
		report.Skip(t, "etcd-server", "etcd is not in PATH")
	}
	if o.VPP != nil {
		if _, err := nodes.FindVPP(); err != nil {
			report.Skip(t, "VPP", err.Error())
		}
	}
	report.Part(t, "etcd", etcdVersion()+", a cluster of three")
	report.Part(t, "Linux", parts().kernel)
	o.Program, o.Name = Binary(t), fmt.Sprintf("pbt%d-%d", os.Getpid(), serial.Add(1))
	l, err := nodes.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	c := &Nodes{Lab: l, t: t}
	for i, h := range l.Nodes {
		member := h
		if i > 2 {
			member = l.Nodes[0] // etcd is on the first three
		}
		c.List = append(c.List, &Node{Host: h, t: t, Agent: &Agent{
			Dir: h.Dir, Socket: h.AgentSocket, Etcd: member.EtcdSocket, HTTP: h.HTTP(),
			t: t, binary: o.Program, in: &Namespace{Name: h.Netns, Path: "/run/netns/" + h.Netns},
		}})
	}
	t.Cleanup(func() {
		if t.Failed() {
			c.showLogs()
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// showLogs shows the ends of all logs.
func (c *Nodes) showLogs() {
	logs := c.Logs()
	for _, name := range slices.Sorted(maps.Keys(logs)) {
		text := logs[name]
		const most = 16 << 10
		c.t.Logf("log of %s:\n%s", name, text[max(0, len(text)-most):])
	}
}

// AllVPP has each node of a lab use a VPP.
func AllVPP(int) bool { return true }

// Restart stops the agent as a service manager does, and starts it with settings besides
// its own.
func (n *Node) Restart(settings map[string]string) {
	n.t.Helper()
	n.Stop()
	if err := n.Host.Configure(settings); err != nil {
		n.t.Fatal(err)
	}
	n.Start()
}

// Start starts the agent and waits until it is ready.
func (n *Node) Start() {
	n.t.Helper()
	if err := n.Host.StartAgent(n.t.Context()); err != nil {
		n.t.Fatal(err)
	}
}

// Stop stops the agent as a service manager does.
func (n *Node) Stop() {
	n.t.Helper()
	if err := n.Host.Agent().Stop(); err != nil {
		n.t.Fatal(err)
	}
}

// Kill kills the agent as a crash would.
func (n *Node) Kill() {
	n.t.Helper()
	if err := n.Host.Agent().Kill(); err != nil {
		n.t.Fatal(err)
	}
}
