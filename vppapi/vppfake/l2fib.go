package vppfake

import (
	"bytes"
	"fmt"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/l2"

	"go.patchbay.dev/vppapi"
)

// fibMessages adds the MAC tables of bridge domains, and their hosts (VPP: src/vnet/l2/l2_fib.c, l2_bd.c).
func fibMessages(t *table) {
	on(t, true, func(at *call, q *l2.L2fibAddDel, _ *l2.L2fibAddDelReply) int32 {
		if at.w.bridges[q.BdID] == nil {
			return int32(api.NO_SUCH_ENTRY)
		}
		key := macKey{q.BdID, q.Mac}
		if !q.IsAdd {
			if p, ok := at.w.macs[key]; !ok || q.SwIfIndex != 0 && p.at != q.SwIfIndex {
				return int32(api.NO_SUCH_ENTRY)
			}
			delete(at.w.macs, key)
			return 0
		}
		i, code := at.w.get(q.SwIfIndex, "")
		switch {
		case code != 0:
			return code
		case i.bridge == 0:
			return int32(api.INVALID_SW_IF_INDEX)
		}
		at.w.macs[key] = macPlace{at: q.SwIfIndex, set: true, static: q.StaticMac, bvi: q.BviMac}
		return 0
	})
	list(t, func(at *call, q *l2.L2FibTableDump) (all []*l2.L2FibTableDetails) {
		for k, p := range at.w.macs {
			if q.BdID == vppapi.AllBridges || q.BdID == k.bridge {
				all = append(all, &l2.L2FibTableDetails{BdID: k.bridge, Mac: k.mac, SwIfIndex: p.at, StaticMac: p.static, BviMac: p.bvi})
			}
		}
		return all
	})
	on(t, true, func(at *call, q *l2.BdIPMacAddDel, _ *l2.BdIPMacAddDelReply) int32 {
		b, code := at.w.bridge(q.Entry.BdID)
		if code != 0 {
			return code
		}
		a := fromAddress(q.Entry.IP)
		if q.IsAdd {
			b.neighbors[a] = q.Entry.Mac
			return 0
		}
		if mac, ok := b.neighbors[a]; !ok || mac != q.Entry.Mac {
			return int32(api.UNSPECIFIED)
		}
		delete(b.neighbors, a)
		return 0
	})
	list(t, func(at *call, q *l2.BdIPMacDump) (all []*l2.BdIPMacDetails) {
		for _, b := range sorted(at.w.bridges) {
			for a, mac := range b.neighbors {
				if q.BdID == vppapi.AllBridges || q.BdID == b.Number {
					all = append(all, &l2.BdIPMacDetails{Entry: l2.BdIPMac{BdID: b.Number, IP: toAddress(a), Mac: mac}})
				}
			}
		}
		return all
	})
}

// Bridges are the bridge domains that it has, by number; none if it does not run.
func (v *VPP) Bridges() (all []vppapi.Bridge) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.world == nil {
		return nil
	}
	for _, b := range sorted(v.world.bridges) {
		all = append(all, b.Bridge)
	}
	return all
}

// Frame has a frame come in at the interface with a tag, and gives the tags of those that it
// goes out of: by its cross-connect or, learning and flooding, by its bridge domain. It is an
// error if there is no such interface.
func (v *VPP) Frame(tag string, from, to [6]byte) (out []string, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.world != nil {
		for _, i := range v.world.interfaces {
			if i.tag == tag {
				for _, o := range v.world.frame(i, from, to) {
					out = append(out, o.tag)
				}
				return out, nil
			}
		}
	}
	return nil, fmt.Errorf("fake VPP: no interface %q", tag)
}

func (w *world) frame(in *iface, from, to [6]byte) (out []*iface) {
	b := w.bridges[in.bridge]
	if other := w.interfaces[in.l2]; other != nil {
		out = append(out, other)
	}
	if b == nil || !b.forwards || !in.admin {
		return out
	}
	known, there := w.macs[macKey{b.Number, from}]
	switch {
	case there && known.static && known.at != in.index:
		return nil // it is elsewhere
	case b.Learn && !known.set:
		w.macs[macKey{b.Number, from}] = macPlace{at: in.index}
	}
	group := to[0]&1 != 0 || bytes.Equal(to[:], make([]byte, 6))
	if p, there := w.macs[macKey{b.Number, to}]; there && !group {
		if o := w.interfaces[p.at]; o != nil && o != in && o.bridge == b.Number && !split(in, o) {
			out = append(out, o)
		}
		return out
	}
	if group && !b.Flood || !group && !b.UnknownUnicast {
		return nil
	}
	for _, o := range w.ports(b.Number) {
		if o != in && o.admin && !split(in, o) {
			out = append(out, o)
		}
	}
	return out
}

// split tells whether two ports are of one split-horizon group.
func split(a, b *iface) bool { return a.group != 0 && a.group == b.group }
