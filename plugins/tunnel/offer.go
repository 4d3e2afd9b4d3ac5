package tunnel

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"go.patchbay.dev/models"
	"go.patchbay.dev/vppapi"
)

// Dataplanes, as models.Offer spells them.
const (
	vppDataplane    = "vpp"
	kernelDataplane = "kernel"
)

// offers are what this node publishes of a kind, one for each dataplane.
func (r *Room) offers(k Kind, plugin vppapi.Plugin) (all []*models.Offer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.o.VPP != nil {
		o := &models.Offer{Type: k.Type(), Dataplane: vppDataplane, Class: Remote, Payloads: k.Payloads(), Joins: true, Version: Version}
		o.Missing = r.vppMissing(plugin)
		all = append(all, o)
	}
	if r.o.Kernel != nil {
		o := &models.Offer{Type: k.Type(), Dataplane: kernelDataplane, Class: Remote, Places: true, Version: Version}
		o.Payloads, o.Missing = r.kernelPayloads(k)
		all = append(all, o)
	}
	return all
}

// noAddress is what a node misses that has no tunnel address configured.
const noAddress = "has no tunnel address: set node.address"

func (r *Room) vppMissing(plugin vppapi.Plugin) string {
	if why := r.o.VPP.Missing(plugin); why != "" {
		return why
	}
	if len(r.live) == 0 {
		return noAddress
	}
	for _, l := range r.live {
		if l.vpp {
			return ""
		}
	}
	return fmt.Sprintf("has its tunnel address %s on no interface of VPP", list(r.o.Addresses))
}

// kernelPayloads are what the kernel carries by a kind, between the addresses that it has.
func (r *Room) kernelPayloads(k Kind) (payloads []string, missing string) {
	missing = noAddress
	if len(r.live) > 0 {
		missing = fmt.Sprintf("has its tunnel address %s on no interface of the agent's network namespace", list(r.o.Addresses))
	}
	var lacking []string
	for _, payload := range k.Payloads() {
		for _, l := range r.live {
			if !l.kernel {
				continue
			}
			why := r.o.Kernel.Supports(k.DeviceKind(l.address, payload))
			if why == "" {
				payloads = append(payloads, payload)
				break
			}
			lacking = append(lacking, why)
		}
	}
	switch {
	case len(payloads) > 0:
		return payloads, ""
	case len(lacking) > 0:
		missing = lacking[0]
	}
	return k.Payloads(), missing
}

// serves gives a kind and the addresses at which this node can end it now. r.mu is held.
func (r *Room) serves(name, payload string) (Kind, []netip.Addr, error) {
	k := r.kind(name)
	if k == nil {
		return nil, nil, fmt.Errorf("node %s has no such tunnels; it has %s", r.o.Node, r.types())
	}
	if !carries(k, payload) {
		return nil, nil, fmt.Errorf("it does not carry %s", orEthernet(payload))
	}
	var own []netip.Addr
	why := noAddress
	for _, l := range r.live {
		switch {
		case l.vpp:
			own = append(own, l.address)
		case !l.kernel:
			why = fmt.Sprintf("has its tunnel address %s on no interface", l.address)
		default:
			if why = r.o.Kernel.Supports(k.DeviceKind(l.address, orEthernet(payload))); why == "" {
				own = append(own, l.address)
			}
		}
	}
	if own == nil {
		return nil, nil, fmt.Errorf("node %s %s", r.o.Node, why)
	}
	return k, own, nil
}

func (r *Room) types() string {
	var all []string
	for _, k := range r.kinds {
		all = append(all, k.Type())
	}
	return strings.Join(all, ", ")
}

// onVPP says that an address is none of VPP's. What was seen last is believed if it was there.
func (r *Room) onVPP(ctx context.Context, a netip.Addr) error {
	r.mu.Lock()
	for _, l := range r.live {
		if l.address == a && l.vpp {
			r.mu.Unlock()
			return nil
		}
	}
	r.mu.Unlock()
	_, ok, err := r.o.VPP.AddressOf(ctx, a)
	if err == nil && !ok {
		err = fmt.Errorf("this node has its tunnel address %s on no interface of VPP; give it to one, or use an address that VPP has", a)
	}
	return err
}
