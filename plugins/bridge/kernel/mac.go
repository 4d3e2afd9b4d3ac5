package kernel

import (
	"context"
	"errors"
	"fmt"
	"iter"
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

// macs sets them.
type macs struct{ *Dataplane }

// Dependencies: the member's port.
func (d macs) Dependencies(_ string, spec MAC) []string { return []string{portKey(spec.ID)} }

// Equal compares by content.
func (d macs) Equal(found, want MAC) bool { return found == want }

// Create sets it, wherever it was before.
func (d macs) Create(_ context.Context, _ string, spec MAC) error {
	index, err := d.index(portKey(spec.ID))
	if err == nil {
		err = d.ns.SetMAC(index, spec.MAC)
	}
	if err != nil {
		return fmt.Errorf("static MAC: %w", err)
	}
	return nil
}

// Update sets it at another port.
func (d macs) Update(ctx context.Context, key string, _, new MAC) error {
	return d.Create(ctx, key, new)
}

// Delete forgets it. It goes with its port.
func (d macs) Delete(_ context.Context, _ string, spec MAC) error {
	index, err := d.index(portKey(spec.ID))
	if err != nil {
		return nil
	}
	if err := d.ns.DeleteMAC(index, spec.MAC); err != nil {
		return fmt.Errorf("static MAC: %w", err)
	}
	return nil
}

// Retrieve finds all that are at members' ports and not those of the ports themselves.
func (d macs) Retrieve(context.Context, iter.Seq2[string, MAC]) ([]reconcile.Found[MAC], error) {
	var all []reconcile.Found[MAC]
	err := d.tables(func(name string, t table) {
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

// neighbors tells bridges of them.
type neighbors struct{ *Dataplane }

// Dependencies: the bridge.
func (d neighbors) Dependencies(_ string, spec Neighbor) []string {
	return []string{bridgeKey(spec.Bridge)}
}

// Equal compares by content.
func (d neighbors) Equal(found, want Neighbor) bool { return found == want }

// Create tells the bridge of it, or of its new MAC.
func (d neighbors) Create(_ context.Context, _ string, spec Neighbor) error {
	index, err := d.index(bridgeKey(spec.Bridge))
	if err == nil {
		err = d.ns.SetBridgeNeighbor(index, spec.Host)
	}
	if err != nil {
		return fmt.Errorf("host on a bridge: %w", err)
	}
	return nil
}

// Update tells the bridge of the new MAC.
func (d neighbors) Update(ctx context.Context, key string, _, new Neighbor) error {
	return d.Create(ctx, key, new)
}

// Delete has the bridge forget it.
func (d neighbors) Delete(_ context.Context, _ string, spec Neighbor) error {
	index, err := d.index(bridgeKey(spec.Bridge))
	if err != nil {
		return nil
	}
	if err := d.ns.DeleteBridgeNeighbor(index, spec.Host); err != nil {
		return fmt.Errorf("host on a bridge: %w", err)
	}
	return nil
}

// Retrieve finds all that bridges of ours were told.
func (d neighbors) Retrieve(context.Context, iter.Seq2[string, Neighbor]) ([]reconcile.Found[Neighbor], error) {
	names, _, err := d.names()
	if err != nil {
		return nil, err
	}
	var all []reconcile.Found[Neighbor]
	for index, name := range names {
		hosts, err := d.ns.BridgeNeighbors(index)
		if err != nil && !errors.Is(err, linux.ErrNoLink) {
			return nil, err
		}
		for _, h := range hosts {
			all = append(all, reconcile.Found[Neighbor]{Key: neighborKey(name, h.Address), Spec: Neighbor{Bridge: name, Host: h}})
		}
	}
	return all, nil
}
