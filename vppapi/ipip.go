package vppapi

import (
	"context"
	"net/netip"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/ipip"
)

// IPIP is a tunnel of IP in IP to one peer (RFC 2003, 2473, 4213). There is one between
// two addresses.
type IPIP struct{ Local, Remote netip.Addr }

// CreateIPIP makes a tunnel. api.IF_ALREADY_EXISTS says that it is there.
func (c *Client) CreateIPIP(ctx context.Context, t IPIP) (Index, error) {
	reply := &ipip.IpipAddTunnelReply{}
	err := c.call(ctx, one(&ipip.IpipAddTunnel{Tunnel: ipip.IpipTunnel{
		Instance: anyInstance, Src: address(t.Local), Dst: address(t.Remote),
	}}, reply))
	return Index(reply.SwIfIndex), err
}

// DeleteIPIP deletes a tunnel. One that is not there is no error.
func (c *Client) DeleteIPIP(ctx context.Context, index Index) error {
	return c.call(ctx, one(&ipip.IpipDelTunnel{SwIfIndex: interface_types.InterfaceIndex(index)}, &ipip.IpipDelTunnelReply{}, api.NO_SUCH_ENTRY).
		after(func() { c.inv.gone(index) }))
}

// IPIPs lists all tunnels to one peer.
func (c *Client) IPIPs(ctx context.Context) (all []Tunnel[IPIP], err error) {
	request := &ipip.IpipTunnelDump{SwIfIndex: interface_types.InterfaceIndex(All)}
	err = c.call(ctx, dump(request, func(d *ipip.IpipTunnelDetails) {
		if d.Tunnel.Mode == 0 {
			all = append(all, Tunnel[IPIP]{Index(d.Tunnel.SwIfIndex), IPIP{Local: fromAddress(d.Tunnel.Src), Remote: fromAddress(d.Tunnel.Dst)}})
		}
	}))
	return all, err
}
