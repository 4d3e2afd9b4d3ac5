// Package geneve is the mechanism GENEVE: a tunnel of RFC 8926 to another node, by VPP or the
// kernel, which carries Ethernet frames; IP packets in frames between two fixed addresses.
package geneve

import (
	"net/netip"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/tunnel"
	"go.patchbay.dev/vppapi"
)

// Type is the mechanism's name on the wire and in records. Network Service Mesh has none.
const Type = "GENEVE"

// VNI is the parameter beside the addresses: the virtual network identifier.
const VNI = "vni"

// maxVNI is the largest number that 24 bits hold.
const maxVNI = 1<<24 - 1

// Mechanism is GENEVE.
type Mechanism struct {
	*tunnel.Mechanism[vppapi.GENEVE]
}

// New makes GENEVE known to the room.
func New(r *tunnel.Room) *Mechanism {
	return &Mechanism{tunnel.NewMechanism(r, kind{}, "geneve", maker, port)}
}

type kind struct{}

func (kind) Type() string         { return Type }
func (kind) Payloads() []string   { return []string{models.Ethernet, models.IP} }
func (kind) Parameters() []string { return []string{VNI} }

func (kind) Check(p tunnel.Params) error {
	_, err := vni(p)
	return err
}

func vni(p tunnel.Params) (uint32, error) { return p.Number(VNI, 1, maxVNI, -1) }

// Overhead: UDP, GENEVE without options and the inner Ethernet header.
func (kind) Overhead(tunnel.Params, string) int { return 8 + 8 + 14 }

// Claims: VPP has each VNI once with a peer; here every node has it once.
func (kind) Claims(p tunnel.Params, _ tunnel.Place) []string { return []string{claim(p[VNI])} }

func claim(vni string) string { return "GENEVE VNI " + vni }

func (kind) Propose(p tunnel.Params, c tunnel.Choice) ([]tunnel.Params, error) {
	return c.Alternatives(p, VNI, maxVNI, claim)
}

func (kind) Accept(p tunnel.Params, _ tunnel.Choice) (tunnel.Params, error) { return p, nil }

func (kind) DeviceKind(netip.Addr, string) string { return linux.GENEVE{}.DeviceKind() }

// macs are the addresses of both ends of frames that carry IP.
func macs(vni uint32, at tunnel.Place) (own, peer [6]byte) {
	number := tunnel.Itoa(vni)
	return tunnel.MAC(kind{}, number, at.Local), tunnel.MAC(kind{}, number, at.Remote)
}

// Device describes the end of the tunnel that is at side of the record, as the kernel's own.
func (m *Mechanism) Device(x *models.CrossConnect, side models.Side) (models.Device, error) {
	p, at, err := m.At(x, side)
	if err != nil {
		return nil, err
	}
	n, err := vni(p)
	if err != nil {
		return nil, err
	}
	d := linux.GENEVE{Local: at.Local, Remote: at.Remote, VNI: n, Port: vppapi.GENEVEPort}
	if at.Payload == models.IP {
		d.MAC, d.PeerMAC = macs(n, at)
	}
	return d, nil
}
