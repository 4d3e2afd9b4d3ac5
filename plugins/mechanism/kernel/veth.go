package kernel

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/reconcile"
	"golang.org/x/sys/unix"
)

// Veth is the spec of a veth pair. Values are compared with ==.
type Veth struct {
	MTU  int    // bytes
	Ends [2]End // the client's and the endpoint's
	// Bridged: the outer end of a pair to the forwarder is a port of a bridge of the kernel's.
	Bridged bool
	// broken: found, but not up, not marked, or with an MTU of its own at one end.
	broken bool
}

// End is one end of a pair.
type End struct {
	NetNS string // reference, canonical
	Name  string
	MAC   linux.MAC
}

func (s Veth) refs() []string { return []string{s.Ends[0].NetNS, s.Ends[1].NetNS} }

func vethKey(id string) string { return KindVeth + "/" + id }

// portKey is the key of the pair that leads from a workload to the forwarder.
func portKey(tag linux.Tag) string { return KindVeth + "/" + tag.ID + "/" + string(tag.Side) }

// isPort tells whether a key is that of a pair, or of a tap, to the forwarder.
func isPort(key string) bool { return strings.Count(key, "/") == 2 && !isDevice(key) && !isVF(key) }

// tagsOf are the tags of the ends of the pair with this key. A tap, a tunnel or a virtual function has one end.
func tagsOf(key string) [2]linux.Tag {
	if isTap(key) || isDevice(key) || isVF(key) {
		_, rest, _ := strings.Cut(key, "/")
		id, side, _ := strings.Cut(rest, "/")
		return [2]linux.Tag{{ID: id, Side: linux.Side(side)}}
	}
	id, side, port := strings.Cut(strings.TrimPrefix(key, KindVeth+"/"), "/")
	if port {
		tag := linux.Tag{ID: id, Side: linux.Side(side)}
		return [2]linux.Tag{tag, tag.Port()}
	}
	return [2]linux.Tag{{ID: id, Side: linux.Client}, {ID: id, Side: linux.Endpoint}}
}

// vethDescriptor makes veth pairs.
type vethDescriptor struct{ *Mechanism }

// opened are the namespaces of the two ends. Their nsids are known, and so are the places
// of the interfaces found in them.
type opened [2]*linux.Namespace

func (m *Mechanism) open(spec Veth) (ns opened, err error) {
	for i, e := range spec.Ends {
		if ns[i], err = m.ns.Open(e.NetNS); err == nil {
			_, err = ns[i].NSID()
		}
		if err != nil {
			return ns, errors.Join(err, ns.close())
		}
	}
	return ns, nil
}

func (ns opened) close() error {
	var errs []error
	for _, n := range ns {
		if n != nil {
			errs = append(errs, n.Close())
		}
	}
	return errors.Join(errs...)
}

// deleteStale deletes rules whose interface is gone.
func (ns opened) deleteStale() error { return errors.Join(ns[0].DeleteStale(), ns[1].DeleteStale()) }

// Dependencies of a pair are its namespaces.
func (d vethDescriptor) Dependencies(_ string, spec Veth) []string {
	keys := []string{KindNetNS + "/" + spec.Ends[0].NetNS}
	if other := spec.Ends[1].NetNS; other != spec.Ends[0].NetNS && other != linux.OwnRef {
		keys = append(keys, KindNetNS+"/"+spec.Ends[1].NetNS)
	}
	return keys
}

// Equal compares by content.
func (d vethDescriptor) Equal(found, want Veth) bool { return found == want }

// Create makes the pair, or finishes and mends the one that is there.
func (d vethDescriptor) Create(_ context.Context, key string, spec Veth) error {
	defer d.looks.touch()
	ns, err := d.open(spec)
	if err != nil {
		return fmt.Errorf("create veth pair: %w", err)
	}
	d.pairs.begin(key)
	links, made, err := d.make(key, spec, ns)
	if err == nil {
		d.pairs.set(key, spec, links, made)
	}
	d.end(key)
	if err = errors.Join(err, ns.close()); err != nil {
		return fmt.Errorf("create veth pair: %w", err)
	}
	return nil
}

// make adopts what is there if that can be mended, else makes a new pair; made tells which.
func (d vethDescriptor) make(key string, spec Veth, ns opened) (links [2]linux.Link, made bool, err error) {
	if p, ok := d.pairs.get(key); ok {
		links, err = d.mend(tagsOf(key), spec, ns, p.links)
		if err == nil {
			return links, false, nil
		}
		if errors.Is(err, errNoPair) {
			err = errors.Join(d.abandon(p.links), ns.deleteStale())
		}
	}
	if err == nil {
		err = d.create(spec, ns)
	}
	if errors.Is(err, unix.EEXIST) {
		if links, err = d.adopt(tagsOf(key), spec, ns); err == nil || !errors.Is(err, errNoPair) {
			return links, false, err
		}
		err = d.create(spec, ns)
	}
	if err == nil {
		links, err = d.finish(key, spec, ns)
	}
	return links, true, err
}

func (d vethDescriptor) create(spec Veth, ns opened) error {
	if ns[0].Same(ns[1]) && spec.Ends[0].Name == spec.Ends[1].Name {
		return fmt.Errorf("both ends are in network namespace %q and are to be named %q; give them different names", spec.Ends[0].NetNS, spec.Ends[0].Name)
	}
	var ends [2]linux.End
	for i, e := range spec.Ends {
		ends[i] = linux.End{NS: ns[i], Name: e.Name, MAC: e.MAC, MTU: spec.MTU}
	}
	return d.ns.CreatePair(ends[0], ends[1])
}

