package vppapi

import (
	"context"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/l2"
)

// MACEntry is one of the table of a bridge domain. Static entries do not age and are not
// learned anew; VPP drops what comes from such a MAC elsewhere.
type MACEntry struct {
	Bridge uint32
	MAC    [6]byte
	At     Index
	Static bool
	VPP    bool // the MAC is VPP's own, of its port
}

// SetMAC says where a MAC is, for good. api.NO_SUCH_ENTRY says that there is no such bridge
// domain, api.INVALID_SW_IF_INDEX that the interface is in none.
func (c *Client) SetMAC(ctx context.Context, e MACEntry) error {
	return c.call(ctx, one(addDelMAC(e, true), &l2.L2fibAddDelReply{}))
}

// DeleteMAC forgets a MAC at an interface, or wherever it is if that is 0. What is not there
// is no error. An entry outlives its interface in VPP, which may give its index to another.
func (c *Client) DeleteMAC(ctx context.Context, e MACEntry) error {
	return c.call(ctx, one(addDelMAC(e, false), &l2.L2fibAddDelReply{}, api.NO_SUCH_ENTRY))
}

func addDelMAC(e MACEntry, add bool) *l2.L2fibAddDel {
	return &l2.L2fibAddDel{BdID: e.Bridge, Mac: e.MAC, SwIfIndex: interface_types.InterfaceIndex(e.At), IsAdd: add, StaticMac: add}
}

// MACs lists the table of a bridge domain, or of AllBridges.
func (c *Client) MACs(ctx context.Context, number uint32) (all []MACEntry, err error) {
	err = c.call(ctx, dump(&l2.L2FibTableDump{BdID: number}, func(d *l2.L2FibTableDetails) {
		all = append(all, MACEntry{Bridge: d.BdID, MAC: d.Mac, At: Index(d.SwIfIndex), Static: d.StaticMac, VPP: d.BviMac})
	}))
	return all, err
}
