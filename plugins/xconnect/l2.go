package xconnect

import (
	"context"
	"fmt"
	"iter"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/reconcile"
	"go.patchbay.dev/vppapi"
)

// L2 is the spec of an L2 cross-connect. Values are compared with ==.
type L2 struct {
	Ports [2]PortRef
	half  bool // found: one way only
}

type l2 struct{ *Plugin }

// Dependencies are the ports.
func (d l2) Dependencies(_ string, spec L2) []string {
	return d.needs(spec.Ports[0], spec.Ports[1])
}

// Equal compares tags: what was found does not know its ports' keys.
func (d l2) Equal(found, want L2) bool {
	return !found.half && found.Ports[0].Tag == want.Ports[0].Tag && found.Ports[1].Tag == want.Ports[1].Tag
}

// Create joins the ports both ways.
func (d l2) Create(ctx context.Context, _ string, spec L2) error {
	a, b, err := ports(d.vpp, spec.Ports)
	if err == nil {
		err = d.vpp.ConnectL2(ctx, a, b)
	}
	if err != nil {
		return fmt.Errorf("L2 cross-connect: %w", err)
	}
	return nil
}

// Update joins the ports that are wanted now; nothing of old is left, for a port is the
// cross-connect's own.
func (d l2) Update(ctx context.Context, key string, _, new L2) error {
	return d.Create(ctx, key, new)
}

// Delete takes both ways away. Ports that are gone have taken theirs along.
func (d l2) Delete(ctx context.Context, _ string, spec L2) error {
	if d.vpp.Gone() {
		return nil // VPP has nothing, or will be looked at when it is back
	}
	var there []vppapi.Index
	for _, p := range spec.Ports {
		if i, ok := d.vpp.Tagged(p.Tag); ok {
			there = append(there, i.Index)
		}
	}
	if len(there) == 0 {
		return nil
	}
	if err := d.vpp.DisconnectL2(ctx, there...); err != nil {
		return fmt.Errorf("L2 cross-connect: %w", err)
	}
	return nil
}

// Retrieve finds all that begin or end at a port of ours.
func (d l2) Retrieve(ctx context.Context, want iter.Seq2[string, L2]) ([]reconcile.Found[L2], error) {
	if d.vpp.Gone() {
		return nil, nil
	}
	interfaces, err := d.vpp.Refresh(ctx)
	if err != nil {
		return nil, fmt.Errorf("find L2 cross-connects: %w", err)
	}
	to, err := d.vpp.L2Connections(ctx)
	if err != nil {
		return nil, fmt.Errorf("find L2 cross-connects: %w", err)
	}
	keys := map[string]string{} // of ports, by tag
	for _, spec := range want {
		for _, p := range spec.Ports {
			keys[p.Tag] = p.Key
		}
	}
	found := map[string]L2{}
	for from, into := range to {
		tag, other := interfaces[from].Tag, interfaces[into].Tag
		id, side, ok := models.ParseTag(tag)
		if !ok {
			continue
		}
		key := KindL2 + "/" + id
		spec := found[key]
		spec.half = to[into] != from
		i := place(side)
		spec.Ports[i] = PortRef{keys[tag], tag}
		spec.Ports[1-i] = PortRef{keys[other], other}
		found[key] = spec
	}
	var all []reconcile.Found[L2]
	for key, spec := range found {
		all = append(all, reconcile.Found[L2]{Key: key, Spec: spec})
	}
	return all, nil
}

func place(side models.Side) int {
	if side == models.ClientSide {
		return 0
	}
	return 1
}

// ports finds two ports of ours by their tags.
func ports(vpp *vppapi.Client, refs [2]PortRef) (a, b vppapi.Index, err error) {
	var at [2]vppapi.Index
	for i, ref := range refs {
		port, ok := vpp.Tagged(ref.Tag)
		if !ok {
			return 0, 0, fmt.Errorf("VPP has no interface %q", ref.Tag)
		}
		at[i] = port.Index
	}
	return at[0], at[1], nil
}
