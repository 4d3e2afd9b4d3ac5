package negotiation

import (
	"slices"
	"strings"
	"testing"

	"go.patchbay.dev/models"
)

// cards is a node whose workloads can have devices of network cards beside what VPP has for them.
func cards(name string) *models.Agent {
	a := vpp(name, "KERNEL", "MEMIF", "VXLAN")
	for _, t := range []string{"KERNEL", "VFIO", "NOOP"} {
		a.Offers = append(a.Offers, &models.Offer{Type: t, Dataplane: models.CardDataplane, Class: Local, Joins: true})
	}
	return a
}

func TestDevicesOfCardsAreJoinedByCardsOnly(t *testing.T) {
	n := cards("n1")
	for _, c := range []struct {
		client, device, endpoint, chose, answers string // device: types of the client that have one; answers: so of the endpoint
		want, reason                             string
	}{
		{"KERNEL", "KERNEL", "", "", "", "KERNEL KERNEL", "KERNEL: both ends on node n1, dataplane card"},
		{"KERNEL", "", "", "", "", "KERNEL KERNEL", "KERNEL: both ends on node n1, linked directly"},
		{"KERNEL", "KERNEL", "", "KERNEL", "KERNEL", "KERNEL KERNEL", "dataplane card"},
		{"KERNEL", "KERNEL", "", "KERNEL", "", "", "KERNEL: its device leads to a card, and endpoint has none"},
		{"KERNEL", "", "", "KERNEL", "KERNEL", "", "KERNEL: endpoint has a device, which leads to a card, and this has none"},
		{"KERNEL", "KERNEL", "", "NOOP", "NOOP", "KERNEL NOOP", "NOOP: endpoint on node n1, dataplane card"},
		{"VFIO", "VFIO", "", "NOOP", "NOOP", "VFIO NOOP", "VFIO: client on node n1, dataplane card"},
		{"VFIO", "VFIO", "", "KERNEL", "KERNEL", "VFIO KERNEL", "dataplane card"},
		{"VFIO", "", "", "", "", "", "VFIO: it needs a device; name a pool, or pass on the device plugin's token"},
		{"MEMIF", "", "", "NOOP", "NOOP", "", "MEMIF: endpoint has a device, which leads to a card"},
		{"MEMIF KERNEL", "KERNEL", "", "KERNEL", "KERNEL", "KERNEL KERNEL", "MEMIF: "},
	} {
		q := Request{Client: End{Node: n, Speaks: list(c.client), Devices: list(c.device)}, Endpoint: End{Node: n, Only: c.chose, Devices: list(c.answers)}}
		d, err := Decide(q)
		got, reasons := "", ""
		if err == nil {
			got, reasons = d.Client.Type+" "+d.Endpoint.Type, strings.Join(d.Reasons, "\n")
		} else {
			reasons = err.Error()
		}
		if got != c.want || !strings.Contains(reasons, c.reason) {
			t.Errorf("%+v: %q\n%s", c, got, reasons)
		}
	}
}

func TestADeviceIsNotCarriedToAnotherNode(t *testing.T) {
	_, err := Decide(Request{Client: End{Node: cards("n1"), Speaks: []string{"KERNEL"}, Devices: []string{"KERNEL"}}, Endpoint: End{Node: cards("n2")}})
	if err == nil {
		t.Error("a tunnel takes the device of a card")
	}
	offers, err := Ask(Request{Client: End{Node: cards("n1"), Speaks: []string{"KERNEL"}, Devices: []string{"KERNEL"}}, Endpoint: End{Node: cards("n1")}})
	var types []string
	for _, o := range offers {
		types = append(types, o.Type)
	}
	if err != nil || !slices.Equal(types, []string{"KERNEL", "VFIO", "NOOP"}) {
		t.Errorf("asked are %v, %v", types, err)
	}
}
