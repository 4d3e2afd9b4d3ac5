package negotiation

import (
	"slices"
	"strings"
	"testing"

	"go.patchbay.dev/models"
)

// bridging is a node that has bridges on its dataplane.
func bridging(a *models.Agent) *models.Agent {
	a.Offers = append(a.Offers, &models.Offer{Type: "BRIDGE", Dataplane: a.Dataplane, Class: Bridge, Payloads: []string{models.Ethernet}, Joins: a.Dataplane == "vpp"})
	a.Offers[0].Bridges = a.Dataplane == "kernel"
	return a
}

func TestABridgeIsTheEndpoint(t *testing.T) {
	for _, c := range []struct {
		name    string
		at      *models.Agent
		client  string
		payload string
		want    string // or the error
	}{
		{"VPP puts into it what it can cross-connect", bridging(vpp("n1", "KERNEL", "MEMIF")), "MEMIF KERNEL", models.Ethernet, "KERNEL BRIDGE"},
		{"and shared memory, where nothing else is asked for", bridging(vpp("n1", "KERNEL", "MEMIF")), "MEMIF", models.Ethernet, "MEMIF BRIDGE"},
		{"the kernel what it can put there, though it cross-connects nothing", bridging(kernel("n1")), "MEMIF KERNEL", models.Ethernet, "KERNEL BRIDGE"},
		{"it carries frames", bridging(kernel("n1")), "KERNEL", models.IP, "BRIDGE: it does not carry IP on node n1"},
		{"a node that has none", kernel("n1"), "KERNEL", models.Ethernet, "BRIDGE: node n1 does not offer it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := Request{Client: End{Node: c.at, Speaks: list(c.client), Workload: true}, Endpoint: End{Node: c.at, Speaks: []string{"BRIDGE"}}, Payload: c.payload}
			d, err := Decide(r)
			if err != nil && !strings.Contains(err.Error(), c.want) || err == nil && words(d) != c.want {
				t.Errorf("decided %v, %v, want %s", d, err, c.want)
			}
		})
	}
}

// A workload is no bridge, whatever it says, and is not asked to be one.
func TestAWorkloadIsNoBridge(t *testing.T) {
	n1 := bridging(vpp("n1", "KERNEL"))
	asked, err := Ask(Request{Client: End{Node: n1, Workload: true}, Endpoint: End{Node: n1, Workload: true}})
	if err != nil || slices.Contains(types(asked), "BRIDGE") {
		t.Errorf("asked for %v, %v", types(asked), err)
	}
	_, err = Decide(Request{Client: End{Node: n1, Workload: true}, Endpoint: End{Node: n1, Workload: true, Only: "BRIDGE"}})
	if err == nil || !strings.Contains(err.Error(), "BRIDGE: it is of class BRIDGE; a workload uses a mechanism of class LOCAL") {
		t.Errorf("error %v", err)
	}
}
