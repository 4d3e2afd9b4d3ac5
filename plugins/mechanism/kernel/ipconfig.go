package kernel

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/reconcile"
)

// IPConfig is the spec of what is set on one end: addresses, routes, neighbours, rules.
type IPConfig struct {
	NetNS string // reference, canonical
	Name  string // the interface's
	Maker string // key of the value that makes the interface
	linux.Config
}

func (s IPConfig) refs() []string { return []string{s.NetNS} }

func ipKey(tag linux.Tag) string { return KindIPConfig + "/" + tag.ID + "/" + string(tag.Side) }

// tagOf reads a key ipconfig/<id>/<side>.
func tagOf(key string) linux.Tag {
	rest := strings.TrimPrefix(key, KindIPConfig+"/")
	i := strings.LastIndex(rest, "/")
	if i < 0 {
		return linux.Tag{}
	}
	return linux.Tag{ID: rest[:i], Side: linux.Side(rest[i+1:])}
}

// ipDescriptor sets what is wanted on the ends of pairs.
type ipDescriptor struct{ *Mechanism }

// Dependencies of what is set on an interface are what makes that.
func (d ipDescriptor) Dependencies(_ string, spec IPConfig) []string {
	if spec.Maker == "" {
		return nil // found, and of an interface that is gone
	}
	return []string{spec.Maker}
}

// Equal compares by content; the order of addresses and routes means nothing.
func (d ipDescriptor) Equal(found, want IPConfig) bool {
	return found.NetNS == want.NetNS && found.Name == want.Name && found.Maker == want.Maker && found.Config.Equal(want.Config)
}

// Create sets what is wanted and is not there yet.
func (d ipDescriptor) Create(_ context.Context, key string, spec IPConfig) error {
	return d.configure(key, spec, linux.Config{})
}

// Update changes what differs between the interface and what is wanted.
func (d ipDescriptor) Update(_ context.Context, key string, old, new IPConfig) error {
	if old.NetNS != new.NetNS || old.Maker != new.Maker {
		return reconcile.ErrRecreate
	}
	return d.configure(key, new, old.Config)
}

func (d ipDescriptor) configure(key string, spec IPConfig, was linux.Config) error {
	defer d.looks.touch()
	ns, err := d.ns.Open(spec.NetNS)
	if err != nil {
		return fmt.Errorf("configure interface %q: %w", spec.Name, err)
	}
	if err = errors.Join(d.set(ns, tagOf(key), spec, was), ns.Close()); err != nil {
		return fmt.Errorf("configure interface %q: %w", spec.Name, err)
	}
	return nil
}

// set changes what differs on the interface in ns; one that was just made is not looked at again.
func (d ipDescriptor) set(ns *linux.Namespace, tag linux.Tag, spec IPConfig, was linux.Config) error {
	if l, ok := d.pairs.first(tag, spec.Name); ok {
		if id, err := ns.NSID(); err == nil && id == l.NSID { // else the reference leads elsewhere by now
			return ns.ConfigureNew(l.Index, spec.Config)
		}
	}
	l, err := ns.LinkByName(spec.Name)
	if err != nil {
		return err
	}
	if !l.Ours || l.Alias != tag.String() {
		return taken(End{NetNS: spec.NetNS, Name: spec.Name}, l)
	}
	return ns.Configure(l.Index, was, spec.Config)
}

// Delete takes off what was set. Of an interface that is gone only rules are left.
func (d ipDescriptor) Delete(_ context.Context, key string, spec IPConfig) error {
	defer d.looks.touch()
	err := d.clear(spec.NetNS, tagOf(key), spec)
	if errors.Is(err, linux.ErrNoNamespace) || errors.Is(err, linux.ErrNoLink) {
		err = d.clearElsewhere(tagOf(key), spec)
	}
	if err != nil {
		return fmt.Errorf("take off what was set on interface %q: %w", spec.Name, err)
	}
	return nil
}

// clear takes off what was set in a namespace. The error wraps linux.ErrNoNamespace or
// linux.ErrNoLink if the interface is not there.
func (d ipDescriptor) clear(ref string, tag linux.Tag, spec IPConfig) error {
	ns, err := d.ns.Open(ref)
	if err != nil {
		return err
	}
	l, err := d.end(ns, tag, spec.Name)
	switch {
	case err == nil:
		err = ns.Configure(l.Index, spec.Config, linux.Config{})
	case errors.Is(err, linux.ErrNoLink):
		err = errors.Join(err, ns.DeleteStale())
	}
	return errors.Join(err, ns.Close())
}

// clearElsewhere takes off what was set in a namespace that its reference no longer leads
// to but that lives on, for instance because a process is in it.
func (d ipDescriptor) clearElsewhere(tag linux.Tag, spec IPConfig) error {
	p, i, ok := d.pairs.of(tag)
	if !ok {
		return nil
	}
	l, err := d.ns.LinkAt(p.links[i].Place)
	if err != nil || !l.Ours || l.Alias != tag.String() {
		return nil // gone with its namespace
	}
	refs, err := d.ns.Locate(map[int]bool{l.NSID: true})
	if err != nil || len(refs) == 0 {
		return err // nobody can open it
	}
	if err = d.clear(refs[0], tag, spec); errors.Is(err, linux.ErrNoNamespace) || errors.Is(err, linux.ErrNoLink) {
		return nil
	}
	return err
}

// end finds an end in a namespace, also if it was renamed there. The error wraps
// linux.ErrNoLink if it is not there.
func (d ipDescriptor) end(ns *linux.Namespace, tag linux.Tag, name string) (linux.Link, error) {
	ours := func(l linux.Link, err error) bool { return err == nil && l.Ours && l.Alias == tag.String() }
	if p, i, ok := d.pairs.of(tag); ok {
		if l, err := ns.LinkByIndex(p.links[i].Index); ours(l, err) {
			return l, nil
		}
	}
	l, err := ns.LinkByName(name)
	if err == nil && !ours(l, err) {
		err = linux.ErrNoLink
	}
	return l, err
}

// Retrieve finds what is set on all ends, also rules whose interface is gone.
func (d ipDescriptor) Retrieve(_ context.Context, want iter.Seq2[string, IPConfig]) ([]reconcile.Found[IPConfig], error) {
	look, wanted, err := lookFor(d.Mechanism, want)
	if err != nil {
		return nil, fmt.Errorf("find what is set on interfaces: %w", err)
	}
	return configsIn(look, wanted), nil
}
