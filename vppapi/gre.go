package vppapi

import (
	"context"
	"net/netip"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/gre"
	"go.fd.io/govpp/binapi/interface_types"
)

// GRE is a tunnel of RFC 2784 to one peer. VPP tells tunnels apart by all that is here.
type GRE struct {
	Local, Remote netip.Addr
	Ethernet      bool   // it carries frames (transparent Ethernet bridging), else IP packets
	Key           uint32 // RFC 2890; 0: none
}

// CreateGRE makes a tunnel. api.IF_ALREADY_EXISTS says that it is there.
func (c *Client) CreateGRE(ctx context.Context, g GRE) (Index, error) {
	reply := &gre.GreTunnelAddDelV2Reply{}
	err := c.call(ctx, one(g.addDel(true), reply))
	return Index(reply.SwIfIndex), err
}

// DeleteGRE deletes a tunnel. One that is not there is no error.
func (c *Client) DeleteGRE(ctx context.Context, index Index, g GRE) error {
	return c.call(ctx, one(g.addDel(false), &gre.GreTunnelAddDelV2Reply{}, api.NO_SUCH_ENTRY).
		after(func() { c.inv.gone(index) }))
}

func (g GRE) addDel(add bool) *gre.GreTunnelAddDelV2 {
	t := gre.GreTunnelV2{Instance: anyInstance, Src: address(g.Local), Dst: address(g.Remote), Key: g.Key}
	if g.Ethernet {
		t.Type = gre.GRE_API_TUNNEL_TYPE_TEB
	}
	return &gre.GreTunnelAddDelV2{IsAdd: add, Tunnel: t}
}

// GREs lists all tunnels to one peer that carry frames or IP.
func (c *Client) GREs(ctx context.Context) (all []Tunnel[GRE], err error) {
	request := &gre.GreTunnelDumpV2{SwIfIndex: interface_types.InterfaceIndex(All)}
	err = c.call(ctx, dump(request, func(d *gre.GreTunnelDetailsV2) {
		t := d.Tunnel
		if t.Mode != 0 || t.Type == gre.GRE_API_TUNNEL_TYPE_ERSPAN {
			return
		}
		all = append(all, Tunnel[GRE]{Index(t.SwIfIndex), GRE{
			Local: fromAddress(t.Src), Remote: fromAddress(t.Dst), Ethernet: t.Type == gre.GRE_API_TUNNEL_TYPE_TEB, Key: t.Key,
		}})
	}))
	return all, err
}
