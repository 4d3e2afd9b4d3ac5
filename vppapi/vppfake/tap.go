package vppfake

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/tapv2"

	"go.patchbay.dev/vppapi"
)

// TapMaker makes the kernel's end of a tap, which is gone when it is closed. Its error
// wraps fs.ErrNotExist if there is no such namespace.
type TapMaker func(t vppapi.Tap) (io.Closer, error)

// WithTaps has taps made; without, it is a VPP on a machine that has no /dev/vhost-net.
func WithTaps(m TapMaker) Option { return func(o *options) { o.taps = m } }

// tapMessages adds taps (VPP: src/vnet/devices/tap).
func tapMessages(t *table) {
	on(t, true, tapCreate)
	on(t, true, func(at *call, q *tapv2.TapDeleteV2, _ *tapv2.TapDeleteV2Reply) int32 {
		i, code := at.w.get(q.SwIfIndex, taps)
		if code == 0 {
			at.w.remove(i)
		}
		return code
	})
	list(t, func(at *call, q *tapv2.SwInterfaceTapV2Dump) (all []*tapv2.SwInterfaceTapV2Details) {
		for _, i := range sorted(at.w.interfaces) {
			if i.kind != taps || (q.SwIfIndex != none && q.SwIfIndex != i.index) {
				continue
			}
			c := i.tap
			all = append(all, &tapv2.SwInterfaceTapV2Details{
				SwIfIndex: uint32(i.index), ID: i.id, RxRingSz: c.RxRingSz, TxRingSz: c.TxRingSz, HostMtuSize: c.HostMtuSize,
				HostMacAddr: c.HostMacAddr, TapFlags: c.TapFlags, DevName: i.name, HostIfName: c.HostIfName, HostNamespace: c.HostNamespace,
			})
		}
		return all
	})
}

func tapCreate(at *call, q *tapv2.TapCreateV3, r *tapv2.TapCreateV3Reply) int32 {
	r.SwIfIndex = none
	names := map[string]bool{}
	for _, i := range at.w.interfaces {
		names[i.name] = true
	}
	i := &iface{kind: taps, mac: q.MacAddress, mtu: 9000, peer: true, tag: cut(q.Tag), tap: q}
	form := "tap%d"
	if q.TapFlags&tapv2.TAP_API_FLAG_TUN != 0 {
		form, i.ipMode, i.mac, i.mtu = "tun%d", true, [6]byte{}, 1500
		if q.HostMtuSet {
			i.mtu = q.HostMtuSize
		}
	} else if q.UseRandomMac {
		i.mac = [6]byte{2, 0xfe, 0, 2, 0, byte(len(names))}
	}
	for i.name = fmt.Sprintf(form, i.id); names[fmt.Sprintf("tap%d", i.id)] || names[fmt.Sprintf("tun%d", i.id)]; i.name = fmt.Sprintf(form, i.id) {
		i.id++ // both kinds are counted together
	}
	if at.v.o.taps == nil {
		return int32(api.SYSCALL_ERROR_1)
	}
	end, err := at.v.o.taps(vppapi.Tap{
		Tag: i.tag, TUN: i.ipMode, MAC: i.mac, Name: cut(q.HostIfName), HostMAC: q.HostMacAddr, NetNS: cut(q.HostNamespace), MTU: int(q.HostMtuSize),
	})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return int32(api.SYSCALL_ERROR_2)
	case err != nil:
		return int32(api.SYSCALL_ERROR_3)
	}
	i.free = func() { closeAll(end) }
	at.w.put(i)
	r.SwIfIndex = i.index
	return 0
}
