package gre

import (
	"fmt"
	"net/netip"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/tunnel"
	"go.patchbay.dev/vppapi"
)

var maker = tunnel.Maker[vppapi.GRE]{
	Plugin:  vppapi.GREPlugin,
	Create:  (*vppapi.Client).CreateGRE,
	Delete:  (*vppapi.Client).DeleteGRE,
	List:    (*vppapi.Client).GREs,
	Collide: func(a, b vppapi.GRE) bool { return a == b },
	Show: func(g vppapi.GRE) string {
		payload, key := models.IP, ""
		if g.Ethernet {
			payload = models.Ethernet
		}
		if g.Key != 0 {
			key = fmt.Sprintf("key %d, ", g.Key)
		}
		return fmt.Sprintf("%s%s from %s to %s", key, payload, g.Local, g.Remote)
	},
	Local: func(g vppapi.GRE) netip.Addr { return g.Local },
}

// port is how VPP joins a tunnel: IP packets are in it without frames.
func port(_ string, p tunnel.Params, at tunnel.Place) (tunnel.Port[vppapi.GRE], error) {
	k, err := key(p)
	ethernet := at.Payload != models.IP
	return tunnel.Port[vppapi.GRE]{Ethernet: ethernet, Tunnel: vppapi.GRE{Local: at.Local, Remote: at.Remote, Ethernet: ethernet, Key: k}}, err
}
