package cards

import (
	"testing"

	"go.patchbay.dev/tests/lab"
	"go.patchbay.dev/vppapi/vpptest"
)

// port is a node whose VPP has virtual functions as ports.
type port struct {
	*world
	vpp *vpptest.VPP
}

// What VPP joins with a virtual function, for which it has no driver, reaches the wire: it sends and receives on
// the function's interface.
func TestPortOfVPP(t *testing.T) {
	w := start(t)
	w.Stop()
	p := port{w, vpptest.Start(t)}
	w.Agent = lab.StartAgent(t, lab.OnVPP(p.vpp), lab.With("sriov.pools", inOneLine(pools)), lab.With("sriov.run_dir", w.notes), lab.With("node.address", near))
	for _, s := range []struct {
		name string
		test func(*testing.T)
	}{{"an interface of the kernel", p.withKernel}, {"memif", p.withMemif}, {"a tunnel", p.withTunnel}, {"a bridge", p.withBridge}} {
		t.Run(s.name, func(t *testing.T) {
			s.test(t)
			p.atHome(t)
		})
	}
}

// by is the end of a cross-connect by a mechanism.
func by(mechanism, mac string, parameters map[string]string) (e end) {
	e.Mechanism.Type, e.Mechanism.Parameters, e.Mac = mechanism, parameters, mac
	return e
}

// function is an end that is a virtual function as VPP's port.
func function(pci string) end { return by("VF", "", map[string]string{"pciAddress": pci}) }

// attached is a workload that VPP attaches by an interface of the kernel.
func attached(ns *lab.Namespace, address, mac string) end {
	e := by("KERNEL", mac, map[string]string{"netns": ns.Path, "name": "nsm0"})
	e.Addresses = []string{address}
	return e
}

func (p port) withKernel(t *testing.T) {
	a := lab.NewNamespace(t)
	p.apply(t, "p1", attached(a, "10.60.0.1/24", "02:00:00:00:60:01"), function(vf(t, 0)))
	s := p.await(t, "p1", "UP")
	t.Logf("%+v", s)
	if s.Endpoint.Parameters["driver"] != "af_packet" {
		t.Errorf("%+v", s.Endpoint)
	}
	reaches(t, a, "10.60.0.10", "10.60.0.100")
	reaches(t, p.wire, "10.60.0.1")
	p.restarts(t, "p1", func(t *testing.T) { reaches(t, a, "10.60.0.100") })
	p.Patchbay("delete", "crossconnect", "p1")
}

// restarts kills the agent, then VPP; after each a cross-connect carries again.
func (p port) restarts(t *testing.T, id string, carries func(*testing.T)) {
	t.Run("the agent is killed and started again", func(t *testing.T) {
		p.Kill()
		p.Start()
		p.WaitReady()
		p.await(t, id, "UP")
		if n := p.Operations(t); n != 0 {
			t.Errorf("%d operations", n)
		}
		carries(t)
	})
	t.Run("VPP is killed and started again", func(t *testing.T) {
		p.vpp.Restart()
		p.await(t, id, "UP")
		carries(t)
	})
}
