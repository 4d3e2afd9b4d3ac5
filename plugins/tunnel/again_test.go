package tunnel_test

import (
	"fmt"
	"testing"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/reconcile"
)

// However often VPP is restarted, every tunnel is there again, with its name.
func TestTunnelsOfManyKindsOutliveVPP(t *testing.T) {
	a := newAgent(t)
	a.start()
	ids := []string{}
	for i, kind := range []string{"VXLAN", "GENEVE", "GRE", "VXLAN", "GENEVE", "GRE", "IPIP", "WIREGUARD"} {
		payload := models.IP
		if i < 3 {
			payload = models.Ethernet
		}
		id := fmt.Sprint("c", i)
		a.apply(a.relay(id, kind, payload, 10*i+1))
		ids = append(ids, id)
	}
	for range 20 {
		if err := a.vpp.Restart(); err != nil {
			t.Fatal(err)
		}
		a.addresses()
		a.has(2*len(ids), 0)
		for _, id := range ids {
			for _, side := range []models.Side{models.ClientSide, models.EndpointSide} {
				a.settled(id, func(s reconcile.Status) bool {
					i, ok := a.client.Tagged(models.Tag(id, side))
					return applied(s) && ok && i.Name != ""
				})
			}
		}
	}
}
