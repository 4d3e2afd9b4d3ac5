package kernel

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"go.patchbay.dev/plugins/bridge"
	"go.patchbay.dev/plugins/linux"
)

// Look asks the kernel for a bridge's ports and MAC table. What the tunnels carry is counted
// for all nodes together.
func (p *Dataplane) Look(_ context.Context, name string) (s bridge.State, err error) {
	index, err := p.index(bridgeKey(name))
	if err != nil {
		return s, fmt.Errorf("%w: %q", bridge.ErrNoBridge, name)
	}
	links, err := p.ns.BridgeLinks()
	if err != nil {
		return s, err
	}
	macs, remotes, err := p.ns.BridgeTables(index)
	if err != nil {
		return s, err
	}
	s.Name = p.ns.BridgeName(name)
	places := map[int]bridge.Place{}
	for _, l := range links {
		if l.Master != index && l.Index != index {
			continue
		}
		place := placeOf(l)
		places[l.Index] = place
		if place.Gateway && l.NoARP {
			continue // the node itself is not on it
		}
		now, err := p.ns.LinkAt(l.Place)
		if errors.Is(err, linux.ErrNoLink) {
			continue
		}
		if err != nil {
			return s, err
		}
		// What a bridge has as an interface of its own was sent to it by the node.
		c := now.Counters
		port := bridge.Port{Place: place, Interface: l.Name, Up: now.Running, RxPackets: c.RxPackets, RxBytes: c.RxBytes, TxPackets: c.TxPackets, TxBytes: c.TxBytes, Drops: c.RxDropped + c.TxDropped}
		if place.Gateway {
			port.RxPackets, port.RxBytes, port.TxPackets, port.TxBytes = c.TxPackets, c.TxBytes, c.RxPackets, c.RxBytes
		}
		s.Ports = append(s.Ports, port)
	}
	for _, e := range macs {
		if e.Local && e.Port != index {
			continue // of a port, where nobody is
		}
		s.MACs = append(s.MACs, bridge.MAC{MAC: e.MAC, Static: e.Static, Place: behind(places[e.Port], remotes[e.Port], e.MAC)})
	}
	return s, nil
}

// placeOf says where a port leads.
func placeOf(l linux.Link) bridge.Place {
	tag, ok := linux.ParseTag(l.Alias)
	switch {
	case ok:
		return bridge.Place{Connection: tag.ID}
	case l.Bridge():
		return bridge.Place{Gateway: true}
	}
	return bridge.Place{Mesh: true}
}

// behind says where a MAC is: of the tunnels, at which peer.
func behind(place bridge.Place, remotes []linux.Remote, mac linux.MAC) bridge.Place {
	for _, r := range remotes {
		if r.MAC == mac && r.Peer != (netip.Addr{}) {
			return bridge.Place{Peer: r.Peer}
		}
	}
	return place
}
