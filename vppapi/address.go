package vppapi

import (
	"context"
	"errors"
	"net/netip"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/fib_types"
	"go.fd.io/govpp/binapi/ip"
	"go.fd.io/govpp/binapi/ip_types"
)

// AddressOf says which interface of VPP has an address, in VPP's main table; ok is false if
// none has it. The interface's MTU is that of what VPP sends there.
func (c *Client) AddressOf(ctx context.Context, a netip.Addr) (i Interface, ok bool, err error) {
	reply := &ip.IPRouteLookupReply{}
	err = c.call(ctx, one(&ip.IPRouteLookup{Exact: 1, Prefix: ip_types.Prefix{Address: address(a), Len: uint8(a.BitLen())}}, reply))
	if errors.Is(err, api.NO_SUCH_ENTRY) {
		return i, false, nil
	}
	if err != nil {
		return i, false, err
	}
	for _, p := range reply.Route.Paths {
		if p.Type != fib_types.FIB_API_PATH_TYPE_LOCAL || p.SwIfIndex == uint32(All) {
			continue
		}
		err = c.call(ctx, dumpInterfaces(Index(p.SwIfIndex), func(d Interface) {
			if d.Index == Index(p.SwIfIndex) { // 0 lists all
				i, ok = d, true
			}
		}))
		return i, ok, err
	}
	return i, false, nil
}
