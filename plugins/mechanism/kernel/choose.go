package kernel

import (
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/reconcile"
	"go.patchbay.dev/vppapi"
)

// VhostNet is the device by which VPP makes taps.
const VhostNet = "/dev/vhost-net"

// taps are how workloads are attached to VPP where it can make taps.
type taps struct {
	ports  *vppapi.Ports
	mode   vppapi.RxMode
	device string      // empty: VhostNet
	there  atomic.Bool // the device was opened once
	lacks  atomic.Bool // VPP could not make taps when it answered last
	doubts sync.Map    // tags of taps that may be there, though VPP was not heard to say so
}

// wantsTap chooses between tap and veth pair, by looking whether the device can be opened,
// whether VPP has the messages, and whether it sees the agent's processes: by them it opens
// namespaces. It does not depend on whether VPP can be asked now: what was chosen before
// it was restarted is chosen again.
func (m *Mechanism) wantsTap() bool {
	if m.vpp.Up() == nil {
		m.taps.lacks.Store(m.vpp.Missing(vppapi.TapPlugin) != "" || !seesUs(m.vpp.Process()))
	}
	return !m.taps.lacks.Load() && m.taps.present()
}

// seesUs tells whether a process, "<pid>-<start>", is in the agent's pid namespace.
func seesUs(process string) bool {
	pid, _, _ := strings.Cut(process, "-")
	theirs, err1 := os.Readlink("/proc/" + pid + "/ns/pid")
	ours, err2 := os.Readlink("/proc/self/ns/pid")
	return pid != "" && err1 == nil && err2 == nil && theirs == ours
}

// present looks whether the device can be opened: in containers its file may be there,
// and the kernel's module not.
func (t *taps) present() bool {
	if t.there.Load() {
		return true
	}
	name := t.device
	if name == "" {
		name = VhostNet
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return false
	}
	f.Close()
	t.there.Store(true)
	return true
}

// portPlugin is what VPP needs for attaching workloads.
func (m *Mechanism) portPlugin() vppapi.Plugin {
	if m.wantsTap() {
		return vppapi.TapPlugin
	}
	return vppapi.AFPacketPlugin
}

// attachTap renders one workload that is attached to VPP by a tap or, with IP as the
// payload, by a TUN: VPP then sends to it what is for it, whatever its addresses are. But
// one that is to have an address (MAC) or neighbours of its own gets a tap.
func (m *Mechanism) attachTap(x *models.CrossConnect, tag linux.Tag, end End, own, other *models.Attachment) (port models.Port, values []reconcile.Value, err error) {
	isIP := x.GetPayload() == models.IP
	spec := Tap{
		Tag: tag.String(), NetNS: end.NetNS, Name: end.Name, HostMAC: end.MAC, MAC: [6]byte(tag.Port().MAC()), MTU: mtuOf(x), IP: isIP,
		TUN: isIP && own.GetMac() == "" && len(own.GetNeighbors()) == 0,
	}
	if spec.TUN {
		spec.HostMAC, spec.MAC = linux.MAC{}, [6]byte{}
	}
	config, err := portConfig(own, other, isIP && !spec.TUN, linux.MAC(spec.MAC))
	if err != nil {
		return port, nil, under(string(tag.Side), err)
	}
	port = models.Port{Key: tapKey(tag), Tag: spec.Tag, Ethernet: !spec.TUN, MAC: [6]byte(spec.HostMAC)}
	for _, p := range config.Addresses {
		port.Addresses = append(port.Addresses, p.Addr())
	}
	return port, []reconcile.Value{
		{Key: tapKey(tag), Spec: spec},
		{Key: ipKey(tag), Spec: IPConfig{NetNS: end.NetNS, Name: end.Name, Maker: tapKey(tag), Config: config}},
	}, nil
}

// PortKind is the status parameter that says by what a workload is attached to VPP.
const PortKind = "port"

// The values of PortKind.
const (
	PortTap      = "tap"       // a tap of VPP's
	PortTUN      = "tun"       // the same for IP packets
	PortAFPacket = "af_packet" // a veth pair, on whose outer end VPP sends and receives
)

func portOf(p pair) string {
	switch {
	case !isTap(p.key):
		return PortAFPacket
	case p.spec.Ends[0].MAC == linux.MAC{}:
		return PortTUN
	}
	return PortTap
}
