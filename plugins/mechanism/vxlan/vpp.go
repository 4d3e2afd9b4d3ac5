package vxlan

import (
	"fmt"
	"net/netip"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/reconcile"
	"go.patchbay.dev/plugins/tunnel"
	"go.patchbay.dev/vppapi"
)

var maker = tunnel.Maker[vppapi.VXLAN]{
	Plugin: vppapi.VXLANPlugin,
	Create: (*vppapi.Client).CreateVXLAN,
	Delete: (*vppapi.Client).DeleteVXLAN,
	List:   (*vppapi.Client).VXLANs,
	Collide: func(a, b vppapi.VXLAN) bool {
		return a.Remote == b.Remote && a.VNI == b.VNI && a.LocalPort == b.LocalPort && (a.Local == b.Local || a.Local.Is6())
	},
	Show: func(v vppapi.VXLAN) string {
		return fmt.Sprintf("VNI %d from %s to %s, UDP port %d", v.VNI, v.Local, v.Remote, v.LocalPort)
	},
	Local: func(v vppapi.VXLAN) netip.Addr { return v.Local },
}

// port is how VPP joins a tunnel: frames go on as they are, IP packets are taken out.
func port(_ string, p tunnel.Params, at tunnel.Place) (out tunnel.Port[vppapi.VXLAN], err error) {
	v, err := parse(p)
	if err != nil {
		return out, err
	}
	local, remote := v.ports(at.Side)
	out = tunnel.Port[vppapi.VXLAN]{Ethernet: true, Tunnel: vppapi.VXLAN{
		Local: at.Local, Remote: at.Remote, LocalPort: local, RemotePort: remote, VNI: v.vni, Routed: at.Payload == models.IP,
	}}
	if at.Payload == models.IP {
		out.MAC, out.PeerMAC = macs(v, at)
	}
	return out, nil
}

// Between renders a tunnel of VPP's that a bridge has to another node, see
// [tunnel.Mechanism.Between].
func (m *Mechanism) Between(id string, local, remote netip.Addr, vni uint32, mtu int) (models.Port, reconcile.Value) {
	return m.Mechanism.Between(id, vppapi.VXLAN{Local: local, Remote: remote, LocalPort: defaultPort, RemotePort: defaultPort, VNI: vni}, mtu)
}
