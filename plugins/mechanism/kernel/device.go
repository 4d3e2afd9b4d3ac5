package kernel

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"strings"

	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/reconcile"
	"golang.org/x/sys/unix"
)

// Device is the spec of a tunnel of the kernel's that is itself a workload's interface.
type Device struct {
	Tunnel linux.Device
	NetNS  string // reference, canonical
	Name   string
	MAC    linux.MAC // zero where the tunnel carries IP packets
	MTU    int       // bytes
	broken bool      // found: not up, or not finished
}

func deviceKey(tag linux.Tag) string { return KindDevice + "/" + tag.ID + "/" + string(tag.Side) }

// isDevice tells whether a key is that of a tunnel.
func isDevice(key string) bool { return strings.HasPrefix(key, KindDevice+"/") }

func (s Device) refs() []string { return []string{s.NetNS} }

// end is the interface as one end of a pair: what is heard of it is judged alike.
func (s Device) end() Veth {
	return Veth{MTU: s.MTU, Ends: [2]End{{NetNS: s.NetNS, Name: s.Name, MAC: s.MAC}}}
}

// deviceDescriptor makes tunnels in workloads' namespaces.
type deviceDescriptor struct{ *Mechanism }

// Dependencies: the namespace.
func (d deviceDescriptor) Dependencies(_ string, spec Device) []string {
	return []string{KindNetNS + "/" + spec.NetNS}
}

// Equal compares what the kernel shows of a tunnel, and the rest by content.
func (d deviceDescriptor) Equal(found, want Device) bool {
	if !linux.SameDevice(found.Tunnel, want.Tunnel) {
		return false
	}
	found.Tunnel = want.Tunnel
	return found == want
}

// Create makes the tunnel, or finishes and mends the one that is there.
func (d deviceDescriptor) Create(_ context.Context, key string, spec Device) error {
	defer d.looks.touch()
	ns, err := d.ns.Open(spec.NetNS)
	if err == nil {
		d.pairs.begin(key)
		err = errors.Join(d.place(ns, key, spec), ns.Close())
		d.end(key)
	}
	if err != nil {
		return fmt.Errorf("tunnel: %w", err)
	}
	return nil
}

func (d deviceDescriptor) place(ns *linux.Namespace, key string, spec Device) error {
	if _, err := ns.NSID(); err != nil {
		return err
	}
	tag := tagsOf(key)[0]
	link, err := d.there(ns, key, spec)
	fresh := errors.Is(err, linux.ErrNoLink)
	if fresh {
		link, err = d.make(ns, tag, spec)
	}
	if err != nil {
		return err
	}
	d.pairs.setTunnel(key, spec, link, fresh) // from here on, what happens to it is heard
	now, err := d.finish(ns, tag, spec, link)
	if errors.Is(err, errNoPair) { // in use, and to be renamed
		if err = d.ns.DeleteLink(link); err == nil {
			fresh = true
			if link, err = d.make(ns, tag, spec); err == nil {
				now, err = d.finish(ns, tag, spec, link)
			}
		}
	}
	if err == nil {
		d.pairs.setTunnel(key, spec, now, fresh)
		return nil
	}
	if fresh {
		d.pairs.forget(key)
		err = errors.Join(err, d.ns.DeleteLink(link))
	}
	return err
}

// there finds the tunnel that is wanted, where it was seen last or by its name. One that was
// and cannot become the one that is wanted is deleted; then, and if there is none, the error
// is linux.ErrNoLink.
func (d deviceDescriptor) there(ns *linux.Namespace, key string, spec Device) (linux.Link, error) {
	tag := tagsOf(key)[0]
	p, known := d.pairs.get(key)
	own := func(l linux.Link) bool { // whatever alias it was given
		return l.Device != nil && (belongs(l, tag, linux.MAC{}) || known && l.Ours && l.Place == p.links[0].Place)
	}
	link, err := ns.LinkByName(spec.Name)
	switch {
	case err == nil && link.Device == nil && belongs(link, tag, linux.MAC{}): // the other end was on this node
		err = errors.Join(linux.ErrNoLink, d.ns.DeleteLink(link), ns.DeleteStale())
		return link, err
	case err == nil && !own(link):
		return link, taken(spec.end().Ends[0], link)
	}
	if errors.Is(err, linux.ErrNoLink) && known {
		nsid, e := ns.NSID()
		if e != nil || nsid != p.links[0].NSID { // it is wanted elsewhere now
			return link, errors.Join(err, e, d.ns.DeleteLink(p.links[0]))
		}
		if link, err = ns.LinkByIndex(p.links[0].Index); err != nil || !own(link) {
			err = errors.Join(linux.ErrNoLink, ns.DeleteStale())
		}
	}
	if err != nil {
		return link, err
	}
	device, err := ns.Device(link)
	switch {
	case err != nil || linux.SameDevice(device, spec.Tunnel):
	case linux.Redirects(device, spec.Tunnel):
		err = ns.Redirect(link.Index, spec.Tunnel)
	default:
		err = errors.Join(linux.ErrNoLink, d.ns.DeleteLink(link), ns.DeleteStale())
	}
	return link, err
}

