package vppapi

import (
	"context"
	"net/netip"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/geneve"
	"go.fd.io/govpp/binapi/interface_types"
)

// GENEVEPort is the UDP port of both ends (RFC 8926); VPP 25.10 has no other.
const GENEVEPort = 6081

// GENEVE is a tunnel of RFC 8926 to one peer, for Ethernet. VPP tells tunnels apart by the
// remote address and the VNI.
type GENEVE struct {
	Local, Remote netip.Addr
	VNI           uint32 // 24 bits
	Routed        bool   // as of VXLAN
}

// CreateGENEVE makes a tunnel, which is up at once. api.TUNNEL_EXIST says that there is one
// that VPP could not tell from it.
func (c *Client) CreateGENEVE(ctx context.Context, g GENEVE) (Index, error) {
	next := uint32(toL2)
	if g.Routed {
		var err error
		if next, err = c.toEthernet(ctx, "geneve", g.Local); err != nil {
			return 0, err
		}
	}
	reply := &geneve.GeneveAddDelTunnel2Reply{}
	err := c.call(ctx, one(g.addDel(true, next), reply))
	return Index(reply.SwIfIndex), err
}

// DeleteGENEVE deletes a tunnel. One that is not there is no error.
func (c *Client) DeleteGENEVE(ctx context.Context, index Index, g GENEVE) error {
	return c.call(ctx, one(g.addDel(false, toL2), &geneve.GeneveAddDelTunnel2Reply{}, api.NO_SUCH_ENTRY).
		after(func() { c.inv.gone(index) }))
}

func (g GENEVE) addDel(add bool, next uint32) *geneve.GeneveAddDelTunnel2 {
	return &geneve.GeneveAddDelTunnel2{
		IsAdd: add, LocalAddress: address(g.Local), RemoteAddress: address(g.Remote), Vni: g.VNI,
		McastSwIfIndex: interface_types.InterfaceIndex(All), DecapNextIndex: next, L3Mode: g.Routed,
	}
}

// GENEVEs lists all tunnels.
func (c *Client) GENEVEs(ctx context.Context) (all []Tunnel[GENEVE], err error) {
	request := &geneve.GeneveTunnelDump{SwIfIndex: interface_types.InterfaceIndex(All)}
	err = c.call(ctx, dump(request, func(d *geneve.GeneveTunnelDetails) {
		all = append(all, Tunnel[GENEVE]{Index(d.SwIfIndex), GENEVE{
			Local: fromAddress(d.SrcAddress), Remote: fromAddress(d.DstAddress), VNI: d.Vni, Routed: d.DecapNextIndex != toL2,
		}})
	}))
	return all, err
}
