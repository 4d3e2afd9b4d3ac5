package models

// Device describes an end of a tunnel that the kernel can make in a workload's namespace.
// Specs of values hold it, so it must be comparable with ==. Package plugins/linux has the
// kinds that there are.
type Device interface {
	// DeviceKind is the kernel's word for it, as in ip link add type: vxlan, gretap, …
	DeviceKind() string
}

// CardDataplane is the dataplane of offers whose ends have devices of network cards, between which the
// cards switch.
const CardDataplane = "card"
