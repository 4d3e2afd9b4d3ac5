package kernel

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/reconcile"
	"go.patchbay.dev/vppapi"
)

// Tap is the spec of a tap of VPP's: its interface there and its other end, in the
// workload's namespace. Values are compared with ==.
type Tap struct {
	Tag     string
	NetNS   string // reference, canonical
	Name    string // in the namespace
	HostMAC linux.MAC
	MAC     [6]byte // of VPP's end
	MTU     int     // bytes
	TUN     bool    // it carries IP packets, not frames; then it has no MACs
	IP      bool    // the payload is IP
	// found:
	broken bool         // not up at one end
	stray  vppapi.Index // another has its tag; 0: none has
}

func (t Tap) refs() []string { return []string{t.NetNS} }

func tapKey(tag linux.Tag) string { return KindTap + "/" + tag.ID + "/" + string(tag.Side) }

// end is the workload's end, as one of a pair: what is heard of it is judged alike.
func (t Tap) end() Veth {
	return Veth{MTU: t.MTU, Ends: [2]End{{NetNS: t.NetNS, Name: t.Name, MAC: t.HostMAC}}}
}

// tapDescriptor makes taps.
type tapDescriptor struct{ *Mechanism }

// Dependencies: the namespace.
func (d tapDescriptor) Dependencies(_ string, spec Tap) []string {
	if spec.NetNS == "" {
		return nil // found, and only VPP's end
	}
	return []string{KindNetNS + "/" + spec.NetNS}
}

// Equal compares by content.
func (d tapDescriptor) Equal(found, want Tap) bool { return found == want }

// Create makes the tap, or finishes and mends the one that is there.
func (d tapDescriptor) Create(ctx context.Context, key string, spec Tap) error {
	defer d.looks.touch()
	ns, err := d.ns.Open(spec.NetNS)
	if err == nil {
		d.pairs.begin(key)
		err = errors.Join(d.createTap(ctx, ns, key, spec), ns.Close())
		d.end(key)
	}
	if err != nil {
		return fmt.Errorf("tap: %w", err)
	}
	return nil
}

func (d tapDescriptor) createTap(ctx context.Context, ns *linux.Namespace, key string, spec Tap) error {
	if _, err := ns.NSID(); err != nil {
		return err
	}
	index, link, made, err := d.makeTap(ctx, ns, key, spec)
	if err != nil {
		return err
	}
	d.pairs.set(key, spec.end(), [2]linux.Link{link}, made)
	change := difference(link, spec.end().Ends[0], tagsOf(key)[0], spec.MTU)
	change.Mark = !link.Ours
	if change != (linux.Change{}) {
		if link, err = ns.SetLink(link.Index, change); err != nil {
			return err
		}
	}
	err = d.vpp.Finish(ctx, index, vppapi.Setup{Tag: spec.Tag, MTU: spec.MTU, RxMode: d.taps.mode, IP: spec.IP, Down: made})
	if err == nil {
		d.taps.doubts.Delete(spec.Tag)
		d.pairs.set(key, spec.end(), [2]linux.Link{link}, made)
		d.taps.ports.Add(spec.Tag, key)
	}
	return err
}

// makeTap finds the tap, or makes it; made tells which. What is there by half goes first.
func (d tapDescriptor) makeTap(ctx context.Context, ns *linux.Namespace, key string, spec Tap) (index vppapi.Index, link linux.Link, made bool, err error) {
	port, there, err := d.find(ctx, spec.Tag)
	if err != nil {
		return 0, link, false, err
	}
	link, err = ns.LinkByName(spec.Name)
	if there {
		if err == nil && link.Tun() && link.Ours && link.Alias == spec.Tag {
			return port.Index, link, false, nil
		}
		if err = d.deleteTap(ctx, key, spec, port.Index); err != nil {
			return 0, link, false, err
		}
		link, err = ns.LinkByName(spec.Name)
	}
	// VPP would join a tap of this name if there was one, whosever it is.
	if err == nil {
		return 0, link, false, taken(spec.end().Ends[0], link)
	}
	if !errors.Is(err, linux.ErrNoLink) {
		return 0, link, false, err
	}
	done, err := d.room()
	if err != nil {
		return 0, link, false, err
	}
	defer done()
	d.taps.doubts.Store(spec.Tag, true) // until it is finished
	index, err = d.vpp.CreateTap(ctx, vppapi.Tap{
		Tag: spec.Tag, TUN: spec.TUN, MAC: spec.MAC, Name: spec.Name, HostMAC: spec.HostMAC, NetNS: ns.Path(), MTU: spec.MTU,
	})
	if err == nil {
		link, err = ns.LinkByName(spec.Name)
	}
	return index, link, true, err
}

// find finds VPP's end by the tag.
func (d tapDescriptor) find(ctx context.Context, tag string) (vppapi.Interface, bool, error) {
	if _, doubt := d.taps.doubts.LoadAndDelete(tag); doubt {
		if _, err := d.vpp.Refresh(ctx); err != nil {
			d.taps.doubts.Store(tag, true)
			return vppapi.Interface{}, false, err
		}
	}
	port, there := d.vpp.Tagged(tag)
	return port, there, nil
}

// Update mends in place what it can.
func (d tapDescriptor) Update(ctx context.Context, key string, old, new Tap) error {
	same := old
	same.broken = false
	if same != new {
		return reconcile.ErrRecreate
	}
	return d.Create(ctx, key, new)
}

// Delete deletes the tap at both ends.
func (d tapDescriptor) Delete(ctx context.Context, key string, spec Tap) error {
	defer d.looks.touch()
	if err := d.delete(ctx, key, spec); err != nil {
		return fmt.Errorf("tap: %w", err)
	}
	return nil
}

