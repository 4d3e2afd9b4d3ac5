package nsm

import (
	"os/exec"
	"strings"
	"testing"

	"go.patchbay.dev/tests/nsm/workload"
)

// apply has the agent's node have a desired object.
func (a *agent) apply(yaml string) {
	a.t.Helper()
	line := a.net.in(a.binary)
	cmd := exec.Command(line[0], append(line[1:], "apply", "--agent", a.socket, "-f", "-")...)
	cmd.Stdin = strings.NewReader(yaml)
	if out, err := cmd.CombinedOutput(); err != nil {
		a.t.Fatalf("apply: %v: %s", err, out)
	}
}

// Clients of Network Service Mesh take a bridge for an endpoint.
func TestABridgeServesClients(t *testing.T) {
	start(t)
	a := startAgent(t)
	a.apply(`{kind: Bridge, name: lan1, service: fw, subnets: [10.60.0.0/24, "fd60::/64"]}`)
	one, two := newNetns(t), newNetns(t)
	first := a.client(one, nil)
	conn := first.connect("nsc-0", "nsm-1")
	other := a.client(two, nil).connect("nsc-1", "nsm-1")
	if conn.NetworkServiceEndpointName != "bridge/lan1" || conn.GetMechanism().GetType() != "KERNEL" || len(conn.Path.PathSegments) != 2 {
		t.Errorf("the reply is %v", conn)
	}
	addresses := other.GetContext().GetIpContext().GetSrcIpAddrs()
	if len(addresses) != 2 {
		t.Fatalf("addresses %v", addresses)
	}
	for _, address := range addresses {
		one.ping(bare(t, address))
	}
	a.kill()
	a.start()
	again := first.connect("nsc-0", "nsm-1")
	if had, has := conn.GetContext().GetIpContext().GetSrcIpAddrs(), again.GetContext().GetIpContext().GetSrcIpAddrs(); strings.Join(had, " ") != strings.Join(has, " ") {
		t.Errorf("after the agent's restart it has %v, had %v", has, had)
	}
	one.ping(bare(t, addresses[0]))
	first.do(workload.Command{Do: workload.Close, ID: again.Id})
	if got := one.interfaces(); len(got) != 0 {
		t.Errorf("left over after the close was answered: %v", got)
	}
}
