package kernel

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/reconcile"
)

// Port is the spec of a member's port. Values are compared with ==.
type Port struct {
	Bridge string
	Key    string    // of what makes the pair; found: empty
	Needs  string    // key of another value that must be there; empty: none
	Tag    linux.Tag // of the workload's end
	Treat  linux.BridgePort
	broken bool // found: not up
}

func portKey(id string) string { return KindPort + "/" + id }

// ports puts the outer ends of pairs into bridges.
type ports struct{ *Dataplane }

// Dependencies are the bridge and the pair: of one that was found, all that may make it.
func (d ports) Dependencies(_ string, spec Port) []string {
	keys := []string{bridgeKey(spec.Bridge)}
	if spec.Needs != "" {
		keys = append(keys, spec.Needs)
	}
	if spec.Key != "" {
		return append(keys, spec.Key)
	}
	for _, kind := range d.portKinds {
		keys = append(keys, kind+"/"+spec.Tag.ID+"/"+string(spec.Tag.Side))
	}
	return keys
}

// Equal compares all but the keys, which what was found does not know.
func (d ports) Equal(found, want Port) bool {
	found.Key, found.Needs = want.Key, want.Needs
	return found == want
}

// Create puts the outer end into the bridge, up, or moves it there.
func (d ports) Create(_ context.Context, key string, spec Port) error {
	d.forget(key)
	bridge, err := d.index(bridgeKey(spec.Bridge))
	var l linux.Link
	if err == nil {
		err = d.own(func(ns *linux.Namespace) (err error) {
			l, err = d.outer(ns, spec.Tag)
			return err
		})
	}
	if err == nil {
		_, err = d.ns.SetBridgePort(l.Index, bridge, spec.Treat)
	}
	if err != nil {
		return fmt.Errorf("port of a bridge: %w", err)
	}
	d.note(key, made{l.Index, bridge})
	return nil
}

// outer is the end of a workload's pair that is in the agent's own namespace.
func (p *Dataplane) outer(ns *linux.Namespace, workload linux.Tag) (linux.Link, error) {
	l, err := ns.LinkByName(p.ns.PortName(workload))
	if err == nil && (!l.Ours || l.Alias != workload.Port().String()) {
		err = linux.ErrNoLink
	}
	return l, err
}

// Update changes everything in place.
func (d ports) Update(ctx context.Context, key string, old, new Port) error {
	if old.Tag != new.Tag {
		return reconcile.ErrRecreate
	}
	return d.Create(ctx, key, new)
}

// Delete takes the outer end out of the bridge. If it is gone, so is the port.
func (d ports) Delete(_ context.Context, key string, spec Port) error {
	d.forget(key)
	err := d.own(func(ns *linux.Namespace) error {
		l, err := d.outer(ns, spec.Tag)
		if errors.Is(err, linux.ErrNoLink) || err == nil && l.Master == 0 {
			return nil
		}
		if err == nil {
			err = d.ns.LeaveBridge(l.Index)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("port of a bridge: %w", err)
	}
	return nil
}

// Retrieve finds all outer ends in bridges of ours.
func (d ports) Retrieve(context.Context, iter.Seq2[string, Port]) ([]reconcile.Found[Port], error) {
	d.forgetAll(isA(KindPort))
	names, links, err := d.names()
	if err != nil {
		return nil, fmt.Errorf("find ports of bridges: %w", err)
	}
	var all []reconcile.Found[Port]
	for _, l := range links {
		tag, ok := linux.ParseTag(l.Alias)
		workload, outer := tag.Workload()
		name := names[l.Master]
		if !ok || !outer || name == "" {
			continue
		}
		key := portKey(tag.ID)
		if l.Up {
			d.note(key, made{l.Index, l.Master})
		}
		all = append(all, reconcile.Found[Port]{Key: key, Spec: Port{Bridge: name, Tag: workload, Treat: l.Port, broken: !l.Up}})
	}
	return all, nil
}

// names lists the bridges of ours by their indexes, and with them all interfaces of ours in
// the agent's own namespace.
func (p *Dataplane) names() (names map[int]string, links []linux.Link, err error) {
	links, err = p.ns.BridgeLinks()
	names = map[int]string{}
	for _, l := range links {
		if name, ok := linux.ParseBridge(l.Alias); ok && l.Bridge() {
			names[l.Index] = name
		}
	}
	return names, links, err
}
