package vppfake

import (
	"net/netip"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/l2"

	"go.patchbay.dev/vppapi"
)

// bridge is a bridge domain.
type bridge struct {
	vppapi.Bridge
	forwards  bool
	neighbors map[netip.Addr][6]byte
}

// macKey is a MAC in a bridge domain.
type macKey struct {
	bridge uint32
	mac    [6]byte
}

// Where a MAC is. It is there for good if it was set, whatever becomes of the interface.
type macPlace struct {
	at               index
	set, static, bvi bool
}

// bridgeMessages adds bridge domains (VPP: src/vnet/l2).
func bridgeMessages(t *table) {
	on(t, true, bridgeAddDel)
	on(t, true, func(at *call, q *l2.BridgeFlags, _ *l2.BridgeFlagsReply) int32 {
		b, code := at.w.bridge(q.BdID)
		if code == 0 {
			for flag, is := range map[l2.BdFlags]*bool{
				l2.BRIDGE_API_FLAG_LEARN: &b.Learn, l2.BRIDGE_API_FLAG_FLOOD: &b.Flood, l2.BRIDGE_API_FLAG_UU_FLOOD: &b.UnknownUnicast,
				l2.BRIDGE_API_FLAG_ARP_TERM: &b.ARPTermination, l2.BRIDGE_API_FLAG_FWD: &b.forwards,
			} {
				if q.Flags&flag != 0 {
					*is = q.IsSet
				}
			}
		}
		return code
	})
	on(t, true, func(at *call, q *l2.BridgeDomainSetMacAge, _ *l2.BridgeDomainSetMacAgeReply) int32 {
		b, code := at.w.bridge(q.BdID)
		if code == 0 {
			b.MACAge = q.MacAge
		}
		return code
	})
	list(t, func(at *call, q *l2.BridgeDomainDump) (all []*l2.BridgeDomainDetails) {
		for _, b := range sorted(at.w.bridges) {
			if q.BdID == vppapi.AllBridges || q.BdID == b.Number {
				all = append(all, at.w.details(b))
			}
		}
		return all
	})
	on(t, true, setBridge)
	fibMessages(t)
}

func (w *world) bridge(number uint32) (*bridge, int32) {
	b := w.bridges[number]
	switch {
	case number == 0:
		return nil, int32(api.BD_NOT_MODIFIABLE)
	case b == nil:
		return nil, int32(api.NO_SUCH_ENTRY)
	}
	return b, 0
}

func bridgeAddDel(at *call, q *l2.BridgeDomainAddDelV2, r *l2.BridgeDomainAddDelV2Reply) int32 {
	r.BdID = q.BdID
	b, code := at.w.bridge(q.BdID)
	switch {
	case !q.IsAdd && code != 0:
		return code
	case !q.IsAdd && len(at.w.ports(q.BdID)) > 0:
		return int32(api.BD_IN_USE)
	case !q.IsAdd:
		delete(at.w.bridges, q.BdID)
	case q.BdID == 0 || b != nil:
		return int32(api.BD_ALREADY_EXISTS)
	case q.BdID > vppapi.MaxBridge:
		return int32(api.BD_ID_EXCEED_MAX)
	default:
		at.w.bridges[q.BdID] = &bridge{neighbors: map[netip.Addr][6]byte{}, forwards: q.Forward, Bridge: vppapi.Bridge{
			Number: q.BdID, Tag: cut(q.BdTag), Learn: q.Learn, Flood: q.Flood, UnknownUnicast: q.UuFlood, ARPTermination: q.ArpTerm, MACAge: q.MacAge,
		}}
	}
	return 0
}

// ports are the interfaces in a bridge domain.
func (w *world) ports(number uint32) (all []*iface) {
	for _, i := range sorted(w.interfaces) {
		if number != 0 && i.bridge == number {
			all = append(all, i)
		}
	}
	return all
}

func (w *world) details(b *bridge) *l2.BridgeDomainDetails {
	d := &l2.BridgeDomainDetails{
		BdID: b.Number, BdTag: b.Tag, Forward: b.forwards, Learn: b.Learn, Flood: b.Flood, UuFlood: b.UnknownUnicast, ArpTerm: b.ARPTermination, MacAge: b.MACAge,
		BviSwIfIndex: none, UuFwdSwIfIndex: none,
	}
	for _, i := range w.ports(b.Number) {
		d.SwIfDetails = append(d.SwIfDetails, l2.BridgeDomainSwIf{SwIfIndex: i.index, Shg: i.group})
		if i.bvi {
			d.BviSwIfIndex = i.index
		}
	}
	d.NSwIfs = uint32(len(d.SwIfDetails))
	return d
}

// setBridge puts a port into a bridge domain, which VPP makes if it is not there, after it
// took it out of where it was.
func setBridge(at *call, q *l2.SwInterfaceSetL2Bridge, _ *l2.SwInterfaceSetL2BridgeReply) int32 {
	i, code := at.w.get(q.RxSwIfIndex, "")
	switch {
	case code != 0:
		return code
	case q.Enable && q.BdID > vppapi.MaxBridge:
		return int32(api.BD_ID_EXCEED_MAX)
	}
	at.w.unbridge(i)
	i.l2 = none
	if !q.Enable {
		return 0
	}
	b := at.w.bridges[q.BdID]
	if b == nil {
		b = &bridge{neighbors: map[netip.Addr][6]byte{}, Bridge: vppapi.Bridge{Number: q.BdID, Learn: true, Flood: true, UnknownUnicast: true}, forwards: true}
		at.w.bridges[q.BdID] = b
	}
	bvi := q.PortType == l2.L2_API_PORT_TYPE_BVI
	if bvi && at.w.details(b).BviSwIfIndex != none {
		return int32(api.BD_ALREADY_HAS_BVI)
	}
	i.bridge, i.group, i.bvi = q.BdID, q.Shg, bvi
	if bvi {
		at.w.macs[macKey{q.BdID, i.mac}] = macPlace{at: i.index, set: true, static: true, bvi: true}
	}
	return 0
}

// unbridge takes a port out of its bridge domain, which forgets what it has learned there.
func (w *world) unbridge(i *iface) {
	for k, p := range w.macs {
		if k.bridge == i.bridge && p.at == i.index && (!p.set || p.bvi) {
			delete(w.macs, k)
		}
	}
	i.bridge, i.group, i.bvi = 0, 0, false
}
