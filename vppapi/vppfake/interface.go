package vppfake

import (
	"fmt"
	"strings"

	"go.fd.io/govpp/api"
	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/ip"
	"go.fd.io/govpp/binapi/memclnt"
	"go.fd.io/govpp/binapi/vlib"
	"go.fd.io/govpp/binapi/vpe"

	"go.patchbay.dev/vppapi"
)

// core adds what every VPP has of interfaces (VPP: src/vnet/interface_api.c).
func core(t *table) {
	on(t, false, func(at *call, _ *memclnt.ControlPing, r *memclnt.ControlPingReply) int32 {
		r.ClientIndex = at.c.index
		return 0
	})
	on(t, false, func(at *call, _ *vpe.ShowVersion, r *vpe.ShowVersionReply) int32 {
		r.Program, r.Version = "vpe", at.v.o.version
		return 0
	})
	on(t, false, func(at *call, q *interfaces.WantInterfaceEvents, _ *interfaces.WantInterfaceEventsReply) int32 {
		want := q.EnableDisable != 0
		if want == at.c.events {
			return int32(api.INVALID_REGISTRATION)
		}
		at.c.events = want
		return 0
	})
	t.add(&interfaces.SwInterfaceEvent{})
	list(t, dumpInterfaces)
	on(t, true, setFlags)
	on(t, true, setTag)
	on(t, true, func(at *call, q *interfaces.SwInterfaceSetMtu, _ *interfaces.SwInterfaceSetMtuReply) int32 {
		i, code := at.w.get(q.SwIfIndex, "")
		if code == 0 && len(q.Mtu) > 0 {
			i.mtu = q.Mtu[0]
		}
		return code
	})
	on(t, true, func(at *call, q *interfaces.SwInterfaceSetMacAddress, _ *interfaces.SwInterfaceSetMacAddressReply) int32 {
		i, code := at.w.get(q.SwIfIndex, "")
		switch {
		case code != 0:
			return code
		case i.mac == [6]byte{}:
			return int32(api.UNIMPLEMENTED) // it is no Ethernet interface
		}
		i.mac = q.MacAddress
		return 0
	})
	on(t, true, setRxMode)
	on(t, true, setRxPlacement)
	list(t, dumpRxPlacement)
	on(t, false, func(at *call, _ *vlib.ShowThreads, r *vlib.ShowThreadsReply) int32 {
		r.ThreadData = []vlib.ThreadData{{Name: "vpp_main"}}
		for n := range at.w.workers {
			r.ThreadData = append(r.ThreadData, vlib.ThreadData{ID: uint32(n + 1), Name: fmt.Sprintf("vpp_wk_%d", n), Type: "workers"})
		}
		r.Count = uint32(len(r.ThreadData))
		return 0
	})
	on(t, true, func(at *call, q *ip.SwInterfaceIP6EnableDisable, _ *ip.SwInterfaceIP6EnableDisableReply) int32 {
		i, code := at.w.get(q.SwIfIndex, "")
		switch {
		case code != 0:
			return code
		case q.Enable && i.ip6:
			return int32(api.VALUE_EXIST)
		case !q.Enable && !i.ip6:
			return int32(api.IP6_NOT_ENABLED)
		}
		i.ip6 = q.Enable
		return 0
	})
}

// setRxPlacement moves a queue, if there is one: without workers to the main thread, by
// whatever name.
func setRxPlacement(at *call, q *interfaces.SwInterfaceSetRxPlacement, _ *interfaces.SwInterfaceSetRxPlacementReply) int32 {
	i, code := at.w.get(q.SwIfIndex, "")
	if code != 0 {
		return code
	}
	if !i.hasQueue() || q.QueueID != 0 || !q.IsMain && int(q.WorkerID) >= max(at.w.workers, 1) {
		return int32(api.UNIMPLEMENTED)
	}
	if i.worker = 0; !q.IsMain && at.w.workers > 0 {
		i.worker = int(q.WorkerID) + 1
	}
	return 0
}

