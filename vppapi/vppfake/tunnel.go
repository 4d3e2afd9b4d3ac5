package vppfake

import (
	"fmt"
	"net/netip"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/geneve"
	"go.fd.io/govpp/binapi/gre"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/ip_types"
	"go.fd.io/govpp/binapi/ipip"
	"go.fd.io/govpp/binapi/vlib"
	"go.fd.io/govpp/binapi/vxlan"

	"go.patchbay.dev/vppapi"
)

// ends checks the ends of a tunnel.
func ends(src, dst ip_types.Address, families api.VPPApiError) (local, remote netip.Addr, code int32) {
	local, remote = fromAddress(src), fromAddress(dst)
	switch {
	case local.Is4() != remote.Is4():
		code = int32(families)
	case local == remote:
		code = int32(api.SAME_SRC_DST)
	}
	return local, remote, code
}

// byTunnel finds a tunnel of a kind by what VPP tells it apart by.
func (w *world) byTunnel(k kind, natural any) *iface {
	for _, i := range w.interfaces {
		if i.kind == k && i.natural == natural {
			return i
		}
	}
	return nil
}

// putTunnel adds a tunnel; VPP numbers each kind for itself.
func (w *world) putTunnel(i *iface, form string) index {
	names := map[string]bool{}
	for _, other := range w.interfaces {
		names[other.name] = true
	}
	for n := 0; i.name == "" || names[i.name]; n++ {
		i.name = fmt.Sprintf(form, n)
	}
	i.peer = true // its link is up whenever it is set up
	w.put(i)
	return i.index
}

// addDel adds a tunnel, or deletes the one that VPP cannot tell from it, and says where it is.
func (w *world) addDel(add bool, i *iface, exists api.VPPApiError, form string) (at index, code int32) {
	there := w.byTunnel(i.kind, i.natural)
	switch {
	case add && there != nil:
		return none, int32(exists)
	case add:
		return w.putTunnel(i, form), 0
	case there == nil:
		return none, int32(api.NO_SUCH_ENTRY)
	}
	w.remove(there)
	return there.index, 0
}

// nodeMessages adds what leads from a tunnel to VPP's own interfaces (VPP: src/vlibmemory/vlib_api.c).
func nodeMessages(t *table) {
	on(t, true, func(_ *call, q *vlib.AddNodeNext, r *vlib.AddNodeNextReply) int32 {
		switch cut(q.NodeName) {
		case "vxlan4-input", "vxlan6-input", "geneve4-input", "geneve6-input":
			r.NextIndex = routed
			return 0
		}
		r.NextIndex = uint32(none)
		return int32(api.NO_SUCH_NODE)
	})
}

// Where a tunnel of frames sends what comes out.
const (
	bridged = 1
	routed  = 2
)

type vxlanKey struct {
	local, remote netip.Addr // local: of IPv4 only
	vni           uint32
	port          uint16
}

// vxlanMessages adds VXLAN (VPP: src/plugins/vxlan).
func vxlanMessages(t *table) {
	on(t, true, func(at *call, q *vxlan.VxlanAddDelTunnelV3, r *vxlan.VxlanAddDelTunnelV3Reply) int32 {
		r.SwIfIndex = none
		local, remote, code := ends(q.SrcAddress, q.DstAddress, api.INVALID_VALUE)
		if code != 0 {
			return code
		}
		for _, port := range []*uint16{&q.SrcPort, &q.DstPort} {
			if *port == 0 {
				*port = 4789
			}
		}
		key := vxlanKey{local, remote, q.Vni, q.SrcPort}
		if local.Is6() {
			key.local = netip.Addr{}
		}
		if q.IsAdd && q.DecapNextIndex > routed {
			return int32(api.INVALID_DECAP_NEXT)
		}
		i := &iface{kind: vxlans, natural: key, made: q, mac: madeUpMAC(at.w), mtu: 9000, admin: true}
		r.SwIfIndex, code = at.w.addDel(q.IsAdd, i, api.TUNNEL_EXIST, "vxlan_tunnel%d")
		return code
	})
	list(t, func(at *call, q *vxlan.VxlanTunnelV2Dump) (all []*vxlan.VxlanTunnelV2Details) {
		for i, m := range made[*vxlan.VxlanAddDelTunnelV3](at.w, vxlans, q.SwIfIndex) {
			all = append(all, &vxlan.VxlanTunnelV2Details{
				SwIfIndex: i.index, SrcAddress: m.SrcAddress, DstAddress: m.DstAddress, SrcPort: m.SrcPort, DstPort: m.DstPort,
				McastSwIfIndex: m.McastSwIfIndex, DecapNextIndex: m.DecapNextIndex, Vni: m.Vni,
			})
		}
		return all
	})
}

func madeUpMAC(w *world) [6]byte { return [6]byte{2, 0xfe, 0, 3, 0, byte(len(w.interfaces))} }

