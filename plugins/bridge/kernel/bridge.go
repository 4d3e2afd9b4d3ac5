package kernel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"
	"time"

	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/reconcile"
)

// Bridge is the spec of a bridge of the kernel's.
type Bridge struct {
	Bridge   string
	MAC      linux.MAC
	MTU      int           // bytes
	Age      time.Duration // 0: for ever
	Gateways []netip.Prefix
	broken   bool   // found: not finished
	device   string // found: its name, if nobody knows what bridge it was to be
}

func bridgeKey(name string) string { return KindBridge + "/" + name }

// bridges makes them.
type bridges struct{ *Dataplane }

func (d bridges) Dependencies(string, Bridge) []string { return nil }

// Equal compares by content; the order of gateways means nothing.
func (d bridges) Equal(found, want Bridge) bool {
	return found.Bridge == want.Bridge && found.MAC == want.MAC && found.MTU == want.MTU && found.Age == want.Age && !found.broken && sameGateways(found.Gateways, want.Gateways)
}

func sameGateways(a, b []netip.Prefix) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(p netip.Prefix) bool { return !slices.Contains(b, p) })
}

// Create makes the bridge, or mends the one that is there.
func (d bridges) Create(_ context.Context, key string, spec Bridge) error {
	return d.set(key, Bridge{}, spec)
}

// Update changes everything in place.
func (d bridges) Update(_ context.Context, key string, old, new Bridge) error {
	return d.set(key, old, new)
}

func (d bridges) set(key string, old, spec Bridge) error {
	d.forget(key)
	l, err := d.ns.MakeBridge(linux.Bridge{Name: d.ns.BridgeName(spec.Bridge), Alias: linux.BridgeAlias(spec.Bridge), MAC: spec.MAC, MTU: spec.MTU, Age: spec.Age,
		Host: len(spec.Gateways) > 0})
	if err == nil {
		err = d.own(func(ns *linux.Namespace) error { return ns.SetAddresses(l.Index, old.Gateways, spec.Gateways) })
	}
	if err != nil {
		return fmt.Errorf("bridge: %w", err)
	}
	d.note(key, made{index: l.Index})
	return nil
}

// own does something in the agent's own namespace.
func (p *Dataplane) own(f func(*linux.Namespace) error) error {
	ns, err := p.ns.Open(linux.OwnRef)
	if err != nil {
		return err
	}
	return errors.Join(f(ns), ns.Close())
}

// Delete deletes the bridge. Its ports are gone.
func (d bridges) Delete(_ context.Context, key string, spec Bridge) error {
	d.forget(key)
	if err := d.remove(cmp.Or(spec.device, d.ns.BridgeName(spec.Bridge))); err != nil {
		return fmt.Errorf("bridge: %w", err)
	}
	return nil
}

// remove deletes an interface of ours by its name.
func (p *Dataplane) remove(name string) error {
	return p.own(func(ns *linux.Namespace) error {
		l, err := ns.LinkByName(name)
		if errors.Is(err, linux.ErrNoLink) {
			return nil
		}
		if err == nil {
			err = p.ns.DeleteLink(l)
		}
		return err
	})
}

// Retrieve finds all that are ours: by alias or, if the agent died before it could set one,
// by name.
func (d bridges) Retrieve(_ context.Context, want iter.Seq2[string, Bridge]) ([]reconcile.Found[Bridge], error) {
	d.forgetAll(isA(KindBridge))
	wanted := map[string]Bridge{}
	for _, spec := range want {
		wanted[spec.Bridge] = spec
	}
	var all []reconcile.Found[Bridge]
	err := d.each(func(ns *linux.Namespace, l linux.Link) (err error) {
		if !l.Bridge() {
			return nil
		}
		name, ok := linux.ParseBridge(l.Alias)
		if !ok || l.Name != d.ns.BridgeName(name) {
			name = d.nameOf(l.Name, wanted)
		}
		if name == "" {
			all = append(all, reconcile.Found[Bridge]{Key: KindBridge + "/:" + l.Name, Spec: Bridge{device: l.Name, broken: true}})
			return nil
		}
		spec := Bridge{Bridge: name, MAC: l.MAC, MTU: l.MTU, Age: l.Age}
		if spec.Gateways, err = ns.Addresses(l.Index, wanted[name].Gateways); err != nil {
			return err
		}
		spec.broken = !l.Up || l.Alias != linux.BridgeAlias(name) || l.NoARP != (len(spec.Gateways) == 0)
		if !spec.broken {
			d.note(bridgeKey(name), made{index: l.Index})
		}
		all = append(all, reconcile.Found[Bridge]{Key: bridgeKey(name), Spec: spec})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("find bridges: %w", err)
	}
	return all, nil
}

// nameOf tells whose device a name is, among those that are wanted.
func (d bridges) nameOf(device string, wanted map[string]Bridge) string {
	for name := range wanted {
		if d.ns.BridgeName(name) == device {
			return name
		}
	}
	return ""
}

// isA tells keys of a kind.
func isA(kind string) func(key string) bool {
	return func(key string) bool { return strings.HasPrefix(key, kind+"/") }
}

// each goes through the interfaces of ours in the agent's own namespace.
func (p *Dataplane) each(f func(*linux.Namespace, linux.Link) error) error {
	links, err := p.ns.BridgeLinks()
	if err != nil {
		return err
	}
	return p.own(func(ns *linux.Namespace) error {
		for _, l := range links {
			if err := f(ns, l); err != nil && !errors.Is(err, linux.ErrNoLink) {
				return err
			}
		}
		return nil
	})
}
