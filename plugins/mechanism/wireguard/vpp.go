package wireguard

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/netip"

	"go.patchbay.dev/plugins/tunnel"
	"go.patchbay.dev/vppapi"
)

var maker = tunnel.Maker[vppapi.WireGuard]{
	Plugin: vppapi.WireGuardPlugin,
	Create: (*vppapi.Client).CreateWireGuard,
	Delete: func(c *vppapi.Client, ctx context.Context, index vppapi.Index, _ vppapi.WireGuard) error {
		return c.DeleteWireGuard(ctx, index)
	},
	List: func(c *vppapi.Client, ctx context.Context) (all []vppapi.Tunnel[vppapi.WireGuard], err error) {
		found, err := c.WireGuards(ctx)
		for _, f := range found {
			all = append(all, vppapi.Tunnel[vppapi.WireGuard]{Index: f.Index, Tunnel: f.WireGuard})
		}
		return all, err
	},
	// VPP has a peer once; that it would share a port between two is no use to anybody.
	Collide: func(a, b vppapi.WireGuard) bool { return a.PeerKey == b.PeerKey },
	Show: func(w vppapi.WireGuard) string {
		return fmt.Sprintf("UDP port %d with key %s", w.Port, base64.StdEncoding.EncodeToString(w.PublicKey[:]))
	},
	Local: func(w vppapi.WireGuard) netip.Addr { return w.Local },
	Complete: func(found *vppapi.WireGuard, want vppapi.WireGuard) {
		if found.PublicKey == want.PublicKey {
			found.PrivateKey = want.PrivateKey
		}
	},
}

func (m *Mechanism) port(id string, p tunnel.Params, at tunnel.Place) (tunnel.Port[vppapi.WireGuard], error) {
	e, err := m.end(id, p, at)
	return tunnel.Port[vppapi.WireGuard]{Hop: true, Tunnel: vppapi.WireGuard{
		Local: at.Local, Port: e.port, PrivateKey: e.own.private, PublicKey: e.own.public, Peer: e.peer, PeerKey: e.peerKey,
	}}, err
}
