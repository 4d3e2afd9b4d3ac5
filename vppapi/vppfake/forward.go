package vppfake

import (
	"net/netip"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/fib_types"
	"go.fd.io/govpp/binapi/ip_neighbor"
	"go.fd.io/govpp/binapi/ip_types"
	"go.fd.io/govpp/binapi/l2"
	"go.fd.io/govpp/binapi/l3xc"

	"go.patchbay.dev/vppapi"
)

// forwarding adds l2 cross-connects and neighbours (VPP: src/vnet/l2, src/vnet/ip-neighbor).
func forwarding(t *table) {
	on(t, true, func(at *call, q *l2.SwInterfaceSetL2Xconnect, _ *l2.SwInterfaceSetL2XconnectReply) int32 {
		from, code := at.w.get(q.RxSwIfIndex, "")
		if code != 0 {
			return code
		}
		if !q.Enable {
			at.w.unbridge(from)
			from.l2 = none
			return 0
		}
		to, code := at.w.get(q.TxSwIfIndex, "")
		if code == 0 {
			at.w.unbridge(from)
			from.l2 = to.index
		}
		return code
	})
	list(t, func(at *call, _ *l2.L2XconnectDump) (all []*l2.L2XconnectDetails) {
		for _, i := range sorted(at.w.interfaces) {
			if i.l2 != none {
				all = append(all, &l2.L2XconnectDetails{RxSwIfIndex: i.index, TxSwIfIndex: i.l2})
			}
		}
		return all
	})
	on(t, true, neighborAddDel)
	list(t, func(at *call, q *ip_neighbor.IPNeighborDump) (all []*ip_neighbor.IPNeighborDetails) {
		for k, mac := range at.w.neighbors {
			if (q.SwIfIndex == none || q.SwIfIndex == k.at) && k.address.Is6() == (q.Af == ip_types.ADDRESS_IP6) {
				all = append(all, &ip_neighbor.IPNeighborDetails{Neighbor: ip_neighbor.IPNeighbor{
					SwIfIndex: k.at, Flags: ip_neighbor.IP_API_NEIGHBOR_FLAG_STATIC | ip_neighbor.IP_API_NEIGHBOR_FLAG_NO_FIB_ENTRY,
					MacAddress: mac, IPAddress: toAddress(k.address),
				}})
			}
		}
		return all
	})
}

// neighborKey and what it leads to are a fixed entry of the neighbour table.
type neighborKey struct {
	at      index
	address netip.Addr
}

func neighborAddDel(at *call, q *ip_neighbor.IPNeighborAddDel, _ *ip_neighbor.IPNeighborAddDelReply) int32 {
	if _, code := at.w.get(q.Neighbor.SwIfIndex, ""); code != 0 {
		return code
	}
	k := neighborKey{q.Neighbor.SwIfIndex, fromAddress(q.Neighbor.IPAddress)}
	if q.IsAdd {
		at.w.neighbors[k] = q.Neighbor.MacAddress
		return 0
	}
	if _, ok := at.w.neighbors[k]; !ok {
		return int32(api.NO_SUCH_ENTRY)
	}
	delete(at.w.neighbors, k)
	return 0
}

// l3key and l3path are a cross-connect of one family (VPP: src/plugins/l3xc). It stays
// when its interface is deleted, and can only be deleted once another has the index.
type l3key struct {
	at  index
	ip6 bool
}

// What it was made with is what works, on the interface that it was made for: an update
// changes what is listed only.
type l3path struct {
	fib   fib_types.FibPath
	owner *iface
	works vppapi.L3Path
}

func l3xcMessages(t *table) {
	on(t, true, func(at *call, q *l3xc.L3xcUpdate, _ *l3xc.L3xcUpdateReply) int32 {
		from, code := at.w.get(q.L3xc.SwIfIndex, "")
		if code != 0 {
			return code
		}
		if len(q.L3xc.Paths) == 0 {
			return int32(api.INVALID_VALUE)
		}
		f := q.L3xc.Paths[0]
		if _, code := at.w.get(index(f.SwIfIndex), ""); code != 0 {
			return int32(api.NO_MATCHING_INTERFACE)
		}
		hop := ip_types.Address{Un: f.Nh.Address}
		if f.Proto == fib_types.FIB_API_PATH_NH_PROTO_IP6 {
			hop.Af = ip_types.ADDRESS_IP6
		}
		k := l3key{q.L3xc.SwIfIndex, q.L3xc.IsIP6}
		p, there := at.w.paths[k]
		p.fib = f
		if !there {
			p.owner = from
			p.works = vppapi.L3Path{From: vppapi.Index(k.at), To: vppapi.Index(f.SwIfIndex), IPv6: k.ip6}
			if a := fromAddress(hop); !a.IsUnspecified() {
				p.works.NextHop = a
			}
		}
		at.w.paths[k] = p
		return 0
	})
	on(t, true, func(at *call, q *l3xc.L3xcDel, _ *l3xc.L3xcDelReply) int32 {
		if _, code := at.w.get(q.SwIfIndex, ""); code != 0 {
			return code
		}
		k := l3key{q.SwIfIndex, q.IsIP6}
		if _, ok := at.w.paths[k]; !ok {
			return int32(api.INVALID_VALUE)
		}
		delete(at.w.paths, k)
		return 0
	})
	list(t, func(at *call, q *l3xc.L3xcDump) (all []*l3xc.L3xcDetails) {
		for k, p := range at.w.paths {
			if q.SwIfIndex == none || q.SwIfIndex == k.at {
				// VPP leaves is_ip6 at false; only the path tells the family.
				all = append(all, &l3xc.L3xcDetails{L3xc: l3xc.L3xc{SwIfIndex: k.at, Paths: []fib_types.FibPath{p.fib}}})
			}
		}
		return all
	})
}

func fromAddress(a ip_types.Address) netip.Addr {
	if a.Af == ip_types.ADDRESS_IP4 {
		return netip.AddrFrom4(a.Un.GetIP4())
	}
	return netip.AddrFrom16(a.Un.GetIP6())
}

func toAddress(a netip.Addr) ip_types.Address {
	if a.Is4() {
		return ip_types.Address{Af: ip_types.ADDRESS_IP4, Un: ip_types.AddressUnionIP4(a.As4())}
	}
	return ip_types.Address{Af: ip_types.ADDRESS_IP6, Un: ip_types.AddressUnionIP6(a.As16())}
}
