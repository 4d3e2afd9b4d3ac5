package kernel

import (
	"errors"
	"net/netip"

	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/reconcile"
)

// MAC is the spec of where a MAC is, for good. Values are compared with ==.
type MAC struct {
	Bridge string
	ID     string // of the member
	MAC    linux.MAC
}

func macKey(name string, mac linux.MAC) string { return KindMAC + "/" + name + "/" + mac.String() }

// macs are set at the members' ports.
func (p *Dataplane) macs() entries[MAC] {
	return entries[MAC]{p, "static MAC",
		func(spec MAC) string { return portKey(spec.ID) },
		func(port int, spec MAC) error { return p.ns.SetMAC(port, spec.MAC) },
		func(port int, spec MAC) error { return p.ns.DeleteMAC(port, spec.MAC) },
		p.findMACs}
}

// findMACs finds all that are at members' ports and not those of the ports themselves.
func (p *Dataplane) findMACs() (all []reconcile.Found[MAC], err error) {
	err = p.tables(func(name string, t table) {
		for _, e := range t.macs {
			tag, ok := linux.ParseTag(t.links[e.Port].Alias)
			if ok && e.Static && !e.Local {
				all = append(all, reconcile.Found[MAC]{Key: macKey(name, e.MAC), Spec: MAC{Bridge: name, ID: tag.ID, MAC: e.MAC}})
			}
		}
	})
	return all, err
}

// Neighbor is the spec of a host for which a bridge answers. Values are compared with ==.
type Neighbor struct {
	Bridge string
	Host   linux.Neighbor
}

func neighborKey(name string, a netip.Addr) string {
	return KindNeighbor + "/" + name + "/" + a.String()
}

// neighbors are told to the bridges.
func (p *Dataplane) neighbors() entries[Neighbor] {
	return entries[Neighbor]{p, "host on a bridge",
		func(spec Neighbor) string { return bridgeKey(spec.Bridge) },
		func(bridge int, spec Neighbor) error { return p.ns.SetBridgeNeighbor(bridge, spec.Host) },
		func(bridge int, spec Neighbor) error { return p.ns.DeleteBridgeNeighbor(bridge, spec.Host) },
		p.findNeighbors}
}

// findNeighbors finds all that bridges of ours were told.
func (p *Dataplane) findNeighbors() (all []reconcile.Found[Neighbor], err error) {
	names, _, err := p.names()
	if err != nil {
		return nil, err
	}
	for index, name := range names {
		hosts, err := p.ns.BridgeNeighbors(index)
		if err != nil && !errors.Is(err, linux.ErrNoLink) {
			return nil, err
		}
		for _, h := range hosts {
			all = append(all, reconcile.Found[Neighbor]{Key: neighborKey(name, h.Address), Spec: Neighbor{Bridge: name, Host: h}})
		}
	}
	return all, nil
}
