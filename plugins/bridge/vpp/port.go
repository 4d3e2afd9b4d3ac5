package vpp

import (
	"context"
	"encoding/hex"
	"fmt"
	"iter"
	"net/netip"
	"strconv"
	"strings"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/bridge"
	"go.patchbay.dev/plugins/reconcile"
	"go.patchbay.dev/vppapi"
)

// Port is the spec of a bridge domain's port. Values are compared with ==.
type Port struct {
	Bridge string
	Port   PortRef
	Group  uint8 // of those that get no frames from one another; 0: none
}

// PortRef is an interface: the value that makes it, another that must be there, if any, and
// its tag.
type PortRef struct{ Key, Needs, Tag string }

func portKey(id string) string { return KindPort + "/" + id }

// meshID stands for the id of a cross-connect in what VPP shows of a tunnel: the VNI and the
// peer, without the colons of IPv6, which with 39 characters would be too much for a tag.
// No record can have it.
func meshID(vni uint32, peer netip.Addr) string {
	address := peer.String()
	if peer.Is6() {
		address = hex.EncodeToString(peer.AsSlice())
	}
	return strconv.FormatUint(uint64(vni), 10) + meshMark + address
}

const meshMark = "+"

// placeOf says where the interface with a tag leads.
func placeOf(tag string) (p bridge.Place, ok bool) {
	id, _, ok := models.ParseTag(tag)
	_, address, mesh := strings.Cut(id, meshMark)
	switch {
	case !ok:
		_, p.Gateway = parseGatewayTag(tag)
		return p, p.Gateway
	case !mesh:
		p.Connection = id
		return p, true
	}
	var err error
	if p.Peer, err = netip.ParseAddr(address); err != nil {
		var raw []byte
		if raw, err = hex.DecodeString(address); err == nil {
			p.Peer, ok = netip.AddrFromSlice(raw)
		}
	}
	return p, err == nil && ok
}

// ports puts interfaces into bridge domains.
type ports struct{ *Dataplane }

// Dependencies are the bridge domain and the interface: of one that was found, of which the
// kind is not known, all that there may be.
func (d ports) Dependencies(_ string, spec Port) []string {
	keys := []string{domainKey(spec.Bridge)}
	if spec.Port.Needs != "" {
		keys = append(keys, spec.Port.Needs)
	}
	if spec.Port.Key != "" {
		return append(keys, spec.Port.Key)
	}
	if id, side, ok := models.ParseTag(spec.Port.Tag); ok {
		for _, kind := range d.portKinds {
			keys = append(keys, kind+"/"+id+"/"+string(side))
		}
	}
	return keys
}

// Equal compares all but the keys, which what was found does not know.
func (d ports) Equal(found, want Port) bool {
	found.Port.Key, found.Port.Needs = want.Port.Key, want.Port.Needs
	return found == want
}

// Create adds the port, and sets its interface up.
func (d ports) Create(ctx context.Context, _ string, spec Port) error {
	number, err := d.there(spec.Bridge)
	if err == nil {
		i, ok := d.vpp.Tagged(spec.Port.Tag)
		if !ok {
			return fmt.Errorf("port of a bridge: VPP has no interface %q", spec.Port.Tag)
		}
		err = d.vpp.Bridge(ctx, number, vppapi.BridgePort{At: i.Index, Group: spec.Group})
	}
	if err != nil {
		return fmt.Errorf("port of a bridge: %w", err)
	}
	return nil
}

// Update moves the port to another bridge domain or group; nothing of old is left, but its
// interface if that is another now.
func (d ports) Update(ctx context.Context, key string, old, new Port) error {
	if old.Port.Tag != new.Port.Tag {
		return reconcile.ErrRecreate
	}
	return d.Create(ctx, key, new)
}

// Delete takes the port out. If its interface is gone, so is the port.
func (d ports) Delete(ctx context.Context, _ string, spec Port) error {
	if d.vpp.Gone() {
		return nil
	}
	i, ok := d.vpp.Tagged(spec.Port.Tag)
	if !ok {
		return nil
	}
	if err := d.vpp.Unbridge(ctx, i.Index); err != nil {
		return fmt.Errorf("port of a bridge: %w", err)
	}
	return nil
}

// Retrieve finds all interfaces of ours in bridge domains of ours.
func (d ports) Retrieve(ctx context.Context, want iter.Seq2[string, Port]) ([]reconcile.Found[Port], error) {
	if d.vpp.Gone() {
		return nil, nil
	}
	interfaces, err := d.vpp.Refresh(ctx)
	if err != nil {
		return nil, fmt.Errorf("find ports of bridges: %w", err)
	}
	found, err := d.vpp.Bridges(ctx, vppapi.AllBridges)
	if err != nil {
		return nil, fmt.Errorf("find ports of bridges: %w", err)
	}
	refs := map[string]PortRef{} // by tag
	for _, spec := range want {
		refs[spec.Port.Tag] = spec.Port
	}
	var all []reconcile.Found[Port]
	for _, f := range found {
		name, ours := strings.CutPrefix(f.Tag, tagPrefix)
		for _, p := range f.Ports {
			tag := interfaces[p.At].Tag
			id, _, ok := models.ParseTag(tag)
			if !ok || !ours {
				continue // what makes it, or the joining of something else, tells
			}
			ref := refs[tag]
			ref.Tag = tag
			all = append(all, reconcile.Found[Port]{Key: portKey(id), Spec: Port{Bridge: name, Group: p.Group, Port: ref}})
		}
	}
	return all, nil
}
