package tests

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"github.com/networkservicemesh/api/pkg/api/registry"

	"go.patchbay.dev/tests/lab"
)

// Two workloads whose network service says path direct share one socket: the endpoint is
// its server, the client connects, and VPP sees neither.
func TestDirectMemif(t *testing.T) {
	a, v := lab.StartOnVPP(t)
	c := a.Dial()
	a.Etcdctl("put", "/patchbay/v1/services/fw", `{"name":"fw","payload":"ETHERNET","path":"direct"}`)
	endpoint := lab.NewEndpoint(t, a, "fw-1").Accept("MEMIF")
	told := make(chan map[string]string, 1)
	endpoint.Intercept(func(_ context.Context, in *networkservice.NetworkServiceRequest) (*networkservice.Connection, error) {
		told <- in.MechanismPreferences[0].Parameters
		return nil, nil
	})
	endpoint.RegisterWith(c, &registry.NetworkServiceEndpoint{NetworkServiceNames: []string{"fw"}})
	conn, err := lab.NewClient(t, c).Request(context.Background(), lab.MemifRequest("c1", "fw"))
	if err != nil {
		t.Fatal(err)
	}
	socket := conn.GetMechanism().GetParameters()["socketfile"]
	if p := <-told; p["socketfile"] != socket || p["role"] != "server" {
		t.Errorf("the endpoint was offered %v", p)
	}
	s := awaitState(t, a, "c1", func(linkStatus) bool { return true })
	if socket == "" || s.Client.Parameters["socketfile"] != socket || s.Endpoint.Parameters["socketfile"] != socket ||
		s.Client.Parameters["role"] != "client" || s.Endpoint.Parameters["role"] != "server" {
		t.Fatalf("the client was told %v, the status is %+v", conn.Mechanism, s)
	}
	far := lab.StartTestpmd(t, strings.Replace(lab.MemifDevice(socket), "role=client", "role=server", 1), "io")
	lab.Eventually(t, 20*time.Second, "the endpoint's socket", func() error { _, err := os.Stat(socket); return err })
	near := lab.StartTestpmd(t, lab.MemifDevice(socket), "io")
	near.Stop()
	near.Forward("start tx_first")
	lab.Eventually(t, 20*time.Second, "10000 packets", func() error {
		if received, _ := far.Packets(); received < 10000 {
			return fmt.Errorf("%d received", received)
		}
		return nil
	})
	if out := v.CLI("show interface"); strings.Contains(out, "memif") {
		t.Errorf("VPP is in between:\n%s", out)
	}
	if out := a.Patchbay("describe", "crossconnect", "c1"); !strings.Contains(out, "MEMIF: both ends on node n1, linked directly") {
		t.Errorf("the decision is not told:\n%s", out)
	}
	a.Etcdctl("del", "/patchbay/v1/nodes/n1/crossconnects/c1")
	lab.Eventually(t, 20*time.Second, "the socket's directory to go", func() error {
		if _, err := os.Stat(socket); err == nil {
			return fmt.Errorf("%s is there", socket)
		}
		return nil
	})
}

// What only the maker of a socket can give is refused where that is not the agent.
func TestDirectMemifRefusesWhatItCannotGive(t *testing.T) {
	a, _ := lab.StartOnVPP(t)
	for _, c := range []struct{ side, parameter, value string }{{"client", "socket", "fw0"}, {"endpoint", "mode", "0660"}} {
		sides := map[string]string{"client": "{}", "endpoint": "{}"}
		sides[c.side] = fmt.Sprintf(`{%q: %q}`, c.parameter, c.value)
		put(a, "c1", fmt.Sprintf(`{"id":"c1","path":"direct","client":{"mechanism":{"type":"MEMIF","parameters":%s}},"endpoint":{"mechanism":{"type":"MEMIF","parameters":%s}}}`,
			sides["client"], sides["endpoint"]))
		awaitState(t, a, "c1", func(s linkStatus) bool {
			return s.State == "FAILED" && strings.Contains(s.Reason, c.side+".mechanism.parameters."+c.parameter+": cannot be had with path direct")
		})
	}
}

// Without the policy the same two go through VPP, and explain shows both ways.
func TestExplainShowsBothPaths(t *testing.T) {
	a, _ := lab.StartOnVPP(t)
	out := a.Patchbay("explain", "--client", "MEMIF", "--endpoint", "MEMIF")
	for _, want := range []string{
		"MEMIF: both ends on node n1, dataplane vpp",
		"policy path direct would give MEMIF at the client and MEMIF at the endpoint, with nothing in between",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if out := a.Patchbay("explain", "--client", "MEMIF", "--endpoint", "MEMIF", "--path", "direct"); !strings.Contains(out, "linked directly") {
		t.Errorf("with path direct:\n%s", out)
	}
}