func dumpRxPlacement(at *call, q *interfaces.SwInterfaceRxPlacementDump) (all []*interfaces.SwInterfaceRxPlacementDetails) {
	for _, i := range sorted(at.w.interfaces) {
		if i.hasQueue() && (q.SwIfIndex == none || q.SwIfIndex == i.index) {
			all = append(all, &interfaces.SwInterfaceRxPlacementDetails{SwIfIndex: i.index, WorkerID: uint32(i.worker), Mode: interface_types.RxMode(i.rxMode)})
		}
	}
	return all
}

func dumpInterfaces(at *call, q *interfaces.SwInterfaceDump) (all []*interfaces.SwInterfaceDetails) {
	for _, i := range sorted(at.w.interfaces) {
		if q.NameFilterValid && !strings.Contains(strings.ToLower(i.name), strings.ToLower(q.NameFilter)) {
			continue
		}
		if !q.NameFilterValid && q.SwIfIndex != none && q.SwIfIndex != 0 && q.SwIfIndex != i.index {
			continue
		}
		all = append(all, &interfaces.SwInterfaceDetails{
			SwIfIndex: i.index, SupSwIfIndex: uint32(i.index), L2Address: i.mac, Flags: i.flags(),
			LinkMtu: 9000, Mtu: []uint32{i.mtu, 0, 0, 0}, InterfaceName: i.name, InterfaceDevType: string(i.kind), Tag: i.tag,
		})
	}
	return all
}

func (i *iface) flags() (f interface_types.IfStatusFlags) {
	if i.admin {
		f |= interface_types.IF_STATUS_API_FLAG_ADMIN_UP
	}
	if i.link() {
		f |= interface_types.IF_STATUS_API_FLAG_LINK_UP
	}
	return f
}

func setFlags(at *call, q *interfaces.SwInterfaceSetFlags, _ *interfaces.SwInterfaceSetFlagsReply) int32 {
	i, code := at.w.get(q.SwIfIndex, "")
	if code != 0 {
		return code
	}
	up := q.Flags&interface_types.IF_STATUS_API_FLAG_ADMIN_UP != 0
	if up == i.admin {
		return 0
	}
	was := i.link()
	i.admin = up
	if i.kind == memifs && !up {
		i.peer = false // it disconnects
	}
	if i.kind == taps {
		i.peer = up // the driver says so, whatever the kernel's end does
	}
	at.w.linkChanged(i, was)
	at.w.tell(i.index, q.Flags&interface_types.IF_STATUS_API_FLAG_ADMIN_UP, false)
	return 0
}

func setTag(at *call, q *interfaces.SwInterfaceTagAddDel, _ *interfaces.SwInterfaceTagAddDelReply) int32 {
	i, code := at.w.get(q.SwIfIndex, "")
	switch {
	case code != 0:
		return code
	case q.IsAdd && cut(q.Tag) == "":
		return int32(api.INVALID_VALUE)
	case q.IsAdd:
		i.tag = cut(q.Tag)
	default:
		i.tag = ""
	}
	return 0
}

// setRxMode sets the mode of all queues that are there: a memif has none without a peer,
// a vhost-user interface one that cannot be set yet.
func setRxMode(at *call, q *interfaces.SwInterfaceSetRxMode, _ *interfaces.SwInterfaceSetRxModeReply) int32 {
	i, code := at.w.get(q.SwIfIndex, "")
	mode := vppapi.RxMode(q.Mode)
	switch {
	case code != 0:
		return code
	case i.kind == vhosts && !i.peer && mode != vppapi.Polling, i.kind == hostif && mode == vppapi.Adaptive:
		return int32(api.UNIMPLEMENTED)
	case i.kind == memifs && !i.peer:
		return 0
	}
	i.rxMode = mode
	return 0
}
