package vpp

import (
	"context"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"

	"go.patchbay.dev/plugins/reconcile"
	"go.patchbay.dev/vppapi"
)

// Gateway is the spec of VPP's own interface on a bridge domain (BVI).
type Gateway struct {
	Bridge    string
	MAC       [6]byte
	MTU       int // bytes
	Addresses []netip.Prefix
	broken    bool // found: not finished, or not in its bridge domain
}

func gatewayKey(name string) string { return KindGateway + "/" + name }

// gatewayTag marks the interface.
func gatewayTag(name string) string { return tagPrefix + name + gatewaySuffix }

const gatewaySuffix = ":gateway"

func parseGatewayTag(tag string) (name string, ok bool) {
	rest, ok1 := strings.CutPrefix(tag, tagPrefix)
	name, ok2 := strings.CutSuffix(rest, gatewaySuffix)
	return name, ok1 && ok2
}

// gateways makes them.
type gateways struct{ *Dataplane }

// Dependencies: the bridge domain.
func (d gateways) Dependencies(_ string, spec Gateway) []string {
	return []string{domainKey(spec.Bridge)}
}

// Equal compares by content; the order of addresses means nothing.
func (d gateways) Equal(found, want Gateway) bool {
	return found.Bridge == want.Bridge && found.MAC == want.MAC && found.MTU == want.MTU && !found.broken && sameAddresses(found.Addresses, want.Addresses)
}

func sameAddresses(a, b []netip.Prefix) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(p netip.Prefix) bool { return !slices.Contains(b, p) })
}

// Create makes the interface, or finishes and mends the one that is there.
func (d gateways) Create(ctx context.Context, key string, spec Gateway) error {
	if err := d.create(ctx, key, spec); err != nil {
		return fmt.Errorf("gateway of a bridge: %w", err)
	}
	return nil
}

func (d gateways) create(ctx context.Context, key string, spec Gateway) error {
	number, err := d.there(spec.Bridge)
	if err != nil {
		return err
	}
	i, there, err := d.find(ctx, spec)
	if err == nil && !there {
		i.Index, err = d.vpp.CreateBVI(ctx, spec.MAC)
	}
	if err == nil {
		err = d.vpp.Finish(ctx, i.Index, vppapi.Setup{Tag: gatewayTag(spec.Bridge), MTU: spec.MTU, Down: true})
	}
	if err == nil {
		err = d.vpp.Bridge(ctx, number, vppapi.BridgePort{At: i.Index, VPP: true})
	}
	if err == nil {
		err = d.vpp.SetAddresses(ctx, i.Index, spec.Addresses)
	}
	if err == nil {
		d.gateways.Add(gatewayTag(spec.Bridge), key)
	}
	return err
}

// find finds the interface by its tag or, if the agent died before it could set one, by its
// address, which is the bridge's own.
func (d gateways) find(ctx context.Context, spec Gateway) (vppapi.Interface, bool, error) {
	if i, ok := d.vpp.Tagged(gatewayTag(spec.Bridge)); ok {
		return i, true, nil
	}
	all, err := d.vpp.BVIs(ctx)
	for _, i := range all {
		if i.Tag == "" && i.MAC == spec.MAC {
			return i, true, err
		}
	}
	return vppapi.Interface{}, false, err
}

// Update changes MTU and addresses in place.
func (d gateways) Update(ctx context.Context, key string, old, new Gateway) error {
	if old.MAC != new.MAC {
		return reconcile.ErrRecreate
	}
	return d.Create(ctx, key, new)
}

// Delete deletes the interface.
func (d gateways) Delete(ctx context.Context, _ string, spec Gateway) error {
	d.gateways.Drop(gatewayTag(spec.Bridge))
	if d.vpp.Gone() {
		return nil
	}
	i, there, err := d.find(ctx, spec)
	if err == nil && there {
		if err = d.vpp.Unbridge(ctx, i.Index); err == nil {
			err = d.vpp.DeleteBVI(ctx, i.Index)
		}
	}
	if err != nil {
		return fmt.Errorf("gateway of a bridge: %w", err)
	}
	return nil
}

// Retrieve finds all that are ours, by tag or address.
func (d gateways) Retrieve(ctx context.Context, want iter.Seq2[string, Gateway]) ([]reconcile.Found[Gateway], error) {
	d.gateways.Clear()
	if d.vpp.Gone() {
		return nil, nil
	}
	if _, err := d.vpp.Refresh(ctx); err != nil {
		return nil, fmt.Errorf("list VPP's interfaces: %w", err)
	}
	interfaces, err := d.vpp.BVIs(ctx)
	if err != nil || len(interfaces) == 0 {
		return nil, err
	}
	domains, err := d.vpp.Bridges(ctx, vppapi.AllBridges)
	if err != nil {
		return nil, err
	}
	in := map[vppapi.Index]string{} // tags of bridge domains
	for _, b := range domains {
		for _, p := range b.Ports {
			if p.VPP {
				in[p.At] = b.Tag
			}
		}
	}
	byMAC := map[[6]byte]string{}
	for _, spec := range want {
		byMAC[spec.MAC] = spec.Bridge
	}
	var all []reconcile.Found[Gateway]
	for _, i := range interfaces {
		name, tagged := parseGatewayTag(i.Tag)
		if i.Tag == "" {
			name = byMAC[i.MAC]
		}
		if name == "" {
			continue // somebody else's
		}
		spec := Gateway{Bridge: name, MAC: i.MAC, MTU: i.MTU, broken: !tagged || !i.AdminUp || in[i.Index] != Tag(name)}
		if spec.Addresses, err = d.vpp.Addresses(ctx, i.Index); err != nil {
			return nil, err
		}
		if !spec.broken {
			d.gateways.Add(i.Tag, gatewayKey(name))
		}
		all = append(all, reconcile.Found[Gateway]{Key: gatewayKey(name), Spec: spec})
	}
	return all, nil
}