// made are the tunnels of a kind, one or all, and what each was made with.
func made[Q any](w *world, k kind, which interface_types.InterfaceIndex) func(func(*iface, Q) bool) {
	return func(yield func(*iface, Q) bool) {
		for _, i := range sorted(w.interfaces) {
			if i.kind == k && (which == none || which == i.index) && !yield(i, i.made.(Q)) {
				return
			}
		}
	}
}

type geneveKey struct {
	remote netip.Addr
	vni    uint32
}

// geneveMessages adds GENEVE (VPP: src/plugins/geneve).
func geneveMessages(t *table) {
	on(t, true, func(at *call, q *geneve.GeneveAddDelTunnel2, r *geneve.GeneveAddDelTunnel2Reply) (code int32) {
		r.SwIfIndex = none
		local, remote := fromAddress(q.LocalAddress), fromAddress(q.RemoteAddress)
		switch {
		case local == remote:
			return int32(api.SAME_SRC_DST)
		case q.IsAdd && q.DecapNextIndex > routed:
			return int32(api.INVALID_DECAP_NEXT)
		}
		i := &iface{kind: geneves, natural: geneveKey{remote, q.Vni}, made: q, admin: true}
		if q.L3Mode {
			i.mac, i.mtu = madeUpMAC(at.w), 9000
		}
		r.SwIfIndex, code = at.w.addDel(q.IsAdd, i, api.TUNNEL_EXIST, "geneve_tunnel%d")
		return code
	})
	list(t, func(at *call, q *geneve.GeneveTunnelDump) (all []*geneve.GeneveTunnelDetails) {
		for i, m := range made[*geneve.GeneveAddDelTunnel2](at.w, geneves, q.SwIfIndex) {
			all = append(all, &geneve.GeneveTunnelDetails{
				SwIfIndex: i.index, SrcAddress: m.LocalAddress, DstAddress: m.RemoteAddress, McastSwIfIndex: m.McastSwIfIndex,
				DecapNextIndex: m.DecapNextIndex, Vni: m.Vni,
			})
		}
		return all
	})
}

// greMessages adds GRE (VPP: src/plugins/gre).
func greMessages(t *table) {
	on(t, true, func(at *call, q *gre.GreTunnelAddDelV2, r *gre.GreTunnelAddDelV2Reply) int32 {
		r.SwIfIndex = none
		local, remote, code := ends(q.Tunnel.Src, q.Tunnel.Dst, api.INVALID_PROTOCOL)
		if code != 0 {
			return code
		}
		key := vppapi.GRE{Local: local, Remote: remote, Ethernet: q.Tunnel.Type == gre.GRE_API_TUNNEL_TYPE_TEB, Key: q.Tunnel.Key}
		i := &iface{kind: gres, natural: key, made: q, mtu: 9000}
		if key.Ethernet {
			i.mac = madeUpMAC(at.w)
		}
		r.SwIfIndex, code = at.w.addDel(q.IsAdd, i, api.IF_ALREADY_EXISTS, "gre%d")
		return code
	})
	list(t, func(at *call, q *gre.GreTunnelDumpV2) (all []*gre.GreTunnelDetailsV2) {
		for i, m := range made[*gre.GreTunnelAddDelV2](at.w, gres, q.SwIfIndex) {
			d := m.Tunnel
			d.SwIfIndex = i.index
			all = append(all, &gre.GreTunnelDetailsV2{Tunnel: d})
		}
		return all
	})
}

// ipipMessages adds IP in IP (VPP: src/vnet/ipip).
func ipipMessages(t *table) {
	on(t, true, func(at *call, q *ipip.IpipAddTunnel, r *ipip.IpipAddTunnelReply) int32 {
		r.SwIfIndex = none
		local, remote, code := ends(q.Tunnel.Src, q.Tunnel.Dst, api.INVALID_PROTOCOL)
		if code != 0 {
			return code
		}
		key := vppapi.IPIP{Local: local, Remote: remote}
		if i := at.w.byTunnel(ipips, key); i != nil {
			r.SwIfIndex = i.index
			return int32(api.IF_ALREADY_EXISTS)
		}
		r.SwIfIndex = at.w.putTunnel(&iface{kind: ipips, natural: key, made: q, mtu: 9000}, "ipip%d")
		return 0
	})
	on(t, true, func(at *call, q *ipip.IpipDelTunnel, _ *ipip.IpipDelTunnelReply) int32 {
		i, code := at.w.get(q.SwIfIndex, ipips)
		if code != 0 {
			return int32(api.NO_SUCH_ENTRY)
		}
		at.w.remove(i)
		return 0
	})
	list(t, func(at *call, q *ipip.IpipTunnelDump) (all []*ipip.IpipTunnelDetails) {
		for i, m := range made[*ipip.IpipAddTunnel](at.w, ipips, q.SwIfIndex) {
			d := m.Tunnel
			d.SwIfIndex = i.index
			all = append(all, &ipip.IpipTunnelDetails{Tunnel: d})
		}
		return all
	})
}
