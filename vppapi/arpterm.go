package vppapi

import (
	"context"
	"net/netip"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/l2"
)

// BridgeNeighbor is a host for which VPP answers ARP and neighbour discovery on a bridge
// domain with ARPTermination.
type BridgeNeighbor struct {
	Bridge  uint32
	Address netip.Addr
	MAC     [6]byte
}

// SetBridgeNeighbor tells VPP of a host, or of its new MAC. api.NO_SUCH_ENTRY says that
// there is no such bridge domain.
func (c *Client) SetBridgeNeighbor(ctx context.Context, n BridgeNeighbor) error {
	return c.call(ctx, one(&l2.BdIPMacAddDel{IsAdd: true, Entry: n.entry()}, &l2.BdIPMacAddDelReply{}))
}

// DeleteBridgeNeighbor has VPP forget a host. What is not there, with this MAC, is no error
// (VPP says api.UNSPECIFIED).
func (c *Client) DeleteBridgeNeighbor(ctx context.Context, n BridgeNeighbor) error {
	return c.call(ctx, one(&l2.BdIPMacAddDel{Entry: n.entry()}, &l2.BdIPMacAddDelReply{}, api.UNSPECIFIED, api.NO_SUCH_ENTRY))
}

func (n BridgeNeighbor) entry() l2.BdIPMac {
	return l2.BdIPMac{BdID: n.Bridge, IP: address(n.Address), Mac: n.MAC}
}

// BridgeNeighbors lists what VPP was told of a bridge domain, or of AllBridges.
func (c *Client) BridgeNeighbors(ctx context.Context, number uint32) (all []BridgeNeighbor, err error) {
	err = c.call(ctx, dump(&l2.BdIPMacDump{BdID: number}, func(d *l2.BdIPMacDetails) {
		all = append(all, BridgeNeighbor{Bridge: d.Entry.BdID, Address: fromAddress(d.Entry.IP), MAC: d.Entry.Mac})
	}))
	return all, err
}
