package xconnect

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"net/netip"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/reconcile"
	"go.patchbay.dev/vppapi"
)

// L3 is the spec of an L3 cross-connect. Values are compared with ==.
type L3 struct {
	Ports [2]L3Port
	half  bool // found: there is a neighbour to which no path leads
}

// L3Port is a port and the host behind it.
type L3Port struct {
	PortRef
	Ethernet bool
	Families [2]bool       // IPv4, IPv6: what can be sent to the port
	Hops     [2]netip.Addr // on an Ethernet port: the host's address; on another where VPP wants one
	MAC      [6]byte       // on an Ethernet port: the host's
}

type l3 struct{ *Plugin }

// Dependencies are the ports.
func (d l3) Dependencies(_ string, spec L3) []string {
	return d.needs(spec.Ports[0].PortRef, spec.Ports[1].PortRef)
}

// Equal compares all but the ports' keys, which what was found does not know.
func (d l3) Equal(found, want L3) bool {
	for i := range found.Ports {
		found.Ports[i].Key, want.Ports[i].Key = "", ""
	}
	return found == want
}

// calls are what makes a spec in VPP.
func calls(spec L3, at [2]vppapi.Index) (neighbors []vppapi.Neighbor, paths []vppapi.L3Path) {
	for i, to := range spec.Ports {
		for f, ok := range to.Families {
			if !ok {
				continue
			}
			paths = append(paths, vppapi.L3Path{From: at[1-i], To: at[i], IPv6: f == 1, NextHop: to.Hops[f]})
			if to.Ethernet {
				neighbors = append(neighbors, vppapi.Neighbor{At: at[i], Address: to.Hops[f], MAC: to.MAC})
			}
		}
	}
	return neighbors, paths
}

// Create sets the paths both ways, and the neighbours that they lead to.
func (d l3) Create(ctx context.Context, _ string, spec L3) error {
	a, b, err := ports(d.vpp, [2]PortRef{spec.Ports[0].PortRef, spec.Ports[1].PortRef})
	if err == nil {
		neighbors, paths := calls(spec, [2]vppapi.Index{a, b})
		err = d.vpp.ConnectL3(ctx, neighbors, paths)
	}
	if err != nil {
		return fmt.Errorf("L3 cross-connect: %w", err)
	}
	return nil
}

// Update is not worth while: it takes as many calls.
func (d l3) Update(context.Context, string, L3, L3) error { return reconcile.ErrRecreate }

// Delete takes paths and neighbours away. Ports that are gone have taken theirs along.
func (d l3) Delete(ctx context.Context, _ string, spec L3) error {
	if d.vpp.Gone() {
		return nil
	}
	var at [2]vppapi.Index
	var there [2]bool
	for i, p := range spec.Ports {
		var port vppapi.Interface
		port, there[i] = d.vpp.Tagged(p.Tag)
		at[i] = port.Index
	}
	neighbors, paths := calls(spec, at)
	var oldNeighbors []vppapi.Neighbor
	var oldPaths []vppapi.L3Path
	for _, p := range paths {
		if (there[0] && p.From == at[0]) || (there[1] && p.From == at[1]) {
			oldPaths = append(oldPaths, p)
		}
	}
	for _, n := range neighbors {
		if (there[0] && n.At == at[0]) || (there[1] && n.At == at[1]) {
			oldNeighbors = append(oldNeighbors, n)
		}
	}
	if len(oldPaths)+len(oldNeighbors) == 0 {
		return nil
	}
	if err := d.vpp.DisconnectL3(ctx, oldNeighbors, oldPaths); err != nil {
		return fmt.Errorf("L3 cross-connect: %w", err)
	}
	return nil
}

// Retrieve finds all that begin at a port of ours, and all neighbours there.
func (d l3) Retrieve(ctx context.Context, want iter.Seq2[string, L3]) ([]reconcile.Found[L3], error) {
	if d.vpp.Gone() || d.vpp.Missing(vppapi.L3XCPlugin) != "" {
		return nil, nil
	}
	interfaces, err := d.vpp.Refresh(ctx)
	if err != nil {
		return nil, fmt.Errorf("find L3 cross-connects: %w", err)
	}
	paths, neighbors, err := d.vpp.L3Connections(ctx)
	if err != nil {
		return nil, fmt.Errorf("find L3 cross-connects: %w", err)
	}
	known := maps.Collect(want)
	macs := map[vppapi.Index]map[netip.Addr][6]byte{}
	for _, n := range neighbors {
		if macs[n.At] == nil {
			macs[n.At] = map[netip.Addr][6]byte{}
		}
		macs[n.At][n.Address] = n.MAC
	}
	found := map[string]L3{}
	for _, p := range paths {
		tag := interfaces[p.From].Tag
		id, side, ok := models.ParseTag(tag)
		if !ok {
			continue
		}
		key := KindL3 + "/" + id
		spec, seen := found[key]
		if !seen {
			for i, port := range known[key].Ports {
				spec.Ports[i] = L3Port{PortRef: port.PortRef, Ethernet: port.Ethernet}
			}
		}
		i := place(side)
		spec.Ports[i].Tag = tag
		to := &spec.Ports[1-i]
		to.Tag = interfaces[p.To].Tag
		f := 0
		if p.IPv6 {
			f = 1
		}
		to.Families[f], to.Hops[f] = true, p.NextHop
		if mac, ok := macs[p.To][p.NextHop]; ok {
			to.Ethernet, to.MAC = true, mac
		}
		found[key] = spec
	}
	strays(found, neighbors, interfaces)
	var all []reconcile.Found[L3]
	for key, spec := range found {
		all = append(all, reconcile.Found[L3]{Key: key, Spec: spec})
	}
	return all, nil
}

// strays adds neighbours at ports of ours to which no path leads: VPP or the agent went in
// the middle of making or deleting a cross-connect. They would outlive the port.
func strays(found map[string]L3, neighbors []vppapi.Neighbor, interfaces map[vppapi.Index]vppapi.Interface) {
	for _, n := range neighbors {
		tag := interfaces[n.At].Tag
		id, side, ok := models.ParseTag(tag)
		if !ok {
			continue
		}
		key := KindL3 + "/" + id
		spec := found[key]
		port, f := &spec.Ports[place(side)], family(n.Address)
		if !port.Families[f] {
			port.Tag, port.Ethernet, port.MAC = tag, true, n.MAC
			port.Families[f], port.Hops[f] = true, n.Address
			spec.half = true
			found[key] = spec
		}
	}
}
