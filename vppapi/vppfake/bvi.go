package vppfake

import (
	"fmt"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/ip6_nd"
	"go.fd.io/govpp/binapi/l2"
)

// bviMessages adds VPP's own interfaces on bridge domains (VPP: src/vnet/l2/l2_bvi.c).
func bviMessages(t *table) {
	on(t, true, func(at *call, q *l2.BviCreate, r *l2.BviCreateReply) int32 {
		used := map[string]bool{}
		for _, i := range at.w.interfaces {
			used[i.name] = true
		}
		i := &iface{kind: bvis, mac: q.Mac, mtu: 9000, peer: true}
		number := q.UserInstance
		if number == uint32(none) {
			for number = 0; used[fmt.Sprintf("bvi%d", number)]; number++ {
			}
		}
		if i.name = fmt.Sprintf("bvi%d", number); used[i.name] || number >= maxBVI {
			r.SwIfIndex = none
			return int32(api.INVALID_REGISTRATION)
		}
		if i.mac == [6]byte{} {
			i.mac = [6]byte{0xb0, 0xb0, 5: byte(number)}
		}
		at.w.put(i)
		r.SwIfIndex = i.index
		return 0
	})
	on(t, true, func(at *call, q *l2.BviDelete, _ *l2.BviDeleteReply) int32 {
		i, code := at.w.get(q.SwIfIndex, bvis)
		if code == 0 {
			at.w.remove(i)
		}
		return code
	})
	on(t, true, func(at *call, q *ip6_nd.SwInterfaceIP6ndRaConfig, _ *ip6_nd.SwInterfaceIP6ndRaConfigReply) int32 {
		i, code := at.w.get(q.SwIfIndex, "")
		switch {
		case code != 0:
			return code
		case !i.ip6:
			return int32(api.IP6_NOT_ENABLED)
		}
		return 0
	})
}

// maxBVI is how many there can be.
const maxBVI = 16 << 10
