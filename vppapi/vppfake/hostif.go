package vppfake

import (
	"net"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/af_packet"
)

// hostifMessages adds af_packet (VPP: src/plugins/af_packet). The kernel's interface must
// be there, but nothing is sent or received on it, nor is it set up.
func hostifMessages(t *table) {
	on(t, true, func(at *call, q *af_packet.AfPacketCreateV3, r *af_packet.AfPacketCreateV3Reply) int32 {
		name := cut(q.HostIfName)
		if i := at.w.byHost(name); i != nil {
			r.SwIfIndex = i.index
			return int32(api.IF_ALREADY_EXISTS)
		}
		if _, err := net.InterfaceByName(name); err != nil {
			return int32(api.INVALID_INTERFACE)
		}
		i := &iface{kind: hostif, name: "host-" + name, hostDev: name, mac: q.HwAddr, mtu: 9000, peer: true}
		at.w.put(i)
		r.SwIfIndex = i.index
		return 0
	})
	on(t, true, func(at *call, q *af_packet.AfPacketDelete, _ *af_packet.AfPacketDeleteReply) int32 {
		i := at.w.byHost(cut(q.HostIfName))
		if i == nil {
			return int32(api.SYSCALL_ERROR_1)
		}
		at.w.remove(i)
		return 0
	})
	list(t, func(at *call, _ *af_packet.AfPacketDump) (all []*af_packet.AfPacketDetails) {
		for _, i := range sorted(at.w.interfaces) {
			if i.kind == hostif {
				all = append(all, &af_packet.AfPacketDetails{SwIfIndex: i.index, HostIfName: i.hostDev})
			}
		}
		return all
	})
}

func (w *world) byHost(name string) *iface {
	for _, i := range w.interfaces {
		if i.kind == hostif && i.hostDev == name {
			return i
		}
	}
	return nil
}
