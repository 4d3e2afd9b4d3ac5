package sriov

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/reconcile"
)

// Kinds of values and facts, the beginnings of their keys.
const (
	// KindVF is vf/<PCI address>: the engine lets one cross-connect have a key, and so a function.
	KindVF = "vf"
	// KindPCI is pci/<PCI address>, the fact that a function is there.
	KindPCI = "pci"
)

// VFKey is the key of the value that makes a function ready.
func VFKey(pci string) string { return KindVF + "/" + pci }

// Kernel is what this room asks of plugins/linux.
type Kernel interface {
	// VFs are the virtual functions of a physical one, by its interface.
	VFs(name string) ([]linux.VF, error)
	// SetVF sets what differs.
	SetVF(name string, now, want linux.VF) error
	// OwnLink is an interface of the agent's own namespace.
	OwnLink(name string) (linux.Link, error)
	// Settle has an interface of the agent's own namespace be one that nobody has.
	Settle(now linux.Link, name string, mtu int, up bool) error
}

// noDriver is of a function that no driver has.
const noDriver = "none"

// VF is the spec of a function that is ready for whoever has it. Values are compared with Equal.
type VF struct {
	Tag    string
	Driver string    // DriverVFIO, or empty for that of its interface
	MAC    linux.MAC // zero: as it is
	VLAN   int
	Rate   int // Mbit/s
	Spoof  bool
	Trust  bool
}

// settings are what its physical function is to be set to.
func (v VF) settings(now linux.VF) linux.VF {
	want := now
	want.VLAN, want.MaxRate, want.Trust = v.VLAN, v.Rate, v.Trust
	if now.CanSpoof {
		want.Spoof = v.Spoof
	}
	if v.VLAN != now.VLAN {
		want.QoS = 0
	}
	if v.MAC != (linux.MAC{}) {
		want.MAC = v.MAC
	}
	return want
}

// descriptor makes functions ready and puts them back.
type descriptor struct{ *Plugin }

// Register gives the engine the descriptor of functions, and the facts of their being there.
func (p *Plugin) Register(e *reconcile.Engine) {
	reconcile.Register(e, KindVF, descriptor{p})
	p.facts.observe = e.Observe
	e.Facts(KindPCI, "the virtual function", &p.facts)
	p.lost = e.Lost
}

// Dependencies: the function.
func (d descriptor) Dependencies(key string, _ VF) []string {
	return []string{KindPCI + "/" + pciOf(key)}
}

func pciOf(key string) string { return strings.TrimPrefix(key, KindVF+"/") }

// Equal compares by content; no MAC is any.
func (d descriptor) Equal(found, want VF) bool {
	if want.MAC == (linux.MAC{}) {
		found.MAC = want.MAC
	}
	return found == want
}

// card finds the interface of a function's physical one, and how that treats it.
func (p *Plugin) card(pci string) (name string, now linux.VF, err error) {
	pf := p.sys.target(pci, "physfn")
	if name = p.sys.netdev(pf); name == "" {
		return "", now, fmt.Errorf("the physical function %s of %s has no interface here; load its driver", pf, pci)
	}
	index := p.sys.index(pf, pci)
	all, err := p.o.Kernel.VFs(name)
	for _, vf := range all {
		if vf.Index == index {
			return name, vf, nil
		}
	}
	return "", now, errors.Join(err, fmt.Errorf("interface %s does not show virtual function %d (%s)", name, index, pci))
}

// Create makes a function ready. A MAC is set while no driver has the function: most tell
// theirs only once.
func (d descriptor) Create(_ context.Context, key string, spec VF) error {
	pci := pciOf(key)
	name, now, err := d.card(pci)
	var home Home
	if err == nil {
		home, err = d.depart(pci, spec.Tag, now)
	}
	if err == nil {
		want := spec.settings(now)
		if spec.MAC == (linux.MAC{}) {
			want.MAC = home.PF.MAC
		}
		err = d.set(pci, name, now, want, spec.Driver)
	}
	if err != nil {
		return fmt.Errorf("virtual function: %w", err)
	}
	d.keep(pci, &spec)
	return nil
}

// keep notes what a function was made, nil: it is left alone again.
func (p *Plugin) keep(pci string, spec *VF) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.applied, pci)
	if spec != nil {
		p.applied[pci] = *spec
	}
}

// depart notes how a function is that leaves home.
func (p *Plugin) depart(pci, tag string, now linux.VF) (home Home, err error) {
	home, ok, err := p.homes.Get(pci)
	switch {
	case err == nil && ok && home.Tag != tag:
		return home, fmt.Errorf("%s %w: it was made ready for %s, which is to put it back first", pci, ErrInUse, home.Tag)
	case err != nil || ok:
		return home, err
	}
	vf, _ := p.sys.virtual(pci)
	home = Home{Tag: tag, Name: vf.netdev, Driver: cmp.Or(vf.driver, noDriver), PF: now}
	if vf.netdev != "" {
		l, err := p.o.Kernel.OwnLink(vf.netdev)
		if err != nil {
			return home, err
		}
		home.MTU, home.Up = l.MTU, l.Up
	} else if vf.driver != "" && vf.driver != DriverVFIO {
		return home, fmt.Errorf("%s %w: its interface is in another network namespace", pci, ErrInUse)
	}
	return home, p.homes.Put(pci, home)
}

