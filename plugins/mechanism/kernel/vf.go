package kernel

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"golang.org/x/sys/unix"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/reconcile"
	"go.patchbay.dev/plugins/sriov"
)

// VFNet is the spec of the interface of a virtual function in a workload's namespace.
// Values are compared with ==.
type VFNet struct {
	PCI    string // address of the function
	NetNS  string // reference, canonical
	Name   string
	MTU    int  // bytes
	broken bool // found: not up, or not marked
}

func vfKey(tag linux.Tag) string { return KindVFNet + "/" + tag.ID + "/" + string(tag.Side) }

// isVF tells whether a key is that of a virtual function's interface.
func isVF(key string) bool { return strings.HasPrefix(key, KindVFNet+"/") }

func (s VFNet) refs() []string { return []string{s.NetNS} }

// end is the interface as one end of a pair. Its MAC is the card's business.
func (s VFNet) end(mac linux.MAC) Veth {
	return Veth{MTU: s.MTU, Ends: [2]End{{NetNS: s.NetNS, Name: s.Name, MAC: mac}}}
}

// WithVFs has workloads given virtual functions of vfs. It is called before Register.
func (m *Mechanism) WithVFs(vfs *sriov.Plugin) *Mechanism {
	m.vfs = vfs
	return m
}

// Passes tells whether a workload has a virtual function, or asks for one.
func (m *Mechanism) Passes(parameters map[string]string) bool { return sriov.Asks(parameters) }

// Pass renders a workload that has a virtual function: ready for its interface, that in the workload's
// namespace, and what is set on it.
func (m *Mechanism) Pass(x *models.CrossConnect, side models.Side) ([]reconcile.Value, error) {
	own, other := x.GetClient(), x.GetEndpoint()
	if side == models.EndpointSide {
		own, other = other, own
	}
	tag := linux.Tag{ID: x.GetId(), Side: linux.Side(side)}
	end, err := renderEnd(tag, own)
	if err != nil {
		return nil, under(string(side), err)
	}
	ready, err := m.vfs.Render(x, side, "")
	if err != nil {
		return nil, err
	}
	config, err := portConfig(own, other, false, linux.MAC{})
	if err != nil {
		return nil, under(string(side), err)
	}
	net := VFNet{PCI: own.GetMechanism().GetParameters()[sriov.ParamPCI], NetNS: end.NetNS, Name: end.Name, MTU: mtuOf(x)}
	return []reconcile.Value{
		ready,
		{Key: vfKey(tag), Spec: net},
		{Key: ipKey(tag), Spec: IPConfig{NetNS: end.NetNS, Name: end.Name, Maker: vfKey(tag), Config: config}},
	}, nil
}

// vfDescriptor takes interfaces of virtual functions to workloads and home again.
type vfDescriptor struct{ *Mechanism }

// Dependencies: the namespace, and the function that is ready.
func (d vfDescriptor) Dependencies(_ string, spec VFNet) []string {
	return []string{KindNetNS + "/" + spec.NetNS, sriov.VFKey(spec.PCI)}
}

// Equal compares by content.
func (d vfDescriptor) Equal(found, want VFNet) bool { return found == want }

// Create takes the interface into the namespace, or finishes and mends what is there.
func (d vfDescriptor) Create(_ context.Context, key string, spec VFNet) error {
	defer d.looks.touch()
	tag := tagsOf(key)[0]
	_, err := d.vfs.Home(spec.PCI, tag) // is it this one's?
	if err == nil {
		var ns *linux.Namespace
		if ns, err = d.ns.Open(spec.NetNS); err == nil {
			d.pairs.begin(key)
			err = errors.Join(d.bring(ns, key, tag, spec), ns.Close())
			d.end(key)
		}
	}
	if err != nil {
		return fmt.Errorf("virtual function: %w", err)
	}
	return nil
}

func (d vfDescriptor) bring(ns *linux.Namespace, key string, tag linux.Tag, spec VFNet) error {
	if _, err := ns.NSID(); err != nil {
		return err
	}
	link, err := ns.LinkOf(spec.PCI)
	fresh := errors.Is(err, linux.ErrNoLink)
	if fresh {
		link, err = d.move(ns, tag, spec)
	}
	if err != nil {
		return err
	}
	want := spec.end(link.MAC)
	d.pairs.setVF(key, want, link, fresh) // from here on, what happens to it is heard
	change := difference(link, want.Ends[0], tag, want.MTU)
	change.Mark = !link.Ours
	if change == (linux.Change{}) {
		return nil
	}
	if link, err = ns.SetLink(link.Index, change); err == nil {
		d.pairs.setVF(key, want, link, fresh)
	}
	return explain(want.Ends[0], ns, err)
}

// move takes the interface from the agent's namespace into the workload's. One that the workload has taken
// elsewhere comes home first.
func (d vfDescriptor) move(ns *linux.Namespace, tag linux.Tag, spec VFNet) (l linux.Link, err error) {
	own, err := d.ns.Open(linux.OwnRef)
	if err != nil {
		return l, err
	}
	if l, err = own.LinkOf(spec.PCI); errors.Is(err, linux.ErrNoLink) {
		d.vfs.Look() // is the function there at all?
		if err = d.fetch(tag, spec.PCI, linux.Place{}); err == nil {
			l, err = own.LinkOf(spec.PCI)
		}
	}
	if err == nil {
		err = own.Move(l.Index, ns, linux.Change{Name: spec.Name, Alias: tag.String(), MTU: spec.MTU, Up: true})
	}
	if err = errors.Join(err, own.Close()); err == nil {
		return ns.LinkOf(spec.PCI)
	}
	return l, explain(End{NetNS: spec.NetNS, Name: spec.Name}, ns, err)
}

