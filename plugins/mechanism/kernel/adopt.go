package kernel

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"go.patchbay.dev/plugins/linux"
)

// ErrTaken: the name asked for belongs to another interface.
var ErrTaken = errors.New("interface name is taken")

// errNoPair: what is there cannot be made the pair that is wanted.
var errNoPair = errors.New("there is no such pair")

// belongs tells whether an interface is that end: by its tag or, if the agent died
// before it could set one, by its address.
func belongs(l linux.Link, tag linux.Tag, mac linux.MAC) bool {
	return l.Ours && (l.Alias == tag.String() || (l.Alias == "" && l.MAC == mac))
}

// joined tells whether two interfaces are the ends of one pair.
func joined(a, b linux.Link) bool {
	return a.Peer.Index == b.Index && b.Peer.Index == a.Index &&
		(!a.PeerKnown || a.Peer == b.Place) && (!b.PeerKnown || b.Peer == a.Place)
}

// adopt makes the pair that is wanted of what has the names asked for. Ends of ours that
// are not joined are deleted, and the error is errNoPair.
func (d vethDescriptor) adopt(tags [2]linux.Tag, spec Veth, ns opened) (links [2]linux.Link, err error) {
	var there [2]bool
	for i, e := range spec.Ends {
		links[i], err = ns[i].LinkByName(e.Name)
		if errors.Is(err, linux.ErrNoLink) {
			continue
		}
		if err == nil && !belongs(links[i], tags[i], e.MAC) {
			err = taken(e, links[i])
		}
		if err != nil {
			return links, err
		}
		there[i] = true
	}
	if there[0] && there[1] && joined(links[0], links[1]) {
		return d.mend(tags, spec, ns, links)
	}
	for i := range links {
		if there[i] {
			if err := d.ns.DeleteLink(links[i]); err != nil {
				return links, err
			}
		}
	}
	return links, errNoPair
}

// taken says by whom a name is taken.
func taken(e End, l linux.Link) error {
	by, remedy := "an interface that is not Patchbay's", "ask for another name or remove that interface"
	if tag, ok := linux.ParseTag(l.Alias); ok && l.Ours {
		tag, _ = tag.Workload()
		by, remedy = fmt.Sprintf("the %s of connection %q", tag.Side, tag.ID), "ask for another name"
	} else if l.Ours {
		by, remedy = "an unfinished interface of Patchbay", "it goes away by itself"
	}
	return fmt.Errorf("%w: %q in network namespace %q, by %s; %s", ErrTaken, e.Name, e.NetNS, by, remedy)
}

// mend changes what differs from what is wanted at a pair that was seen, with no call
// where nothing does. The error wraps errNoPair if it is not there any more, or cannot
// be changed while it is in use.
func (d vethDescriptor) mend(tags [2]linux.Tag, spec Veth, ns opened, seen [2]linux.Link) (links [2]linux.Link, err error) {
	for i, e := range spec.Ends {
		nsid, err := ns[i].NSID()
		if err != nil {
			return links, err
		}
		links[i], err = ns[i].LinkByIndex(seen[i].Index)
		if errors.Is(err, linux.ErrNoLink) || (err == nil && (nsid != seen[i].NSID || !belongs(links[i], tags[i], e.MAC))) {
			err = errNoPair
		}
		if err != nil {
			return links, err
		}
	}
	if !joined(links[0], links[1]) {
		return links, errNoPair
	}
	for i, e := range spec.Ends {
		ch := difference(links[i], e, tags[i], spec.MTU)
		if ch == (linux.Change{}) {
			continue
		}
		now, err := ns[i].SetLink(links[i].Index, ch)
		if err != nil {
			return links, explain(e, ns[i], err)
		}
		links[i] = now
	}
	links[0].Running = links[1].Running // the ends of a pair are connected both or none
	return links, nil
}

// difference is the change from how an interface is to how it should be.
func difference(l linux.Link, e End, tag linux.Tag, mtu int) (ch linux.Change) {
	if l.Name != e.Name {
		ch.Name = e.Name
	}
	if l.MAC != e.MAC {
		ch.MAC = e.MAC
	}
	if l.MTU != mtu {
		ch.MTU = mtu
	}
	if l.Alias != tag.String() {
		ch.Alias = tag.String()
	}
	if _, port := tag.Workload(); !port { // VPP sets its own end up and down
		ch.Up = !l.Up
	}
	return ch
}

// explain says by whom a name is taken that an interface was to be given, and makes
// errNoPair of a kernel's refusal to rename what is up.
func explain(e End, ns *linux.Namespace, err error) error {
	switch {
	case errors.Is(err, unix.EBUSY):
		return errNoPair
	case errors.Is(err, unix.EEXIST):
		if l, e2 := ns.LinkByName(e.Name); e2 == nil {
			return taken(e, l)
		}
	}
	return err
}