// set sets what differs, and has the driver take the function.
func (p *Plugin) set(pci, name string, now, want linux.VF, driver string) error {
	fresh := now.MAC != want.MAC || !p.sys.bound(pci, driver)
	err := p.released(pci, driver, fresh)
	if err == nil && fresh {
		if err = p.sys.canBind(pci, driver); err == nil {
			err = p.sys.unbind(pci)
		}
		now.MAC = linux.MAC{} // which some cards forget with the driver
	}
	if err != nil {
		return err
	}
	if err := p.o.Kernel.SetVF(name, now, want); err != nil {
		return fmt.Errorf("%w; the card may not be able to: leave it out of the pool, or of the record", err)
	}
	if driver == noDriver {
		return errors.Join(p.sys.unbind(pci), p.sys.override(pci, ""))
	}
	return p.sys.bind(pci, driver)
}

// released says which program still has a function that is to change its driver: the kernel
// would wait for it, and all of the agent with it.
func (p *Plugin) released(pci, driver string, fresh bool) error {
	vf, _ := p.sys.virtual(pci)
	if vf.driver == DriverVFIO && (driver != DriverVFIO || fresh) && p.open(vf.group) {
		return fmt.Errorf("%s %w: a program has /dev/vfio/%d open; it is put back when that ends", pci, ErrInUse, vf.group)
	}
	return nil
}

// Update changes in place what the physical function sets; for another owner it goes home first.
func (d descriptor) Update(ctx context.Context, key string, old, new VF) error {
	if old.Tag != new.Tag || old.Driver != new.Driver || new.MAC != (linux.MAC{}) && old.MAC != new.MAC {
		return reconcile.ErrRecreate
	}
	return d.Create(ctx, key, new)
}

// Delete puts a function back as it was.
func (d descriptor) Delete(_ context.Context, key string, spec VF) error {
	pci := pciOf(key)
	d.keep(pci, nil)
	home, ok, err := d.homes.Get(pci)
	if ok && home.Tag == spec.Tag {
		err = d.putBack(pci, home)
	}
	if err != nil {
		return fmt.Errorf("virtual function: %w", err)
	}
	return nil
}

func (p *Plugin) putBack(pci string, home Home) error {
	if p.Present(pci) { // else nothing of it is left
		name, now, err := p.card(pci)
		if err != nil {
			return err
		}
		want := home.PF
		want.Index = now.Index
		if err := p.set(pci, name, now, want, home.Driver); err != nil {
			return err
		}
		if err := p.settle(pci, home); err != nil {
			return err
		}
	}
	return p.homes.Remove(pci)
}

// settle gives the interface its name again. From a namespace that ended it comes in its own time, and
// from a driver that has just taken the function perhaps, too.
func (p *Plugin) settle(pci string, home Home) error {
	if home.Name == "" {
		return nil
	}
	name := p.sys.netdev(pci)
	if name == "" {
		return fmt.Errorf("the interface of %s is not back yet", pci)
	}
	l, err := p.o.Kernel.OwnLink(name)
	if err == nil {
		err = p.o.Kernel.Settle(l, home.Name, home.MTU, home.Up)
	}
	return err
}

// Retrieve finds the functions that are away from home, by what was noted of them.
func (d descriptor) Retrieve(_ context.Context, want iter.Seq2[string, VF]) ([]reconcile.Found[VF], error) {
	for key, spec := range want { // what is adopted is not made
		d.keep(pciOf(key), &spec)
	}
	list, err := d.homes.All()
	if err != nil {
		return nil, fmt.Errorf("find virtual functions: %w", err)
	}
	var all []reconcile.Found[VF]
	for _, pci := range list {
		home, ok, err := d.homes.Get(pci)
		if err != nil || !ok {
			d.log.Warn("a note about a virtual function cannot be read", "key", VFKey(pci), "err", err)
			continue
		}
		all = append(all, reconcile.Found[VF]{Key: VFKey(pci), Spec: d.now(pci, home.Tag)})
	}
	return all, nil
}

// now is a function as it is.
func (p *Plugin) now(pci, tag string) VF {
	spec := VF{Tag: tag}
	if _, now, err := p.card(pci); err == nil {
		spec.MAC, spec.VLAN, spec.Rate, spec.Spoof, spec.Trust = now.MAC, now.VLAN, now.MaxRate, now.Spoof, now.Trust
	}
	switch spec.Driver = p.sys.target(pci, "driver"); spec.Driver {
	case DriverVFIO:
	case "":
		spec.Driver = noDriver
	default:
		spec.Driver = ""
	}
	return spec
}
