package geneve

import (
	"fmt"
	"net/netip"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/tunnel"
	"go.patchbay.dev/vppapi"
)

var maker = tunnel.Maker[vppapi.GENEVE]{
	Plugin:  vppapi.GENEVEPlugin,
	Create:  (*vppapi.Client).CreateGENEVE,
	Delete:  (*vppapi.Client).DeleteGENEVE,
	List:    (*vppapi.Client).GENEVEs,
	Collide: func(a, b vppapi.GENEVE) bool { return a.Remote == b.Remote && a.VNI == b.VNI },
	Show:    func(g vppapi.GENEVE) string { return fmt.Sprintf("VNI %d to %s", g.VNI, g.Remote) },
	Local:   func(g vppapi.GENEVE) netip.Addr { return g.Local },
}

// port is how VPP joins a tunnel: frames go on as they are, IP packets are taken out.
func port(_ string, p tunnel.Params, at tunnel.Place) (out tunnel.Port[vppapi.GENEVE], err error) {
	n, err := vni(p)
	if err != nil {
		return out, err
	}
	out = tunnel.Port[vppapi.GENEVE]{Ethernet: true, Tunnel: vppapi.GENEVE{Local: at.Local, Remote: at.Remote, VNI: n, Routed: at.Payload == models.IP}}
	if at.Payload == models.IP {
		out.MAC, out.PeerMAC = macs(n, at)
	}
	return out, nil
}
