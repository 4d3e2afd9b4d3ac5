package nsm

import (
	"strings"
	"testing"

	"github.com/networkservicemesh/api/pkg/api/networkservice"

	"go.patchbay.dev/tests/nsm/workload"
)

func TestClientHealsToAnotherEndpoint(t *testing.T) {
	for _, c := range []struct {
		name string
		live bool // the client watches the data path, too
		die  func(e *process)
	}{
		{"when the endpoint's process dies", false, func(e *process) { e.kill() }},
		{"when the endpoint dies with its namespace", true, func(e *process) { e.kill(); e.net.delete() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			start(t)
			a := startAgent(t)
			ends := map[string]*process{
				"nse-1": a.endpoint("nse-1", 1, nil).register(),
				"nse-2": a.endpoint("nse-2", 2, nil).register(),
			}
			n := newNetns(t)
			w := a.client(n, func(c2 *workload.Config) { c2.Live = c.live })
			conn := w.connect("nsc-0", "nsm-1")
			old := conn.NetworkServiceEndpointName
			pingBoth(t, n, ends[old].net, conn)

			c.die(ends[old])
			healed := w.await(workload.Answered, func(e workload.Event) bool {
				return e.Error == "" && e.Connection().GetNetworkServiceEndpointName() != old
			}).Connection()
			twin := healed.NetworkServiceEndpointName
			if ends[twin] == nil || healed.State != networkservice.State_UP {
				t.Fatalf("healed to %v", healed)
			}
			prefix := strings.Replace(twin, "nse-", "10.", 1) + "."
			eventually(t, "the client's interface", func() error { return count(n.interfaces(), 1) })
			n.ping(first(t, healed, prefix))
		})
	}
}
