package vppfake

import (
	"net/netip"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/fib_types"
	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/ip"
	"go.fd.io/govpp/binapi/ip_types"
)

// addressAt is where an address is, and its prefix's length.
type addressAt struct {
	at   index
	bits int
}

// addressMessages adds the addresses of interfaces, each as a route to VPP itself, and no
// other routes (VPP: src/vnet/ip).
func addressMessages(t *table) {
	on(t, true, func(at *call, q *interfaces.SwInterfaceAddDelAddress, _ *interfaces.SwInterfaceAddDelAddressReply) int32 {
		i, code := at.w.get(q.SwIfIndex, "")
		if code != 0 {
			return code
		}
		a, is := fromAddress(q.Prefix.Address), addressAt{i.index, int(q.Prefix.Len)}
		switch old, there := at.w.addresses[a]; {
		case q.IsAdd && there && a.Is4():
			return int32(api.ADDRESS_IN_USE)
		case q.IsAdd && there:
			return int32(api.DUPLICATE_IF_ADDRESS)
		case !q.IsAdd && (!there || old.at != is.at):
			return int32(api.ADDRESS_NOT_FOUND_FOR_INTERFACE)
		case !q.IsAdd:
			delete(at.w.addresses, a)
		default:
			at.w.addresses[a] = is
			i.ip6 = i.ip6 || a.Is6()
		}
		return 0
	})
	list(t, func(at *call, q *ip.IPAddressDump) (all []*ip.IPAddressDetails) {
		for a, p := range at.w.addresses {
			if p.at == q.SwIfIndex && a.Is6() == q.IsIPv6 {
				all = append(all, &ip.IPAddressDetails{SwIfIndex: p.at, Prefix: ip_types.AddressWithPrefix{Address: toAddress(a), Len: uint8(p.bits)}})
			}
		}
		return all
	})
	on(t, false, func(at *call, q *ip.IPRouteLookup, r *ip.IPRouteLookupReply) int32 {
		a, ok := at.w.addresses[fromAddress(q.Prefix.Address)]
		if !ok {
			return int32(api.NO_SUCH_ENTRY)
		}
		r.Route = ip.IPRoute{Prefix: q.Prefix, NPaths: 1, Paths: []fib_types.FibPath{{SwIfIndex: uint32(a.at), Type: fib_types.FIB_API_PATH_TYPE_LOCAL}}}
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
	v.world.addresses[a] = addressAt{bits: a.BitLen()}
	if !add {
		delete(v.world.addresses, a)
	}
}
