package vppfake

import (
	"net/netip"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/fib_types"
	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/ip"
)

// addressMessages adds the addresses of interfaces, each as a route to VPP itself, and no
// other routes (VPP: src/vnet/ip).
func addressMessages(t *table) {
	on(t, true, func(at *call, q *interfaces.SwInterfaceAddDelAddress, _ *interfaces.SwInterfaceAddDelAddressReply) int32 {
		i, code := at.w.get(q.SwIfIndex, "")
		if code != 0 {
			return code
		}
		a := fromAddress(q.Prefix.Address)
		at.w.addresses[a] = i.index
		if !q.IsAdd {
			delete(at.w.addresses, a)
		}
		return 0
	})
	on(t, false, func(at *call, q *ip.IPRouteLookup, r *ip.IPRouteLookupReply) int32 {
		i, ok := at.w.addresses[fromAddress(q.Prefix.Address)]
		if !ok {
			return int32(api.NO_SUCH_ENTRY)
		}
		r.Route = ip.IPRoute{Prefix: q.Prefix, NPaths: 1, Paths: []fib_types.FibPath{{SwIfIndex: uint32(i), Type: fib_types.FIB_API_PATH_TYPE_LOCAL}}}
		return 0
	})
}

// SetAddress gives local0 an address, and takes it away with add false, as somebody does by
// VPP's command line.
func (v *VPP) SetAddress(a netip.Addr, add bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.world == nil {
		return
	}
	v.world.addresses[a] = 0
	if !add {
		delete(v.world.addresses, a)
	}
}