func (d tapDescriptor) delete(ctx context.Context, key string, spec Tap) error {
	if spec.stray != 0 {
		return d.vpp.DeleteTap(ctx, spec.stray)
	}
	d.taps.ports.Drop(spec.Tag)
	d.pairs.begin(key)
	defer d.end(key)
	if d.vpp.Gone() { // and the tap with it, at both ends
		d.pairs.forget(key)
		return nil
	}
	port, there, err := d.find(ctx, spec.Tag)
	if err == nil && there {
		err = d.deleteTap(ctx, key, spec, port.Index)
	}
	if err != nil && d.vpp.Gone() {
		err = nil
	}
	if err == nil {
		d.pairs.forget(key)
	}
	return err
}

// deleteTap deletes the workload's end before VPP's: that waits until no processor of the
// machine can still see it, and VPP's main thread has better to do.
func (d tapDescriptor) deleteTap(ctx context.Context, key string, spec Tap, index vppapi.Index) error {
	link, err := d.link(key, spec)
	if err == nil && link.Tun() && link.Alias == spec.Tag {
		err = d.ns.DeleteLink(link)
	} else if errors.Is(err, linux.ErrNoLink) || errors.Is(err, linux.ErrNoNamespace) {
		err = nil
	}
	return errors.Join(err, d.vpp.DeleteTap(ctx, index))
}

// link is the workload's end, where it was seen last or else where it should be.
func (d tapDescriptor) link(key string, spec Tap) (linux.Link, error) {
	if p, ok := d.pairs.get(key); ok && p.links[0].Index != 0 {
		return d.ns.LinkAt(p.links[0].Place)
	}
	ns, err := d.ns.Open(spec.NetNS)
	if err != nil {
		return linux.Link{}, err
	}
	_, err = ns.NSID()
	var l linux.Link
	if err == nil {
		l, err = ns.LinkByName(spec.Name)
	}
	return l, errors.Join(err, ns.Close())
}

// Retrieve finds all taps of ours, by VPP's tag, which they have from the start.
func (d tapDescriptor) Retrieve(ctx context.Context, want iter.Seq2[string, Tap]) ([]reconcile.Found[Tap], error) {
	if d.vpp.Gone() || d.vpp.Missing(vppapi.TapPlugin) != "" {
		d.taps.ports.Clear()
		d.replace(KindTap, nil)
		return nil, nil
	}
	interfaces, err := d.vpp.Refresh(ctx)
	if err != nil {
		return nil, err
	}
	all, err := d.vpp.Taps(ctx)
	if err != nil {
		return nil, err
	}
	look, wanted, err := lookFor(d.Mechanism, want)
	if err != nil {
		return nil, fmt.Errorf("find taps: %w", err)
	}
	ends := look.taps()
	found := map[string]reconcile.Found[Tap]{}
	var known []*pair
	d.taps.ports.Clear()
	for _, t := range all {
		i := interfaces[t.Index]
		tag, ok := linux.ParseTag(i.Tag)
		if !ok {
			continue // somebody else's
		}
		key := tapKey(tag)
		if _, twice := found[key]; twice {
			stray := fmt.Sprintf("%s/:%d", KindTap, i.Index)
			found[stray] = reconcile.Found[Tap]{Key: stray, Spec: Tap{Tag: i.Tag, stray: i.Index}}
			continue
		}
		spec, link := describeTap(look, t, i, ends[i.Tag], wanted[key])
		found[key] = reconcile.Found[Tap]{Key: key, Spec: spec}
		if link.Index != 0 {
			known = append(known, &pair{key: key, spec: spec.end(), links: [2]linux.Link{link}})
		}
		if !spec.broken {
			d.taps.ports.Add(i.Tag, key)
		}
	}
	d.replace(KindTap, known)
	list := make([]reconcile.Found[Tap], 0, len(found))
	for _, f := range found {
		list = append(list, f)
	}
	return list, nil
}

// describeTap tells what a tap is, and which end in a namespace is its own: of several
// with its tag, the one where it is wanted.
func describeTap(look *look, t vppapi.TapFound, i vppapi.Interface, ends []linux.Link, want Tap) (spec Tap, link linux.Link) {
	spec = Tap{Tag: i.Tag, Name: t.Name, MAC: i.MAC, MTU: i.MTU, TUN: t.TUN, IP: want.IP, broken: !i.AdminUp}
	for _, l := range ends {
		if here := look.byRef[want.NetNS]; link.Index == 0 || (here != nil && here.NSID == l.NSID) {
			link = l
		}
	}
	if link.Index == 0 { // gone, or never marked
		return spec, link
	}
	spec.NetNS, spec.Name, spec.HostMAC = look.ref(want.NetNS, link), link.Name, link.MAC
	spec.broken = spec.broken || !link.Up || link.MTU != i.MTU
	return spec, link
}

// taps are the ends of taps that a look has seen, by their tags.
func (l *look) taps() map[string][]linux.Link {
	all := map[string][]linux.Link{}
	l.links(func(link linux.Link) {
		if link.Tun() {
			all[link.Alias] = append(all[link.Alias], link)
		}
	})
	return all
}

// damagedTap tells of damage if VPP is there: else its taps went with it, and are looked
// at when it is back. The kernel tells of a tap's end before VPP is seen to be gone.
func (m *Mechanism) damagedTap(key string) {
	if _, err := m.vpp.Refresh(context.Background()); err != nil && m.vpp.Gone() {
		return
	}
	m.log.Info("interface was changed or deleted from outside", "key", key)
	m.lost(key)
}

// isTap tells whether a key is that of a tap.
func isTap(key string) bool { return strings.HasPrefix(key, KindTap+"/") }
