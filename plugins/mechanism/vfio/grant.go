package vfio

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/reconcile"
	"go.patchbay.dev/plugins/sriov"
)

// Grant is the spec of the right of a workload's control group to open its device. Values are compared
// with ==.
type Grant struct {
	PCI    string
	Cgroup string // path or pattern; empty: nothing is granted, the workload may do so by itself
	broken bool   // found, and not whole
}

// Granted is the note of what was granted, and so is to be revoked. It is there before that.
type Granted struct {
	Tag    string
	Grant  Grant
	Groups []string          // folders
	Rules  map[string][]rule // by folder: what it could not open before
}

func grantKey(tag linux.Tag) string { return KindGrant + "/" + tag.ID + "/" + string(tag.Side) }

func tagOf(key string) linux.Tag {
	id, side, _ := strings.Cut(strings.TrimPrefix(key, KindGrant+"/"), "/")
	return linux.Tag{ID: id, Side: linux.Side(side)}
}

// noteOf is the name of an end's note. Ids have no @.
func noteOf(key string) string { t := tagOf(key); return t.ID + "@" + string(t.Side) }

// device is a character device by its numbers.
type device struct{ major, minor uint32 }

// devices are those that a workload needs for a function.
type devices struct {
	group        int // IOMMU
	vfio, device device
}

// devices looks for the files of a function.
func (m *Mechanism) devices(pci string) (d devices, err error) {
	if d.group = m.o.VFs.Group(pci); d.group < 0 {
		return d, fmt.Errorf("%s has no IOMMU group", pci)
	}
	var err1, err2 error
	d.vfio, err1 = deviceAt(filepath.Join(m.o.Dev, "vfio"))
	d.device, err2 = deviceAt(filepath.Join(m.o.Dev, strconv.Itoa(d.group)))
	return d, errors.Join(err1, err2)
}

func deviceAt(file string) (d device, err error) {
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil {
		return d, fmt.Errorf("device %s: %w; load the module vfio-pci, and give the agent the machine's /dev", file, err)
	}
	return device{unix.Major(st.Rdev), unix.Minor(st.Rdev)}, nil
}

type descriptor struct{ *Mechanism }

// Dependencies: the function that is ready.
func (d descriptor) Dependencies(_ string, spec Grant) []string {
	return []string{sriov.VFKey(spec.PCI)}
}

// Equal compares by content.
func (d descriptor) Equal(found, want Grant) bool { return found == want }

// Create lets the workload open the device, or finishes what is there of that.
func (d descriptor) Create(_ context.Context, key string, spec Grant) error {
	if err := d.grant(key, spec); err != nil {
		return fmt.Errorf("access to %s: %w", spec.PCI, err)
	}
	return nil
}

func (d descriptor) grant(key string, spec Grant) error {
	if _, err := d.o.VFs.Home(spec.PCI, tagOf(key)); err != nil { // is it this one's?
		return err
	}
	dev, err := d.devices(spec.PCI)
	if err != nil {
		return err
	}
	note := Granted{Tag: key, Grant: spec, Rules: map[string][]rule{}}
	if old, ok, _ := d.notes.Get(noteOf(key)); ok {
		note.Rules = old.Rules
	}
	if spec.Cgroup != "" {
		if note.Groups, err = d.cgroups.folders(spec.Cgroup); err != nil {
			return err
		}
	}
	for _, dir := range note.Groups {
		if note.Rules[dir] == nil {
			note.Rules[dir] = d.cgroups.lacks(dir, rulesOf(dev))
		}
	}
	if err := d.notes.Put(noteOf(key), note); err != nil {
		return err
	}
	for _, dir := range note.Groups {
		if err := d.cgroups.allow(dir, key, note.Rules[dir]); err != nil {
			return err
		}
	}
	d.tell(key, &dev)
	return nil
}

// rulesOf are what a workload must be able to open.
func rulesOf(d devices) []rule { return []rule{rule(d.vfio), rule(d.device)} }

// Update: of a grant nothing changes in place.
func (d descriptor) Update(ctx context.Context, key string, old, new Grant) error {
	same := old
	if same.broken = false; same != new {
		return reconcile.ErrRecreate
	}
	return d.Create(ctx, key, new)
}

// Delete revokes what was granted. A program that has the device open keeps it until it ends; the function
// is not given to anybody else before that.
func (d descriptor) Delete(_ context.Context, key string, spec Grant) error {
	d.tell(key, nil)
	note, ok, err := d.notes.Get(noteOf(key))
	if ok {
		err = d.revoke(key, note)
	}
	if err != nil {
		return fmt.Errorf("access to %s: %w", spec.PCI, err)
	}
	return nil
}

func (d descriptor) revoke(key string, note Granted) error {
	var errs []error
	for _, dir := range note.Groups {
		rules, err := d.kept(key, dir, note.Rules[dir])
		errs = append(errs, err, d.cgroups.deny(dir, key, rules))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return d.notes.Remove(noteOf(key))
}

// kept are the rules of a grant that no other grant to the same group still needs.
func (d descriptor) kept(key, dir string, rules []rule) (mine []rule, err error) {
	names, err := d.notes.All()
	others := map[rule]bool{}
	for _, name := range names {
		if note, ok, e := d.notes.Get(name); ok && e == nil && name != noteOf(key) {
			for _, r := range note.Rules[dir] {
				others[r] = true
			}
		}
	}
	for _, r := range rules {
		if !others[r] {
			mine = append(mine, r)
		}
	}
	return mine, err
}

// Retrieve finds what was granted, by the notes of it.
func (d descriptor) Retrieve(context.Context, iter.Seq2[string, Grant]) ([]reconcile.Found[Grant], error) {
	names, err := d.notes.All()
	if err != nil {
		return nil, fmt.Errorf("find what was granted: %w", err)
	}
	var all []reconcile.Found[Grant]
	for _, name := range names {
		note, ok, err := d.notes.Get(name)
		if err != nil || !ok {
			d.log.Warn("a note about a device cannot be read", "key", name, "err", err)
			continue
		}
		spec, key := note.Grant, note.Tag
		dev, err := d.devices(spec.PCI)
		spec.broken = err != nil
		for _, dir := range note.Groups {
			spec.broken = spec.broken || !d.cgroups.allows(dir, key, note.Rules[dir])
		}
		if !spec.broken {
			d.tell(key, &dev)
		}
		all = append(all, reconcile.Found[Grant]{Key: key, Spec: spec})
	}
	return all, nil
}
