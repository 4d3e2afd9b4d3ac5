package cards

import (
	"testing"

	"go.patchbay.dev/tests/lab"
	"go.patchbay.dev/vppapi/vpptest"
)

// A workload that VPP attaches reaches the wire by a virtual function, for which VPP has no driver: it sends and
// receives on the function's interface.
func TestPortOfVPP(t *testing.T) {
	w := start(t)
	w.Stop()
	v := vpptest.Start(t)
	w.Agent = lab.StartAgent(t, lab.OnVPP(v), lab.With("sriov.pools", inOneLine(pools)), lab.With("sriov.run_dir", w.notes))
	a := lab.NewNamespace(t)
	client := in(a, "", "10.60.0.1/24")
	delete(client.Mechanism.Parameters, "pciAddress")
	client.Mac = "02:00:00:00:60:01"
	var wire end
	wire.Mechanism.Type = "VF"
	wire.Mechanism.Parameters = map[string]string{"pciAddress": vf(t, 0)}
	w.apply(t, "p1", client, wire)
	s := w.await(t, "p1", "UP")
	t.Logf("%+v", s)
	if s.Endpoint.Parameters["driver"] != "af_packet" {
		t.Errorf("%+v", s.Endpoint)
	}
	reaches(t, a, "10.60.0.10", "10.60.0.100")
	reaches(t, w.wire, "10.60.0.1")
	t.Run("the agent is killed and started again", func(t *testing.T) {
		w.Kill()
		w.Start()
		w.WaitReady()
		w.await(t, "p1", "UP")
		if n := w.Operations(t); n != 0 {
			t.Errorf("%d operations", n)
		}
		reaches(t, a, "10.60.0.100")
	})
	t.Run("VPP is killed and started again", func(t *testing.T) {
		v.Restart()
		w.await(t, "p1", "UP")
		reaches(t, a, "10.60.0.100")
	})
	w.Patchbay("delete", "crossconnect", "p1")
	w.atHome(t)
}
