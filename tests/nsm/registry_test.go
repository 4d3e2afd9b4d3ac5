package nsm

import (
	"fmt"
	"testing"
	"time"

	"go.patchbay.dev/tests/nsm/workload"
)

// expect is what a registry's client must hear next.
func (p *process) expect(kind, name string) {
	p.t.Helper()
	if e := p.await(workload.Heard, nil); e.Error != "" || e.Type != kind || e.Name != name {
		p.t.Fatalf("heard of %+v, want %s %q", e, kind, name)
	}
}

func TestEndpointRegistryIsWatched(t *testing.T) {
	start(t)
	a := startAgent(t)
	a.endpoint("other", 9, func(c *workload.Config) { c.Services = []string{"dpi"} }).register()
	a.endpoint("before", 1, nil).register()
	r := a.registry()
	r.do(workload.Command{Do: workload.FindEndpoints, Service: "fw"})
	r.expect(workload.Found, "before")

	e := a.endpoint("nse", 2, nil).register()
	r.expect(workload.Found, "nse")
	e.do(workload.Command{Do: workload.Unregister})
	r.expect(workload.Gone, "nse")

	// One that registers for a short time and dies is found until it expires.
	e.do(workload.Command{Do: workload.Register, Passed: true, Expires: 2 * time.Second})
	e.kill()
	r.expect(workload.Found, "nse")
	r.expect(workload.Gone, "nse")
}

func TestNetworkServiceRegistryIsWatched(t *testing.T) {
	start(t)
	r := startAgent(t).registry()
	r.do(workload.Command{Do: workload.FindService, Service: "fw"})
	for _, service := range []string{"dpi", "fw"} {
		r.do(workload.Command{Do: workload.Register, Service: service})
	}
	r.expect(workload.Found, "fw")
	r.do(workload.Command{Do: workload.Unregister, Service: "fw"})
	r.expect(workload.Gone, "fw")
}

func TestTwoEndpointsShareTheLoad(t *testing.T) {
	start(t)
	a := startAgent(t)
	ends := map[string]*process{"nse-1": a.endpoint("nse-1", 1, nil).register(), "nse-2": a.endpoint("nse-2", 2, nil).register()}
	n := newNetns(t)
	w := a.client(n, nil)
	served := map[string]int{}
	for i := range 6 {
		conn := w.connect(fmt.Sprintf("nsc-%d", i), fmt.Sprintf("nsm-%d", i))
		served[conn.NetworkServiceEndpointName]++
		pingBoth(t, n, ends[conn.NetworkServiceEndpointName].net, conn)
	}
	if served["nse-1"] != 3 || served["nse-2"] != 3 {
		t.Errorf("6 connections were served by %v", served)
	}
}
