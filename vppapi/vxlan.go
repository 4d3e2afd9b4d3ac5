package vppapi

import (
	"context"
	"net/netip"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/vlib"
	"go.fd.io/govpp/binapi/vxlan"
)

// anyInstance lets VPP number an interface.
const anyInstance = 1<<32 - 1

// Tunnel is one that was found, as VPP lists it.
type Tunnel[T any] struct {
	Index  Index
	Tunnel T
}

// VXLAN is a tunnel of RFC 7348 to one peer. VPP tells tunnels apart by their addresses,
// the local port and the VNI; with IPv6 by the remote address only.
type VXLAN struct {
	Local, Remote netip.Addr
	LocalPort     uint16 // UDP, that VPP listens on
	RemotePort    uint16 // UDP, that the peer listens on
	VNI           uint32 // 24 bits
	// Routed: what comes out is for VPP's interface itself, which has an Ethernet address;
	// else it is for what the interface is cross-connected to.
	Routed bool
}

// toL2 is where both tunnels of Ethernet frames send by default what comes out (VPP:
// vxlan_input_next_t, geneve_input_next_t).
const toL2 = 1

// CreateVXLAN makes a tunnel, which is up at once. api.TUNNEL_EXIST says that there is one
// that VPP could not tell from it.
func (c *Client) CreateVXLAN(ctx context.Context, v VXLAN) (Index, error) {
	next := uint32(toL2)
	if v.Routed {
		var err error
		if next, err = c.toEthernet(ctx, "vxlan", v.Local); err != nil {
			return 0, err
		}
	}
	reply := &vxlan.VxlanAddDelTunnelV3Reply{}
	err := c.call(ctx, one(v.addDel(true, next), reply))
	return Index(reply.SwIfIndex), err
}

// DeleteVXLAN deletes a tunnel. One that is not there is no error.
func (c *Client) DeleteVXLAN(ctx context.Context, index Index, v VXLAN) error {
	return c.call(ctx, one(v.addDel(false, toL2), &vxlan.VxlanAddDelTunnelV3Reply{}, api.NO_SUCH_ENTRY).
		after(func() { c.inv.gone(index) }))
}

func (v VXLAN) addDel(add bool, next uint32) *vxlan.VxlanAddDelTunnelV3 {
	return &vxlan.VxlanAddDelTunnelV3{
		IsAdd: add, Instance: anyInstance, SrcAddress: address(v.Local), DstAddress: address(v.Remote),
		SrcPort: v.LocalPort, DstPort: v.RemotePort, McastSwIfIndex: interface_types.InterfaceIndex(All),
		DecapNextIndex: next, Vni: v.VNI,
	}
}

// toEthernet numbers the way from a tunnel's input to where VPP takes frames that are for
// itself. It is there after the first time; the number is that run of VPP's.
func (c *Client) toEthernet(ctx context.Context, tunnel string, local netip.Addr) (uint32, error) {
	node := tunnel + "6-input"
	if local.Is4() {
		node = tunnel + "4-input"
	}
	reply := &vlib.AddNodeNextReply{}
	err := c.call(ctx, one(&vlib.AddNodeNext{NodeName: node, NextName: "ethernet-input"}, reply))
	return reply.NextIndex, err
}

// VXLANs lists all tunnels.
func (c *Client) VXLANs(ctx context.Context) (all []Tunnel[VXLAN], err error) {
	request := &vxlan.VxlanTunnelV2Dump{SwIfIndex: interface_types.InterfaceIndex(All)}
	err = c.call(ctx, dump(request, func(d *vxlan.VxlanTunnelV2Details) {
		all = append(all, Tunnel[VXLAN]{Index(d.SwIfIndex), VXLAN{
			Local: fromAddress(d.SrcAddress), Remote: fromAddress(d.DstAddress), LocalPort: d.SrcPort, RemotePort: d.DstPort,
			VNI: d.Vni, Routed: d.DecapNextIndex != toL2,
		}})
	}))
	return all, err
}
