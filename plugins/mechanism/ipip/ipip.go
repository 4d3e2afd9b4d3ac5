// Package ipip is the mechanism IPIP: IP packets in IP packets to another node, by VPP or the
// kernel, with nothing in between (RFC 2003, 2473, 4213).
package ipip

import (
	"net/netip"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/tunnel"
	"go.patchbay.dev/vppapi"
)

// Type is the mechanism's name on the wire and in records. Network Service Mesh has none.
const Type = "IPIP"

// Mechanism is IPIP.
type Mechanism struct{ *tunnel.Mechanism[vppapi.IPIP] }

// New makes IPIP known to the room.
func New(r *tunnel.Room) *Mechanism {
	return &Mechanism{tunnel.NewMechanism(r, kind{}, "ipip", maker, port)}
}

type kind struct{}

func (kind) Type() string              { return Type }
func (kind) Payloads() []string        { return []string{models.IP} }
func (kind) Parameters() []string      { return nil }
func (kind) Check(tunnel.Params) error { return nil }

func (kind) Overhead(tunnel.Params, string) int { return 0 }

// Claims: there is nothing to tell two tunnels between the same addresses apart.
func (kind) Claims(_ tunnel.Params, at tunnel.Place) []string {
	return []string{"IPIP from " + at.Local.String() + " to " + at.Remote.String()}
}

func (kind) Propose(p tunnel.Params, _ tunnel.Choice) ([]tunnel.Params, error) {
	return []tunnel.Params{p}, nil
}

func (kind) Accept(p tunnel.Params, _ tunnel.Choice) (tunnel.Params, error) { return p, nil }

func (kind) DeviceKind(a netip.Addr, _ string) string { return linux.IPIP{Local: a}.DeviceKind() }

// Device describes the end of the tunnel that is at side of the record, as the kernel's own.
func (m *Mechanism) Device(x *models.CrossConnect, side models.Side) (models.Device, error) {
	_, at, err := m.At(x, side)
	if err != nil {
		return nil, err
	}
	return linux.IPIP{Local: at.Local, Remote: at.Remote}, nil
}
