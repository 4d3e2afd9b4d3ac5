package vppapi

import (
	"context"
	"maps"
	"net/netip"
	"slices"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/ethernet_types"
	"go.fd.io/govpp/binapi/fib_types"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/ip_neighbor"
	"go.fd.io/govpp/binapi/ip_types"
	"go.fd.io/govpp/binapi/l3xc"
)

// L3Path says where the IP packets of one family that come in at an interface go.
type L3Path struct {
	From, To Index
	IPv6     bool
	NextHop  netip.Addr // on To; not valid where To leads to one host only
}

// Neighbor is a fixed entry of VPP's neighbour table: the host behind a port.
type Neighbor struct {
	At      Index
	Address netip.Addr
	MAC     [6]byte
}

// ConnectL3 sets neighbours and paths, and sets up where the paths begin and lead to, as
// ConnectL2. It may be repeated. A path that is there is deleted
// first: VPP 25.10 goes on forwarding by the old one else, and by none if it is left from
// an interface that had the index before (VPP: src/plugins/l3xc/l3xc.c, l3xc_update). Both
// outlive their interface in VPP, so they are to be taken away before it.
func (c *Client) ConnectL3(ctx context.Context, neighbors []Neighbor, paths []L3Path) error {
	var calls []*exchange
	for _, n := range neighbors {
		calls = append(calls, neighbor(n, true))
	}
	for _, p := range paths {
		calls = append(calls, deletePath(p), one(&l3xc.L3xcUpdate{L3xc: l3xc.L3xc{
			SwIfIndex: interface_types.InterfaceIndex(p.From), IsIP6: p.IPv6, Paths: []fib_types.FibPath{p.fib()},
		}}, &l3xc.L3xcUpdateReply{}))
	}
	ends := map[Index]bool{}
	for _, p := range paths {
		ends[p.From], ends[p.To] = true, true
	}
	both := slices.Sorted(maps.Keys(ends))
	err := c.settingUp(ctx, slices.Concat(c.left(both...), calls, c.raise(both...))...)
	if err == nil {
		c.joined(both...)
	}
	return err
}

func (p L3Path) fib() fib_types.FibPath {
	f := fib_types.FibPath{SwIfIndex: uint32(p.To), Weight: 1}
	if p.IPv6 {
		f.Proto = fib_types.FIB_API_PATH_NH_PROTO_IP6
	}
	if p.NextHop.IsValid() {
		f.Nh.Address = address(p.NextHop).Un
	}
	return f
}

func address(a netip.Addr) ip_types.Address {
	if a.Is4() {
		return ip_types.Address{Af: ip_types.ADDRESS_IP4, Un: ip_types.AddressUnionIP4(a.As4())}
	}
	return ip_types.Address{Af: ip_types.ADDRESS_IP6, Un: ip_types.AddressUnionIP6(a.As16())}
}

func fromAddress(a ip_types.Address) netip.Addr {
	if a.Af == ip_types.ADDRESS_IP4 {
		return netip.AddrFrom4(a.Un.GetIP4())
	}
	return netip.AddrFrom16(a.Un.GetIP6())
}

func neighbor(n Neighbor, add bool) *exchange {
	return one(&ip_neighbor.IPNeighborAddDel{IsAdd: add, Neighbor: ip_neighbor.IPNeighbor{
		SwIfIndex:  interface_types.InterfaceIndex(n.At),
		Flags:      ip_neighbor.IP_API_NEIGHBOR_FLAG_STATIC | ip_neighbor.IP_API_NEIGHBOR_FLAG_NO_FIB_ENTRY,
		MacAddress: ethernet_types.MacAddress(n.MAC),
		IPAddress:  address(n.Address),
	}}, &ip_neighbor.IPNeighborAddDelReply{}, api.NO_SUCH_ENTRY)
}

func deletePath(p L3Path) *exchange {
	return one(&l3xc.L3xcDel{SwIfIndex: interface_types.InterfaceIndex(p.From), IsIP6: p.IPv6}, &l3xc.L3xcDelReply{},
		api.INVALID_VALUE, api.INVALID_SW_IF_INDEX, api.NO_SUCH_ENTRY)
}

// DisconnectL3 takes paths and neighbours away. What is not there is no error.
func (c *Client) DisconnectL3(ctx context.Context, neighbors []Neighbor, paths []L3Path) error {
	var calls []*exchange
	for _, p := range paths {
		calls = append(calls, deletePath(p))
	}
	for _, n := range neighbors {
		x := neighbor(n, false)
		x.fine = append(x.fine, api.INVALID_SW_IF_INDEX)
		calls = append(calls, x)
	}
	return c.call(ctx, calls...)
}

// L3Connections lists all paths and all fixed neighbours.
func (c *Client) L3Connections(ctx context.Context) (paths []L3Path, neighbors []Neighbor, err error) {
	each := func(d *ip_neighbor.IPNeighborDetails) {
		if n := d.Neighbor; n.Flags&ip_neighbor.IP_API_NEIGHBOR_FLAG_STATIC != 0 {
			neighbors = append(neighbors, Neighbor{At: Index(n.SwIfIndex), Address: fromAddress(n.IPAddress), MAC: n.MacAddress})
		}
	}
	err = c.call(ctx,
		dump(&l3xc.L3xcDump{SwIfIndex: interface_types.InterfaceIndex(All)}, func(d *l3xc.L3xcDetails) {
			p := L3Path{From: Index(d.L3xc.SwIfIndex)}
			for _, f := range d.L3xc.Paths {
				p.To = Index(f.SwIfIndex)
				p.IPv6 = f.Proto == fib_types.FIB_API_PATH_NH_PROTO_IP6 // VPP does not fill in IsIP6
				hop := ip_types.Address{Af: ip_types.ADDRESS_IP4, Un: f.Nh.Address}
				if p.IPv6 {
					hop.Af = ip_types.ADDRESS_IP6
				}
				if a := fromAddress(hop); !a.IsUnspecified() {
					p.NextHop = a
				}
			}
			paths = append(paths, p)
		}),
		dump(&ip_neighbor.IPNeighborDump{SwIfIndex: interface_types.InterfaceIndex(All), Af: ip_types.ADDRESS_IP4}, each),
		dump(&ip_neighbor.IPNeighborDump{SwIfIndex: interface_types.InterfaceIndex(All), Af: ip_types.ADDRESS_IP6}, each))
	return paths, neighbors, err
}
