package tests

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"

	nodes "go.patchbay.dev/agent/lab"
	"go.patchbay.dev/tests/lab"
)

// A client's node that can do no tunnel but VXLAN, and an endpoint's that can do VXLAN and
// GRE, which both prefer: they take VXLAN. The same two workloads on one node share memory,
// through VPP or, where the network service says so, with nothing in between.
func TestAcrossWhatBothEndsCan(t *testing.T) {
	t.Parallel()
	l := lab.StartNodes(t, nodes.Options{
		Nodes: 2, VPP: lab.AllVPP, Config: map[string]string{"mechanisms.prefer": "[GRE]"},
		Without: func(node int) []string {
			return [][]string{
				{"gre_plugin.so", "geneve_plugin.so", "wireguard_plugin.so"},
				{"geneve_plugin.so", "wireguard_plugin.so"},
			}[node-1]
		},
	})
	near, far := l.List[0], l.List[1]
	near.Etcdctl("put", "/patchbay/v1/services/direct", `{"name":"direct","payload":"ETHERNET","path":"direct"}`)
	for n, name := range map[*lab.Node]string{near: "fw-1", far: "fw-2"} {
		lab.NewEndpoint(t, n.Agent, name).Accept("MEMIF").Register(n.Dial(), "fw", "direct")
		(&across{Nodes: l}).knows(t, near, name)
	}
	client := lab.NewClient(t, near.Dial())
	connect := func(t *testing.T, service, endpoint string) (conn *networkservice.Connection) {
		t.Helper()
		in := lab.MemifRequest("c1", service)
		in.Connection.Payload, in.Connection.NetworkServiceEndpointName = "ETHERNET", endpoint
		lab.Eventually(t, 10*time.Second, "a connection to "+endpoint, func() (err error) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			conn, err = client.Request(ctx, in)
			return err
		})
		t.Cleanup(func() { client.Disconnect(conn) })
		return conn
	}
	says := func(t *testing.T, n *lab.Node, id string, lines ...string) {
		t.Helper()
		out := n.Patchbay("describe", "crossconnect", id)
		for _, want := range lines {
			if !strings.Contains(out, want) {
				t.Errorf("node %s does not say %q:\n%s", n.Host.Name, want, out)
			}
		}
	}
	t.Run("VXLAN between two nodes", func(t *testing.T) {
		conn := connect(t, "fw", "fw-2")
		says(t, near, "c1", "VXLAN: tunnel between node n1 and node n2", "GRE: node n1 has a VPP without the plugin gre")
		socket := awaitSocket(t, far, farID(conn)).Endpoint.Parameters["socketfile"]
		reflects(t, near.Agent, lab.MemifDevice(conn.Mechanism.Parameters["socketfile"]), lab.MemifDevice(socket))
	})
	t.Run("shared memory on one, through VPP", func(t *testing.T) {
		conn := connect(t, "fw", "fw-1")
		says(t, near, "c1", "MEMIF: both ends on node n1, dataplane vpp")
		socket := awaitSocket(t, near, "c1").Endpoint.Parameters["socketfile"]
		reflects(t, near.Agent, lab.MemifDevice(conn.Mechanism.Parameters["socketfile"]), lab.MemifDevice(socket))
	})
	t.Run("shared memory on one, directly", func(t *testing.T) {
		conn := connect(t, "direct", "fw-1")
		says(t, near, "c1", "MEMIF: both ends on node n1, linked directly")
		socket := conn.Mechanism.Parameters["socketfile"]
		reflects(t, near.Agent, lab.MemifDevice(socket), strings.Replace(lab.MemifDevice(socket), "role=client", "role=server", 1))
	})
}