// fetch takes the interface home from wherever it is; at is where it was seen last. That it is nowhere
// to be found is no error: it is on its way home from a namespace that ended, or somebody else's.
func (d vfDescriptor) fetch(tag linux.Tag, pci string, at linux.Place) error {
	links, err := d.ns.Links(func(int) bool { return false })
	if err != nil {
		return err
	}
	in := map[int]bool{}
	for _, l := range links {
		if l.Parent == pci && l.NSID != linux.Own {
			in[l.NSID] = true
		}
	}
	if at.Index != 0 {
		in[at.NSID] = true
	}
	if len(in) == 0 {
		return nil
	}
	home, err := d.vfs.Home(pci, tag)
	if err != nil {
		return err
	}
	refs, err := d.ns.Locate(in)
	for _, ref := range refs {
		ns, e := d.ns.Open(ref)
		if errors.Is(e, linux.ErrNoNamespace) {
			continue
		}
		if e == nil {
			e = errors.Join(takeHome(ns, pci, home), ns.Close())
		}
		err = errors.Join(err, e)
	}
	return err
}

// takeHome takes the interface home from a namespace, if it is there.
func takeHome(ns *linux.Namespace, pci string, home sriov.Home) error {
	l, err := ns.LinkOf(pci)
	if errors.Is(err, linux.ErrNoLink) {
		return nil
	}
	if err == nil {
		err = ns.Home(l.Index, home.Name)
	}
	if errors.Is(err, unix.EEXIST) {
		err = fmt.Errorf("another interface of the node is named %q now; rename that one: %w", home.Name, err)
	}
	return errors.Join(err, ns.DeleteStale())
}

// Update changes name and MTU in place.
func (d vfDescriptor) Update(ctx context.Context, key string, old, new VFNet) error {
	if old.PCI != new.PCI || old.NetNS != new.NetNS {
		return reconcile.ErrRecreate
	}
	if err := d.Create(ctx, key, new); err != nil {
		return err
	}
	if old.broken {
		d.lost(ipKey(tagsOf(key)[0])) // the kernel drops much of it when an interface is down
	}
	return nil
}

// Delete takes the interface home, whether or not its namespace can be opened.
func (d vfDescriptor) Delete(_ context.Context, key string, spec VFNet) error {
	defer d.looks.touch()
	d.pairs.begin(key)
	err := d.home(key, spec)
	if err == nil {
		d.pairs.forget(key)
	}
	d.end(key)
	if err != nil {
		return fmt.Errorf("virtual function: %w", err)
	}
	return nil
}

func (d vfDescriptor) home(key string, spec VFNet) error {
	tag := tagsOf(key)[0]
	home, err := d.vfs.Home(spec.PCI, tag)
	if err != nil || !d.vfs.Present(spec.PCI) {
		return nil // it was never this one's, or is at home already, or is gone
	}
	own, err := d.ns.Open(linux.OwnRef)
	if err != nil {
		return err
	}
	l, err := own.LinkOf(spec.PCI)
	if errors.Is(err, linux.ErrNoLink) {
		var seen linux.Place
		if p, ok := d.pairs.get(key); ok {
			seen = p.links[0].Place
		}
		if ns, e := d.ns.Open(spec.NetNS); e == nil { // mostly it is there
			if e = errors.Join(takeHome(ns, spec.PCI, home), ns.Close()); e != nil {
				d.log.Debug("a virtual function is not where it was given to", "key", key, "err", e)
			}
		}
		if l, err = own.LinkOf(spec.PCI); errors.Is(err, linux.ErrNoLink) {
			if err = d.fetch(tag, spec.PCI, seen); err == nil {
				l, err = own.LinkOf(spec.PCI)
			}
		}
	}
	switch {
	case errors.Is(err, linux.ErrNoLink):
		err = fmt.Errorf("the interface of %s is not back yet: %w", spec.PCI, err) // its namespace is ending
	case err == nil:
		err = d.ns.Settle(l, home.Name, home.MTU, home.Up)
	}
	return errors.Join(err, own.Close())
}

// Retrieve finds the interfaces of virtual functions that are marked as ours.
func (d vfDescriptor) Retrieve(_ context.Context, want iter.Seq2[string, VFNet]) ([]reconcile.Found[VFNet], error) {
	look, wanted, err := lookFor(d.Mechanism, want)
	if err != nil {
		return nil, fmt.Errorf("find interfaces of virtual functions: %w", err)
	}
	var found []reconcile.Found[VFNet]
	var known []*pair
	look.links(func(l linux.Link) {
		tag, ok := linux.ParseTag(l.Alias)
		if l.Parent == "" || !ok {
			return
		}
		key := vfKey(tag)
		spec := VFNet{PCI: l.Parent, NetNS: look.ref(wanted[key].NetNS, l), Name: l.Name, MTU: l.MTU, broken: !l.Up}
		found = append(found, reconcile.Found[VFNet]{Key: key, Spec: spec})
		known = append(known, &pair{key: key, spec: spec.end(l.MAC), vf: true, links: [2]linux.Link{l}})
	})
	d.replace(KindVFNet, known)
	return found, nil
}
