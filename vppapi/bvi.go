package vppapi

import (
	"context"
	"net/netip"
	"slices"

	"go.fd.io/govpp/api"
	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/ip"
	"go.fd.io/govpp/binapi/ip6_nd"
	"go.fd.io/govpp/binapi/ip_types"
	"go.fd.io/govpp/binapi/l2"
)

// CreateBVI makes an interface by which VPP itself is on a bridge domain, see
// [Client.Bridge]. api.INVALID_REGISTRATION says that VPP has as many as it can (16,384).
func (c *Client) CreateBVI(ctx context.Context, mac [6]byte) (Index, error) {
	reply := &l2.BviCreateReply{}
	err := c.call(ctx, one(&l2.BviCreate{Mac: mac, UserInstance: anyInstance}, reply))
	return Index(reply.SwIfIndex), err
}

// DeleteBVI deletes such an interface, with its addresses. One that is not there is no error.
func (c *Client) DeleteBVI(ctx context.Context, index Index) error {
	return c.call(ctx, one(&l2.BviDelete{SwIfIndex: interface_types.InterfaceIndex(index)}, &l2.BviDeleteReply{}, api.INVALID_SW_IF_INDEX).
		after(func() { c.inv.gone(index) }))
}

// bviName is what VPP's names of such interfaces begin with.
const bviName = "bvi"

// BVIs lists all such interfaces.
func (c *Client) BVIs(ctx context.Context) (all []Interface, err error) {
	request := &interfaces.SwInterfaceDump{SwIfIndex: interface_types.InterfaceIndex(All), NameFilterValid: true, NameFilter: bviName}
	err = c.call(ctx, dumpBy(request, func(i Interface) { all = append(all, i) }))
	return all, err
}

// SetAddresses gives an interface these addresses and no others: it looks at what is there
// and changes what differs. With IPv6 VPP would advertise itself as a router there, and is
// told not to. api.ADDRESS_IN_USE (IPv4) and api.DUPLICATE_IF_ADDRESS (IPv6) say that
// another interface has an address, or one of its subnet.
func (c *Client) SetAddresses(ctx context.Context, index Index, want []netip.Prefix) error {
	have, err := c.Addresses(ctx, index)
	if err != nil {
		return err
	}
	var calls []*exchange
	at := interface_types.InterfaceIndex(index)
	for _, p := range have {
		if !slices.Contains(want, p) {
			calls = append(calls, one(&interfaces.SwInterfaceAddDelAddress{SwIfIndex: at, Prefix: prefix(p)}, &interfaces.SwInterfaceAddDelAddressReply{}))
		}
	}
	for _, p := range want {
		if slices.Contains(have, p) {
			continue
		}
		calls = append(calls, one(&interfaces.SwInterfaceAddDelAddress{SwIfIndex: at, Prefix: prefix(p), IsAdd: true}, &interfaces.SwInterfaceAddDelAddressReply{}))
		if p.Addr().Is6() {
			calls = append(calls, one(&ip6_nd.SwInterfaceIP6ndRaConfig{SwIfIndex: at, Suppress: 1}, &ip6_nd.SwInterfaceIP6ndRaConfigReply{}))
		}
	}
	if calls == nil {
		return nil
	}
	return c.call(ctx, calls...)
}

func prefix(p netip.Prefix) ip_types.AddressWithPrefix {
	return ip_types.AddressWithPrefix{Address: address(p.Addr()), Len: uint8(p.Bits())}
}

// Addresses lists those of an interface, without the one of IPv6 that VPP gives it itself.
func (c *Client) Addresses(ctx context.Context, index Index) (all []netip.Prefix, err error) {
	each := func(d *ip.IPAddressDetails) {
		all = append(all, netip.PrefixFrom(fromAddress(d.Prefix.Address), int(d.Prefix.Len)))
	}
	at := interface_types.InterfaceIndex(index)
	err = c.call(ctx, dump(&ip.IPAddressDump{SwIfIndex: at}, each), dump(&ip.IPAddressDump{SwIfIndex: at, IsIPv6: true}, each))
	return all, err
}
