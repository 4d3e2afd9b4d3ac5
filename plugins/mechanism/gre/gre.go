// Package gre is the mechanism GRE: a tunnel of RFC 2784 to another node, by VPP or the
// kernel, which carries Ethernet frames or IP packets. A key (RFC 2890) tells the tunnels
// between two nodes apart.
package gre

import (
	"net/netip"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/tunnel"
	"go.patchbay.dev/vppapi"
)

// Type is the mechanism's name on the wire and in records. Network Service Mesh has none.
const Type = "GRE"

// Key is the parameter beside the addresses; without it, there is one tunnel for each payload
// between two addresses.
const Key = "key"

const maxKey = 1<<32 - 1

// Mechanism is GRE.
type Mechanism struct{ *tunnel.Mechanism[vppapi.GRE] }

// New makes GRE known to the room.
func New(r *tunnel.Room) *Mechanism {
	return &Mechanism{tunnel.NewMechanism(r, kind{}, "gre", maker, port)}
}

type kind struct{}

func (kind) Type() string         { return Type }
func (kind) Payloads() []string   { return []string{models.Ethernet, models.IP} }
func (kind) Parameters() []string { return []string{Key} }

func (kind) Check(p tunnel.Params) error {
	_, err := key(p)
	return err
}

// key is 0 where there is none, which VPP cannot tell from a key that is 0.
func key(p tunnel.Params) (uint32, error) { return p.Number(Key, 1, maxKey, 0) }

// Overhead: GRE, the key, and the inner Ethernet header.
func (kind) Overhead(p tunnel.Params, payload string) int {
	bytes := 4
	if p[Key] != "" {
		bytes += 4
	}
	if payload != models.IP {
		bytes += 14
	}
	return bytes
}

// Claims: a key once on every node; or, without one, the addresses.
func (kind) Claims(p tunnel.Params, at tunnel.Place) []string {
	if p[Key] != "" {
		return []string{claim(p[Key])}
	}
	payload := models.Ethernet
	if at.Payload == models.IP {
		payload = models.IP
	}
	return []string{"GRE without a key for " + payload + " from " + at.Local.String() + " to " + at.Remote.String()}
}

func claim(key string) string { return "GRE key " + key }

func (kind) Propose(p tunnel.Params, c tunnel.Choice) ([]tunnel.Params, error) {
	return c.Alternatives(p, Key, maxKey, claim)
}

func (kind) Accept(p tunnel.Params, _ tunnel.Choice) (tunnel.Params, error) { return p, nil }

func (kind) DeviceKind(a netip.Addr, payload string) string {
	return linux.GRE{Local: a, Ethernet: payload != models.IP}.DeviceKind()
}

// Device describes the end of the tunnel that is at side of the record, as the kernel's own.
func (m *Mechanism) Device(x *models.CrossConnect, side models.Side) (models.Device, error) {
	p, at, err := m.At(x, side)
	if err != nil {
		return nil, err
	}
	k, err := key(p)
	return linux.GRE{Local: at.Local, Remote: at.Remote, Ethernet: at.Payload != models.IP, Keyed: k != 0, Key: k}, err
}