// make makes the tunnel under a passing name. One of this connection's that is in the way in
// another namespace was moved there by the workload, and goes.
func (d deviceDescriptor) make(ns *linux.Namespace, tag linux.Tag, spec Device) (linux.Link, error) {
	name := d.passing(tag)
	if l, err := ns.LinkByName(name); err == nil && l.Ours { // of an agent that died
		if err := d.ns.DeleteLink(l); err != nil {
			return l, err
		}
	}
	end := linux.End{NS: ns, Name: name, MAC: spec.MAC, MTU: spec.MTU}
	err := d.ns.CreateDevice(end, spec.Tunnel)
	if errors.Is(err, linux.ErrTunnelTaken) {
		moved, e := d.elsewhere(tag)
		if e != nil || len(moved) == 0 {
			return linux.Link{}, errors.Join(err, e)
		}
		for _, l := range moved {
			if e := d.ns.DeleteLink(l); e != nil {
				return l, errors.Join(err, e)
			}
		}
		err = d.ns.CreateDevice(end, spec.Tunnel)
	}
	if err != nil {
		return linux.Link{}, err
	}
	return ns.LinkByName(name)
}

// passing is the name of a tunnel until it is finished. It is the agent's own: older kernels
// make a tunnel in the agent's namespace first.
func (m *Mechanism) passing(tag linux.Tag) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", tag, m.ns.Group()))
	return "pbt" + hex.EncodeToString(sum[:5])
}

// elsewhere finds tunnels with a tag in all namespaces.
func (d deviceDescriptor) elsewhere(tag linux.Tag) (found []linux.Link, err error) {
	all, err := d.ns.Links(func(int) bool { return false })
	for _, l := range all {
		if l.Device != nil && l.Alias == tag.String() {
			found = append(found, l)
		}
	}
	return found, err
}

// finish changes what differs from what is wanted. The error is errNoPair if the kernel
// refuses because it is in use.
func (d deviceDescriptor) finish(ns *linux.Namespace, tag linux.Tag, spec Device, l linux.Link) (linux.Link, error) {
	change := difference(l, spec.end().Ends[0], tag, spec.MTU)
	if change == (linux.Change{}) {
		return l, nil
	}
	now, err := ns.SetLink(l.Index, change)
	if errors.Is(err, unix.EADDRINUSE) {
		return l, fmt.Errorf("another program of this node has the tunnel's UDP port: %w", err)
	}
	if err != nil {
		return l, explain(spec.end().Ends[0], ns, err)
	}
	return now, nil
}

// Update changes name, address and MTU in place, and the other end where the kernel can.
func (d deviceDescriptor) Update(ctx context.Context, key string, old, new Device) error {
	p, ok := d.pairs.get(key)
	if !ok || old.NetNS != new.NetNS || !linux.SameDevice(old.Tunnel, new.Tunnel) && !linux.Redirects(old.Tunnel, new.Tunnel) {
		return reconcile.ErrRecreate
	}
	if err := d.Create(ctx, key, new); err != nil {
		return err
	}
	if now, _ := d.pairs.get(key); !p.links[0].Up || now.links[0].MAC != p.links[0].MAC || now.links[0].Place != p.links[0].Place {
		d.lost(ipKey(tagsOf(key)[0])) // as with pairs
	}
	return nil
}

// Delete deletes the tunnel, whether or not its namespace can be opened.
func (d deviceDescriptor) Delete(_ context.Context, key string, spec Device) error {
	defer d.looks.touch()
	d.pairs.begin(key)
	link, err := d.seen(key, spec)
	if err == nil {
		err = d.ns.DeleteLink(link)
	}
	if errors.Is(err, linux.ErrNoLink) || errors.Is(err, linux.ErrNoNamespace) {
		err = nil
	}
	if err == nil {
		d.pairs.forget(key)
	}
	d.end(key)
	if err != nil {
		return fmt.Errorf("tunnel: %w", err)
	}
	return nil
}

// seen is the tunnel's interface as it was seen last or, if it was not, as its name has it.
func (d deviceDescriptor) seen(key string, spec Device) (l linux.Link, err error) {
	if p, ok := d.pairs.get(key); ok {
		return p.links[0], nil
	}
	ns, err := d.ns.Open(spec.NetNS)
	if err != nil {
		return l, err
	}
	if _, err = ns.NSID(); err == nil {
		l, err = ns.LinkByName(spec.Name)
	}
	if err == nil && (!belongs(l, tagsOf(key)[0], linux.MAC{}) || l.Device == nil) {
		err = linux.ErrNoLink
	}
	return l, errors.Join(err, ns.Close())
}

// Retrieve finds all tunnels of ours, also what was never finished.
func (d deviceDescriptor) Retrieve(_ context.Context, want iter.Seq2[string, Device]) ([]reconcile.Found[Device], error) {
	look, wanted, err := lookFor(d.Mechanism, want)
	if err != nil {
		return nil, fmt.Errorf("find tunnels: %w", err)
	}
	return d.devicesIn(look, wanted), nil
}
