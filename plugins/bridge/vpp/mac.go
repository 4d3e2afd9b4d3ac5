package vpp

import (
	"context"
	"fmt"
	"iter"
	"net"
	"strings"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/reconcile"
	"go.patchbay.dev/vppapi"
)

// MAC is the spec of where a MAC is, for good. Values are compared with ==.
type MAC struct {
	Bridge string
	MAC    [6]byte
	ID     string // of the member
	Tag    string // of its interface
}

func macKey(name string, mac [6]byte) string {
	return KindMAC + "/" + name + "/" + net.HardwareAddr(mac[:]).String()
}

// macs sets them.
type macs struct{ *Dataplane }

// Dependencies: the member's port.
func (d macs) Dependencies(_ string, spec MAC) []string {
	if spec.ID == "" {
		return nil
	}
	return []string{portKey(spec.ID)}
}

// Equal compares by content.
func (d macs) Equal(found, want MAC) bool { return found == want }

// Create sets it, wherever it was before.
func (d macs) Create(ctx context.Context, _ string, spec MAC) error {
	number, err := d.there(spec.Bridge)
	if err == nil {
		i, ok := d.vpp.Tagged(spec.Tag)
		if !ok {
			return fmt.Errorf("static MAC: VPP has no interface %q", spec.Tag)
		}
		err = d.vpp.SetMAC(ctx, vppapi.MACEntry{Bridge: number, MAC: spec.MAC, At: i.Index})
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

// Delete forgets it, also if its interface is gone, which VPP leaves it to.
func (d macs) Delete(ctx context.Context, _ string, spec MAC) error {
	number, ok := d.number(spec.Bridge)
	if !ok || d.vpp.Gone() {
		return nil
	}
	if err := d.vpp.DeleteMAC(ctx, vppapi.MACEntry{Bridge: number, MAC: spec.MAC}); err != nil {
		return fmt.Errorf("static MAC: %w", err)
	}
	return nil
}

// Retrieve finds all that are in bridge domains of ours and not VPP's own.
func (d macs) Retrieve(ctx context.Context, _ iter.Seq2[string, MAC]) ([]reconcile.Found[MAC], error) {
	names, err := d.names(ctx)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	found, err := d.vpp.MACs(ctx, vppapi.AllBridges)
	if err != nil {
		return nil, fmt.Errorf("find static MACs: %w", err)
	}
	var all []reconcile.Found[MAC]
	for _, f := range found {
		name, ours := names[f.Bridge]
		if !f.Static || f.VPP || !ours {
			continue
		}
		i, _ := d.vpp.At(f.At)
		spec := MAC{Bridge: name, MAC: f.MAC, Tag: i.Tag}
		spec.ID, _, _ = models.ParseTag(i.Tag)
		all = append(all, reconcile.Found[MAC]{Key: macKey(name, f.MAC), Spec: spec})
	}
	return all, nil
}

// names lists the bridges whose bridge domains there are, by their numbers.
func (p *Dataplane) names(ctx context.Context) (map[uint32]string, error) {
	if p.vpp.Gone() {
		return nil, nil
	}
	found, err := p.vpp.Bridges(ctx, vppapi.AllBridges)
	if err != nil {
		return nil, fmt.Errorf("find bridge domains: %w", err)
	}
	names := map[uint32]string{}
	for _, f := range found {
		if name, ours := strings.CutPrefix(f.Tag, tagPrefix); ours {
			names[f.Number] = name
		}
	}
	return names, nil
}
