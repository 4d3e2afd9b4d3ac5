package vppfake

import (
	"strings"

	"go.fd.io/govpp/binapi/dev"
)

// WithDevice has the machine a PCI function, by its address; VPP has a driver for it if driver is true.
func WithDevice(pci string, driver bool) Option {
	return func(o *options) { o.devices[pci] = driver }
}

// Refusals of VPP's device API (VPP: src/vnet/dev/errors.h).
const (
	devExists   = -1
	devInUse    = -2
	devNoDriver = -8
	devNoBus    = -10
	devNoDevice = -12
	devNotFound = -20
)

var devWords = map[int32]string{devExists: "already exists", devInUse: "already in use", devNoDriver: "driver not available",
	devNoBus: "invalid bus", devNoDevice: "invalid device id", devNotFound: "not found"}

// devMessages adds devices that VPP drives by itself (VPP: src/vnet/dev). Nothing is sent or received.
func devMessages(t *table) {
	on(t, true, func(at *call, q *dev.DevAttach, r *dev.DevAttachReply) int32 {
		index, code := at.attach(cut(q.DeviceID))
		r.DevIndex, r.ErrorString = index, devWords[code]
		return code
	})
	on(t, true, func(at *call, q *dev.DevCreatePortIf, r *dev.DevCreatePortIfReply) int32 {
		code := int32(devNotFound)
		if d := at.w.devices[q.DevIndex]; d != nil && d.port != nil {
			code = devExists
		} else if d != nil {
			d.port = &iface{kind: device, name: cut(q.IntfName), mac: [6]byte{2, 0xde, 0, 0, 0, byte(q.DevIndex)}, mtu: 9000, peer: true}
			at.w.put(d.port)
			r.SwIfIndex, code = uint32(d.port.index), 0
		}
		r.ErrorString = devWords[code]
		return code
	})
	on(t, true, func(at *call, q *dev.DevDetach, r *dev.DevDetachReply) int32 {
		d := at.w.devices[q.DevIndex]
		if d == nil {
			r.ErrorString = devWords[devNotFound]
			return devNotFound
		}
		if d.port != nil {
			at.w.remove(d.port)
		}
		delete(at.w.devices, q.DevIndex)
		return 0
	})
}

// attached is a function that VPP drives.
type attached struct {
	id   string
	port *iface
}

func (at *call) attach(id string) (index uint32, code int32) {
	for _, d := range at.w.devices {
		if d.id == id {
			return 0, devInUse
		}
	}
	pci, ok := strings.CutPrefix(id, "pci/")
	if !ok {
		return 0, devNoBus
	}
	driver, there := at.v.o.devices[pci]
	switch {
	case !there:
		return 0, devNoDevice
	case !driver:
		return 0, devNoDriver
	}
	for at.w.devices[index] != nil {
		index++
	}
	at.w.devices[index] = &attached{id: id}
	return index, 0
}
