package vppapi

import (
	"context"
	"slices"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/l2"
)

// MaxBridge is the highest number of a bridge domain (VPP: src/vnet/l2/l2_bd.h,
// L2_BD_ID_MAX); 0 is VPP's own.
const MaxBridge = 1<<24 - 1

// Bridge is a bridge domain, which forwards frames by where their MACs have been seen.
type Bridge struct {
	Number uint32
	Tag    string // as of an interface; nothing changes it later
	// Learn, Flood (broadcast and multicast), UnknownUnicast (frames to a MAC that has not
	// been seen), ARPTermination (VPP answers for the neighbours that it was told).
	Learn, Flood, UnknownUnicast, ARPTermination bool
	MACAge                                       uint8 // minutes; 0: for ever
}

// CreateBridge makes a bridge domain. api.BD_ALREADY_EXISTS says that the number is taken.
func (c *Client) CreateBridge(ctx context.Context, b Bridge) error {
	if err := checkTag(b.Tag); err != nil {
		return err
	}
	return c.call(ctx, one(&l2.BridgeDomainAddDelV2{
		BdID: b.Number, BdTag: b.Tag, IsAdd: true, Forward: true, Learn: b.Learn, Flood: b.Flood, UuFlood: b.UnknownUnicast, ArpTerm: b.ARPTermination, MacAge: b.MACAge,
	}, &l2.BridgeDomainAddDelV2Reply{}))
}

// SetBridge changes all of a bridge domain but its tag.
func (c *Client) SetBridge(ctx context.Context, b Bridge) error {
	on, off := l2.BRIDGE_API_FLAG_FWD, l2.BRIDGE_API_FLAG_NONE
	for flag, set := range map[l2.BdFlags]bool{
		l2.BRIDGE_API_FLAG_LEARN: b.Learn, l2.BRIDGE_API_FLAG_FLOOD: b.Flood,
		l2.BRIDGE_API_FLAG_UU_FLOOD: b.UnknownUnicast, l2.BRIDGE_API_FLAG_ARP_TERM: b.ARPTermination,
	} {
		if set {
			on |= flag
		} else {
			off |= flag
		}
	}
	return c.call(ctx,
		one(&l2.BridgeFlags{BdID: b.Number, IsSet: true, Flags: on}, &l2.BridgeFlagsReply{}),
		one(&l2.BridgeFlags{BdID: b.Number, Flags: off}, &l2.BridgeFlagsReply{}),
		one(&l2.BridgeDomainSetMacAge{BdID: b.Number, MacAge: b.MACAge}, &l2.BridgeDomainSetMacAgeReply{}))
}

// DeleteBridge deletes a bridge domain. One that is not there is no error; api.BD_IN_USE
// says that it has ports.
func (c *Client) DeleteBridge(ctx context.Context, number uint32) error {
	return c.call(ctx, one(&l2.BridgeDomainAddDelV2{BdID: number}, &l2.BridgeDomainAddDelV2Reply{}, api.NO_SUCH_ENTRY))
}

// BridgePort is an interface in a bridge domain.
type BridgePort struct {
	At Index
	// Group, if not 0, gets no frames from others of the same group (split horizon).
	Group uint8
	// VPP: the interface is VPP's own on the bridge (BVI), and there is one.
	VPP bool
}

// Bridge adds a port to a bridge domain, or changes its group, and sets it up: before that
// it could carry nothing. The bridge domain must be there, for VPP would make it up.
// api.BD_ALREADY_HAS_BVI says that another port is VPP's own.
func (c *Client) Bridge(ctx context.Context, number uint32, p BridgePort) error {
	request := &l2.SwInterfaceSetL2Bridge{RxSwIfIndex: interface_types.InterfaceIndex(p.At), BdID: number, Shg: p.Group, Enable: true}
	if p.VPP {
		request.PortType = l2.L2_API_PORT_TYPE_BVI
	}
	err := c.settingUp(ctx, slices.Concat(c.left(p.At), []*exchange{one(request, &l2.SwInterfaceSetL2BridgeReply{})}, c.raise(p.At))...)
	if err == nil {
		c.joined(p.At)
	}
	return err
}

// Unbridge takes interfaces out of their bridge domains, to where nothing is forwarded. One
// that is not there any more is no error.
func (c *Client) Unbridge(ctx context.Context, interfaces ...Index) error {
	var calls []*exchange
	for _, i := range interfaces {
		calls = append(calls, one(&l2.SwInterfaceSetL2Bridge{RxSwIfIndex: interface_types.InterfaceIndex(i)}, &l2.SwInterfaceSetL2BridgeReply{},
			api.INVALID_SW_IF_INDEX, api.INVALID_SW_IF_INDEX_2))
	}
	return c.call(ctx, calls...)
}

// BridgeFound is a bridge domain as VPP lists it.
type BridgeFound struct {
	Bridge
	Forwards bool
	Ports    []BridgePort
}

// AllBridges stands for every bridge domain where a call takes a number to select by.
const AllBridges uint32 = 1<<32 - 1

// Bridges lists a bridge domain, if there is one of that number, or AllBridges.
func (c *Client) Bridges(ctx context.Context, number uint32) (all []BridgeFound, err error) {
	request := &l2.BridgeDomainDump{BdID: number, SwIfIndex: interface_types.InterfaceIndex(All)}
	err = c.call(ctx, dump(request, func(d *l2.BridgeDomainDetails) {
		b := BridgeFound{Forwards: d.Forward, Bridge: Bridge{
			Number: d.BdID, Tag: text(d.BdTag), Learn: d.Learn, Flood: d.Flood, UnknownUnicast: d.UuFlood, ARPTermination: d.ArpTerm, MACAge: d.MacAge,
		}}
		for _, p := range d.SwIfDetails {
			b.Ports = append(b.Ports, BridgePort{At: Index(p.SwIfIndex), Group: p.Shg, VPP: p.SwIfIndex == d.BviSwIfIndex})
		}
		all = append(all, b)
	}))
	return all, err
}
