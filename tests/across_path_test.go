package tests

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	nodes "go.patchbay.dev/agent/lab"
	"go.patchbay.dev/tests/lab"
)

// awaitPath waits until a node has one path, in a state: new, up or down.
func awaitPath(t *testing.T, n *lab.Node, state string) {
	t.Helper()
	lab.Eventually(t, 40*time.Second, "the path of node "+n.Host.Name+" to be "+state, func() error {
		if got := scrape(n.Agent); got[fmt.Sprintf("patchbay_tunnel_paths{state=%q}", state)] != 1 {
			return fmt.Errorf("new %v, up %v, down %v", got[`patchbay_tunnel_paths{state="new"}`], got[`patchbay_tunnel_paths{state="up"}`], got[`patchbay_tunnel_paths{state="down"}`])
		}
		return nil
	})
}

// logOf is what a node's agent has logged.
func logOf(t *testing.T, n *lab.Node) string {
	t.Helper()
	text, err := os.ReadFile(n.Host.LogFile("agent"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// What the tunnels go through breaks, while the agents hear each other. That an agent, or
// VPP, is restarted is no such thing.
func TestAcrossTunnelPathBreaks(t *testing.T) {
	t.Parallel()
	agents := func(t *testing.T, s *across) {
		f := startFlow(t, s.ns, "10.0.1.2")
		for n, end := range map[*lab.Node]func(){s.far: s.far.Kill, s.near: s.near.Stop} {
			end()
			n.Start()
			awaitPath(t, s.near, "up")
			awaitPath(t, s.far, "up")
		}
		f.end(t)
	}
	vpp := func(t *testing.T, s *across) {
		do(t, s.far.Host.VPP.Stop())
		do(t, s.far.Host.StartVPP(t.Context()))
		awaitAt(t, s.near, "c1", "UP")
		awaitPing(t, s.ns, "10.0.1.2")
		awaitPath(t, s.near, "up")
		awaitPath(t, s.far, "up")
	}
	for _, c := range []struct {
		name    string
		vpp     func(int) bool
		restart func(*testing.T, *across)
	}{
		{"kernel", nil, agents},
		{"VPP", lab.AllVPP, vpp},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newAcross(t, nodes.Options{Nodes: 3, VPP: c.vpp})
			s.connect(t, "c1", "nsm0")
			awaitPath(t, s.near, "up")
			awaitPath(t, s.far, "up")
			c.restart(t, s)
			for _, n := range []*lab.Node{s.near, s.far} {
				if strings.Contains(logOf(t, n), "carries nothing") {
					t.Errorf("node %s took a restart for a path that breaks", n.Host.Name)
				}
			}
			twin := s.twin(t, s.List[2])

			start := time.Now()
			do(t, s.CutTunnels(s.far.Host))
			lab.Eventually(t, 20*time.Second, "the twin to have it", func() error {
				if n := twin.Live(); n != 1 {
					return fmt.Errorf("%d connections", n)
				}
				return nil
			})
			s.ns.Run(t, "ping", "-c", "1", "-i", "0.1", "-w", "10", "10.0.1.2")
			t.Logf("reached the twin after %v", time.Since(start))
			awaitAt(t, s.near, "c1", "UP")
			if want := fmt.Sprintf("the path to node n2 (%s) carries nothing", s.far.Host.Tunnel[0]); !strings.Contains(logOf(t, s.near), want) {
				t.Errorf("the log does not say that %s", want)
			}
			lab.Eventually(t, 10*time.Second, "the endpoint's node to be empty", func() error { return none(s.endpoint.Net.Interfaces(t)) })

			do(t, s.MendTunnels(s.far.Host))
			lab.Eventually(t, 20*time.Second, "the endpoint to be asked again", func() error {
				conn := s.connect(t, "c2", "nsm1")
				defer s.client.Disconnect(conn)
				if conn.NetworkServiceEndpointName != "fw-2" {
					return fmt.Errorf("%s was", conn.NetworkServiceEndpointName)
				}
				return nil
			})
			if twin.Live() != 1 {
				t.Error("the client has moved again")
			}
		})
	}
}
