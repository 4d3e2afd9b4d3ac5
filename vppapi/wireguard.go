package vppapi

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/ip_types"
	"go.fd.io/govpp/binapi/wireguard"
)

// PrivateKey is a Curve25519 key that no log and no message shows.
type PrivateKey [32]byte

const hidden = "(hidden)"

// String hides the key.
func (PrivateKey) String() string { return hidden }

// GoString hides the key from %#v.
func (PrivateKey) GoString() string { return hidden }

// LogValue hides the key from slog.
func (PrivateKey) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText hides the key from encoders.
func (PrivateKey) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// keepalive is how often, in seconds, a tunnel without traffic sends something, so that its
// next packet need not wait for a handshake, and be lost. It is what WireGuard recommends.
const keepalive = 25

// WireGuard is a tunnel to one peer, which may send whatever it likes. VPP tells interfaces
// apart by nothing, and has each peer's key once.
type WireGuard struct {
	Local      netip.Addr
	Port       uint16     // UDP, that VPP listens on
	PrivateKey PrivateKey // VPP is not asked for it: zero in what was found
	PublicKey  [32]byte   // of PrivateKey
	Peer       netip.AddrPort
	PeerKey    [32]byte
}

// CreateWireGuard makes an interface and its peer; of an interface without a peer nothing is
// left. api.ENTRY_ALREADY_EXISTS says that another interface has the peer.
func (c *Client) CreateWireGuard(ctx context.Context, w WireGuard) (Index, error) {
	reply := &wireguard.WireguardInterfaceCreateReply{}
	err := c.call(ctx, one(&wireguard.WireguardInterfaceCreate{Interface: wireguard.WireguardInterface{
		UserInstance: anyInstance, PrivateKey: w.PrivateKey[:], PublicKey: make([]byte, 32), Port: w.Port, SrcIP: address(w.Local),
	}}, reply))
	if err != nil {
		return 0, err
	}
	index := Index(reply.SwIfIndex)
	err = c.call(ctx, one(&wireguard.WireguardPeerAdd{Peer: wireguard.WireguardPeer{
		PublicKey: w.PeerKey[:], Port: w.Peer.Port(), PersistentKeepalive: keepalive, Endpoint: address(w.Peer.Addr()),
		SwIfIndex: reply.SwIfIndex, AllowedIps: []ip_types.Prefix{{Address: address(netip.IPv4Unspecified())}, {Address: address(netip.IPv6Unspecified())}},
	}}, &wireguard.WireguardPeerAddReply{}))
	if err != nil {
		return 0, errors.Join(err, c.DeleteWireGuard(ctx, index))
	}
	return index, nil
}

// DeleteWireGuard deletes an interface and its peers. One that is not there is no error.
func (c *Client) DeleteWireGuard(ctx context.Context, index Index) error {
	return c.call(ctx, one(&wireguard.WireguardInterfaceDelete{SwIfIndex: interface_types.InterfaceIndex(index)}, &wireguard.WireguardInterfaceDeleteReply{},
		api.INVALID_SW_IF_INDEX).after(func() { c.inv.gone(index) }))
}

// WireGuardFound is an interface as VPP lists it, with one of its peers.
type WireGuardFound struct {
	WireGuard
	Index Index
	// Established: the peer has answered, and not fallen silent since.
	Established bool
}

// WireGuards lists all interfaces; one whose making was interrupted has no peer.
func (c *Client) WireGuards(ctx context.Context) (all []WireGuardFound, err error) {
	at := map[interface_types.InterfaceIndex]int{}
	err = c.call(ctx,
		dump(&wireguard.WireguardInterfaceDump{SwIfIndex: interface_types.InterfaceIndex(All)}, func(d *wireguard.WireguardInterfaceDetails) {
			i := d.Interface
			at[i.SwIfIndex] = len(all)
			all = append(all, WireGuardFound{Index: Index(i.SwIfIndex), WireGuard: WireGuard{
				Local: fromAddress(i.SrcIP), Port: i.Port, PublicKey: [32]byte(i.PublicKey),
			}})
		}),
		dump(&wireguard.WireguardPeersDump{PeerIndex: 1<<32 - 1}, func(d *wireguard.WireguardPeersDetails) {
			if i, ok := at[d.Peer.SwIfIndex]; ok {
				all[i].Peer, all[i].PeerKey = netip.AddrPortFrom(fromAddress(d.Peer.Endpoint), d.Peer.Port), [32]byte(d.Peer.PublicKey)
				all[i].Established = d.Peer.Flags&wireguard.WIREGUARD_PEER_ESTABLISHED != 0
			}
		}))
	return all, err
}
