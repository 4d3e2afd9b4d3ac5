package vpp

import (
	"context"
	"fmt"
	"iter"
	"net/netip"

	"go.patchbay.dev/plugins/reconcile"
	"go.patchbay.dev/vppapi"
)

// Neighbor is the spec of a host for which VPP answers on a bridge domain. Values are
// compared with ==.
type Neighbor struct {
	Bridge  string
	Address netip.Addr
	MAC     [6]byte
}

func neighborKey(name string, a netip.Addr) string {
	return KindNeighbor + "/" + name + "/" + a.String()
}

// neighbors tells VPP of them.
type neighbors struct{ *Dataplane }

// Dependencies: the bridge domain.
func (d neighbors) Dependencies(_ string, spec Neighbor) []string {
	return []string{domainKey(spec.Bridge)}
}

// Equal compares by content.
func (d neighbors) Equal(found, want Neighbor) bool { return found == want }

// Create tells VPP of it, or of its new MAC.
func (d neighbors) Create(ctx context.Context, _ string, spec Neighbor) error {
	number, err := d.there(spec.Bridge)
	if err == nil {
		err = d.vpp.SetBridgeNeighbor(ctx, vppapi.BridgeNeighbor{Bridge: number, Address: spec.Address, MAC: spec.MAC})
	}
	if err != nil {
		return fmt.Errorf("host on a bridge: %w", err)
	}
	return nil
}

// Update tells VPP of the new MAC.
func (d neighbors) Update(ctx context.Context, key string, _, new Neighbor) error {
	return d.Create(ctx, key, new)
}

// Delete has VPP forget it.
func (d neighbors) Delete(ctx context.Context, _ string, spec Neighbor) error {
	number, ok := d.number(spec.Bridge)
	if !ok || d.vpp.Gone() {
		return nil
	}
	if err := d.vpp.DeleteBridgeNeighbor(ctx, vppapi.BridgeNeighbor{Bridge: number, Address: spec.Address, MAC: spec.MAC}); err != nil {
		return fmt.Errorf("host on a bridge: %w", err)
	}
	return nil
}

// Retrieve finds all that VPP was told of bridge domains of ours.
func (d neighbors) Retrieve(ctx context.Context, _ iter.Seq2[string, Neighbor]) ([]reconcile.Found[Neighbor], error) {
	names, err := d.names(ctx)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	found, err := d.vpp.BridgeNeighbors(ctx, vppapi.AllBridges)
	if err != nil {
		return nil, fmt.Errorf("find hosts on bridges: %w", err)
	}
	var all []reconcile.Found[Neighbor]
	for _, f := range found {
		if name, ours := names[f.Bridge]; ours {
			all = append(all, reconcile.Found[Neighbor]{Key: neighborKey(name, f.Address), Spec: Neighbor{Bridge: name, Address: f.Address, MAC: f.MAC}})
		}
	}
	return all, nil
}
