// Package wireguard is the mechanism WIREGUARD: an encrypted tunnel for IP packets to another
// node, by VPP or the kernel. The nodes exchange public keys; the private ones are derived
// from a secret that never leaves the node.
package wireguard

import (
	"encoding/base64"
	"net/netip"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/tunnel"
	"go.patchbay.dev/vppapi"
)

// Type is the mechanism's name on the wire and in records.
const Type = "WIREGUARD"

// Parameters beside the addresses (package api/pkg/api/networkservice/mechanisms/wireguard of
// Network Service Mesh). Keys are in base64, as wg(8) writes them.
const (
	SrcPublicKey = "src_public_key"
	DstPublicKey = "dst_public_key"
	SrcPort      = "src_port" // UDP, that the client's node listens on
	DstPort      = "dst_port" // UDP, that the endpoint's node listens on
)

// Ports that are chosen, from WireGuard's usual one on. Each tunnel has one of its own.
const minPort, maxPort = 51820, 1<<16 - 1

// Mechanism is WIREGUARD.
type Mechanism struct {
	*tunnel.Mechanism[vppapi.WireGuard]
	keys *keys
}

// New makes WIREGUARD known to the room. The node's secret is kept in a file, which is made
// when it is first needed.
func New(r *tunnel.Room, secretFile string) *Mechanism {
	k := &keys{file: secretFile}
	m := &Mechanism{keys: k}
	m.Mechanism = tunnel.NewMechanism(r, kind{k}, "wireguard", maker, m.port)
	return m
}

type kind struct{ keys *keys }

func (kind) Type() string         { return Type }
func (kind) Payloads() []string   { return []string{models.IP} }
func (kind) Parameters() []string { return []string{SrcPublicKey, DstPublicKey, SrcPort, DstPort} }

func (kind) Check(p tunnel.Params) error {
	_, err := parse(p)
	return err
}

// Overhead: UDP, the header and the authentication tag of WireGuard's data message.
func (kind) Overhead(tunnel.Params, string) int { return 8 + 16 + 16 }

// Claims: the UDP port on this node.
func (kind) Claims(p tunnel.Params, at tunnel.Place) []string {
	port := p[SrcPort]
	if at.Side == models.ClientSide {
		port = p[DstPort]
	}
	return []string{claim(port)}
}

func claim(port string) string { return "WIREGUARD UDP port " + port }

// choose gives a port that is free on this node and the public key of the end at a side.
func (k kind) choose(c tunnel.Choice, side models.Side) (port, key string, err error) {
	numbers, err := c.Numbers(1, minPort, maxPort, func(n uint32) string { return claim(tunnel.Itoa(n)) })
	if err != nil {
		return "", "", err
	}
	pair, err := k.keys.of(c.ID, side)
	return tunnel.Itoa(numbers[0]), base64.StdEncoding.EncodeToString(pair.public[:]), err
}

func (k kind) Propose(p tunnel.Params, c tunnel.Choice) ([]tunnel.Params, error) {
	port, key, err := k.choose(c, models.EndpointSide)
	if err != nil {
		return nil, err
	}
	return []tunnel.Params{p.With(SrcPort, port).With(SrcPublicKey, key)}, nil
}

func (k kind) Accept(p tunnel.Params, c tunnel.Choice) (tunnel.Params, error) {
	port, key, err := k.choose(c, models.ClientSide)
	return p.With(DstPort, port).With(DstPublicKey, key), err
}

func (kind) DeviceKind(netip.Addr, string) string { return linux.WireGuard{}.DeviceKind() }

// params are the parameters, parsed.
type params struct {
	srcKey, dstKey   [32]byte
	srcPort, dstPort uint16
}

func parse(p tunnel.Params) (v params, err error) {
	for name, key := range map[string]*[32]byte{SrcPublicKey: &v.srcKey, DstPublicKey: &v.dstKey} {
		data, err := base64.StdEncoding.DecodeString(p[name])
		if err != nil || len(data) != len(key) {
			return v, tunnel.Field(name, "%q is not a public key of 32 bytes in base64, as wg pubkey prints it", p[name])
		}
		*key = [32]byte(data)
	}
	src, err := p.Number(SrcPort, 1, 1<<16-1, -1)
	if err != nil {
		return v, err
	}
	dst, err := p.Number(DstPort, 1, 1<<16-1, -1)
	v.srcPort, v.dstPort = uint16(src), uint16(dst)
	return v, err
}

// end is a tunnel as the node sees it that is at a side of the record.
type end struct {
	own     pair
	port    uint16
	peerKey [32]byte
	peer    netip.AddrPort
}

// end finds this node's key, and refuses a record that was made for another.
func (m *Mechanism) end(id string, p tunnel.Params, at tunnel.Place) (e end, err error) {
	v, err := parse(p)
	if err != nil {
		return e, err
	}
	if e.own, err = m.keys.of(id, at.Side); err != nil {
		return e, err
	}
	own, name := v.srcKey, SrcPublicKey
	e.port, e.peerKey, e.peer = v.srcPort, v.dstKey, netip.AddrPortFrom(at.Remote, v.dstPort)
	if at.Side == models.ClientSide {
		own, name = v.dstKey, DstPublicKey
		e.port, e.peerKey, e.peer = v.dstPort, v.srcKey, netip.AddrPortFrom(at.Remote, v.srcPort)
	}
	if own != e.own.public {
		return e, tunnel.Field(name, "%s is not this node's key for connection %q, which is %s",
			p[name], id, base64.StdEncoding.EncodeToString(e.own.public[:]))
	}
	return e, nil
}

// Device describes the end of the tunnel that is at side of the record, as the kernel's own.
func (m *Mechanism) Device(x *models.CrossConnect, side models.Side) (models.Device, error) {
	p, at, err := m.At(x, side)
	if err != nil {
		return nil, err
	}
	e, err := m.end(x.GetId(), p, at)
	if err != nil {
		return nil, err
	}
	return linux.WireGuard{PrivateKey: [32]byte(e.own.private), Port: e.port, PeerKey: e.peerKey, Peer: e.peer}, nil
}