// finish marks a pair that was just made, and sets it up.
func (d vethDescriptor) finish(key string, spec Veth, ns opened) (links [2]linux.Link, err error) {
	if links[0], err = ns[0].LinkByName(spec.Ends[0].Name); err != nil {
		return links, err
	}
	if links[1].NSID, err = ns[1].NSID(); err != nil {
		return links, err
	}
	links[1].Index, links[1].MAC = links[0].Peer.Index, spec.Ends[1].MAC
	d.pairs.set(key, spec, links, true) // from here on, what happens to it is heard
	if isPort(key) && !spec.Bridged {
		if err = ns[0].NoOffload(spec.Ends[0].Name); err != nil {
			return links, err
		}
	}
	for i, tag := range tagsOf(key) {
		if links[i], err = ns[i].SetLink(links[i].Index, linux.Change{Alias: tag.String(), Up: true, Quiet: i == 1 && isPort(key)}); err != nil {
			return links, err
		}
	}
	links[0].Running = links[1].Running // the first was seen before the second was up
	return links, nil
}

// Update changes names, addresses and MTU in place.
func (d vethDescriptor) Update(_ context.Context, key string, old, new Veth) error {
	defer d.looks.touch()
	if old.Ends[0].NetNS != new.Ends[0].NetNS || old.Ends[1].NetNS != new.Ends[1].NetNS {
		return reconcile.ErrRecreate
	}
	p, ok := d.pairs.get(key)
	if !ok {
		return reconcile.ErrRecreate
	}
	ns, err := d.open(new)
	if err != nil {
		return fmt.Errorf("update veth pair: %w", err)
	}
	d.pairs.begin(key)
	links, err := d.mend(tagsOf(key), new, ns, p.links)
	if err == nil {
		d.pairs.set(key, new, links, false)
	}
	d.end(key)
	if err = errors.Join(err, ns.close()); errors.Is(err, errNoPair) {
		return reconcile.ErrRecreate
	} else if err != nil {
		return fmt.Errorf("update veth pair: %w", err)
	}
	for i, tag := range tagsOf(key) {
		if _, port := tag.Workload(); !port && (!p.links[i].Up || p.links[i].MAC != new.Ends[i].MAC) {
			d.lost(ipKey(tag)) // the kernel drops neighbours when the address changes, and more when it is down
		}
	}
	return nil
}

// Delete deletes the pair by one of its ends, whether or not its namespaces can be opened.
func (d vethDescriptor) Delete(_ context.Context, key string, spec Veth) error {
	defer d.looks.touch()
	d.pairs.begin(key)
	err := d.remove(d.ends(key, spec))
	if err == nil {
		d.pairs.forget(key)
	}
	d.end(key)
	if err != nil {
		return fmt.Errorf("delete veth pair: %w", err)
	}
	return nil
}

// remove deletes a pair by what was seen of it: with one end the other goes, too.
func (d vethDescriptor) remove(links [2]linux.Link) error {
	var errs []error
	for _, l := range links {
		if l.Index != 0 {
			errs = append(errs, d.ns.DeleteLink(l))
		}
	}
	return errors.Join(errs...)
}

// ends are the ends as they were seen last or, if nothing was, as they are found by name.
func (d vethDescriptor) ends(key string, spec Veth) (links [2]linux.Link) {
	if p, ok := d.pairs.get(key); ok {
		return p.links
	}
	tags := tagsOf(key)
	for i, e := range spec.Ends {
		ns, err := d.ns.Open(e.NetNS)
		if err != nil {
			continue // it is gone, and so is what was in it
		}
		_, err = ns.NSID()
		l, err2 := ns.LinkByName(e.Name)
		if err == nil && err2 == nil && belongs(l, tags[i], e.MAC) {
			links[i] = l
		}
		if err := ns.Close(); err != nil {
			d.log.Warn("close a network namespace", "key", key, "err", err)
		}
	}
	return links
}

// abandon deletes a pair that is not where it is wanted any more, and the rules that this
// leaves in namespaces that live on, though no reference leads to them.
func (d vethDescriptor) abandon(links [2]linux.Link) error {
	alive := map[int]bool{}
	for _, l := range links {
		if now, err := d.ns.LinkAt(l.Place); err == nil && now.Ours {
			alive[l.NSID] = true
		}
	}
	if err := d.remove(links); err != nil || len(alive) == 0 {
		return err
	}
	refs, err := d.ns.Locate(alive)
	for _, ref := range refs {
		ns, e := d.ns.Open(ref)
		if errors.Is(e, linux.ErrNoNamespace) {
			continue
		}
		if e == nil {
			e = errors.Join(ns.DeleteStale(), ns.Close())
		}
		err = errors.Join(err, e)
	}
	return err
}

// Retrieve finds all pairs of ours, also halves and what was never finished.
func (d vethDescriptor) Retrieve(_ context.Context, want iter.Seq2[string, Veth]) ([]reconcile.Found[Veth], error) {
	look, wanted, err := lookFor(d.Mechanism, want)
	if err != nil {
		return nil, fmt.Errorf("find veth pairs: %w", err)
	}
	return d.pairsIn(look, wanted), nil
}
