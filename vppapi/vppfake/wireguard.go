package vppfake

import (
	"crypto/ecdh"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/wireguard"
)

// wireguardMessages adds WireGuard (VPP: src/plugins/wireguard). No peer ever answers.
func wireguardMessages(t *table) {
	on(t, true, func(at *call, q *wireguard.WireguardInterfaceCreate, r *wireguard.WireguardInterfaceCreateReply) int32 {
		r.SwIfIndex = none
		key, err := ecdh.X25519().NewPrivateKey(q.Interface.PrivateKey)
		if err != nil {
			return int32(api.INVALID_REGISTRATION)
		}
		q.Interface.PublicKey, q.Interface.PrivateKey = key.PublicKey().Bytes(), make([]byte, 32)
		r.SwIfIndex = at.w.putTunnel(&iface{kind: wireguards, made: q}, "wg%d")
		return 0
	})
	on(t, true, func(at *call, q *wireguard.WireguardInterfaceDelete, _ *wireguard.WireguardInterfaceDeleteReply) int32 {
		i, code := at.w.get(q.SwIfIndex, "")
		switch {
		case code != 0:
			return code
		case i.kind != wireguards:
			return int32(api.INVALID_VALUE)
		}
		at.w.remove(i)
		return 0
	})
	list(t, func(at *call, q *wireguard.WireguardInterfaceDump) (all []*wireguard.WireguardInterfaceDetails) {
		for i, m := range made[*wireguard.WireguardInterfaceCreate](at.w, wireguards, q.SwIfIndex) {
			d := m.Interface
			d.SwIfIndex = i.index
			all = append(all, &wireguard.WireguardInterfaceDetails{Interface: d})
		}
		return all
	})
	on(t, true, peerAdd)
	list(t, func(at *call, _ *wireguard.WireguardPeersDump) (all []*wireguard.WireguardPeersDetails) {
		for _, i := range sorted(at.w.interfaces) {
			if i.peerAt != nil {
				all = append(all, &wireguard.WireguardPeersDetails{Peer: *i.peerAt})
			}
		}
		return all
	})
}

func peerAdd(at *call, q *wireguard.WireguardPeerAdd, r *wireguard.WireguardPeerAddReply) int32 {
	r.PeerIndex = uint32(none)
	i, code := at.w.get(q.Peer.SwIfIndex, wireguards)
	switch {
	case code != 0:
		return code
	case len(q.Peer.AllowedIps) == 0:
		return int32(api.INVALID_VALUE)
	}
	for _, other := range at.w.interfaces {
		if other.peerAt != nil && string(other.peerAt.PublicKey) == string(q.Peer.PublicKey) {
			return int32(api.ENTRY_ALREADY_EXISTS)
		}
	}
	i.peerAt = &q.Peer
	r.PeerIndex = uint32(i.index)
	return 0
}
