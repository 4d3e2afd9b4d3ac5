// Package vxlan is the mechanism VXLAN: a tunnel of RFC 7348 to another node, by VPP or the
// kernel, which carries Ethernet frames; IP packets in frames between two fixed addresses.
package vxlan

import (
	"net/netip"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/tunnel"
	"go.patchbay.dev/vppapi"
)

// Type is the mechanism's name on the wire and in records.
const Type = "VXLAN"

// Parameters beside the addresses (package api/pkg/api/networkservice/mechanisms/vxlan of
// Network Service Mesh).
const (
	VNI     = "vni"
	SrcPort = "src_port" // UDP, that the client's node listens on
	DstPort = "dst_port" // UDP, that the endpoint's node listens on
)

// defaultPort is IANA's (RFC 7348, 8).
const defaultPort = 4789

// maxVNI is the largest number that 24 bits hold.
const maxVNI = 1<<24 - 1

// Mechanism is VXLAN.
type Mechanism struct {
	*tunnel.Mechanism[vppapi.VXLAN]
}

// New makes VXLAN known to the room.
func New(r *tunnel.Room) *Mechanism {
	return &Mechanism{tunnel.NewMechanism(r, kind{}, "vxlan", maker, port)}
}

type kind struct{}

func (kind) Type() string         { return Type }
func (kind) Payloads() []string   { return []string{models.Ethernet, models.IP} }
func (kind) Parameters() []string { return []string{VNI, SrcPort, DstPort} }

func (kind) Check(p tunnel.Params) error {
	_, err := parse(p)
	return err
}

// Overhead: UDP, VXLAN and the inner Ethernet header.
func (kind) Overhead(tunnel.Params, string) int { return 8 + 8 + 14 }

// Claims: the kernel has each VNI once, and so has everybody.
func (kind) Claims(p tunnel.Params, _ tunnel.Place) []string { return []string{claim(p[VNI])} }

func claim(vni string) string { return "VXLAN VNI " + vni }

// Propose leaves the numbers of bridges alone.
func (kind) Propose(p tunnel.Params, c tunnel.Choice) ([]tunnel.Params, error) {
	return c.Alternatives(p, VNI, models.MinBridgeVNI-1, claim)
}

func (kind) Accept(p tunnel.Params, _ tunnel.Choice) (tunnel.Params, error) { return p, nil }

func (kind) DeviceKind(netip.Addr, string) string { return linux.VXLAN{}.DeviceKind() }

// params are the parameters, parsed.
type params struct {
	vni              uint32
	srcPort, dstPort uint16
}

func parse(p tunnel.Params) (v params, err error) {
	if v.vni, err = p.Number(VNI, 1, maxVNI, -1); err != nil {
		return v, err
	}
	src, err := p.Number(SrcPort, 1, 1<<16-1, defaultPort)
	if err != nil {
		return v, err
	}
	dst, err := p.Number(DstPort, 1, 1<<16-1, defaultPort)
	v.srcPort, v.dstPort = uint16(src), uint16(dst)
	return v, err
}

// ports are what the node at a side of the record listens on, and the other one.
func (v params) ports(side models.Side) (local, remote uint16) {
	if side == models.ClientSide {
		return v.dstPort, v.srcPort
	}
	return v.srcPort, v.dstPort
}

// macs are the addresses of both ends of frames that carry IP.
func macs(v params, at tunnel.Place) (own, peer [6]byte) {
	number := tunnel.Itoa(v.vni)
	return tunnel.MAC(kind{}, number, at.Local), tunnel.MAC(kind{}, number, at.Remote)
}

// Device describes the end of the tunnel that is at side of the record, as the kernel's own.
func (m *Mechanism) Device(x *models.CrossConnect, side models.Side) (models.Device, error) {
	p, at, err := m.At(x, side)
	if err != nil {
		return nil, err
	}
	v, err := parse(p)
	if err != nil {
		return nil, err
	}
	if v.srcPort != v.dstPort {
		return nil, tunnel.Field(DstPort, "%d differs from %s %d; the kernel has one port for both", v.dstPort, SrcPort, v.srcPort)
	}
	d := linux.VXLAN{Local: at.Local, Remote: at.Remote, VNI: v.vni, Port: v.srcPort}
	if at.Payload == models.IP {
		d.MAC, d.PeerMAC = macs(v, at)
	}
	return d, nil
}
