package vf

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"go.patchbay.dev/plugins/reconcile"
	"go.patchbay.dev/plugins/sriov"
	"go.patchbay.dev/vppapi"
)

// Port is the spec of a function as a port of VPP. Values are compared with ==.
type Port struct {
	Tag    string
	PCI    string
	Native bool // VPP drives it; else the kernel does
	MTU    int  // bytes
	broken bool // found: not tagged, or not up
}

// made is the note of what VPP has: it lists no devices. It is there from before VPP is asked, and whole once it has answered.
type made struct {
	Key     string
	Spec    Port
	Process string // VPP's, for what it means
	Device  vppapi.Device
	Whole   bool
	Name    string // of the kernel's interface, where that is used
}

// hostPrefix begins VPP's names of the kernel's interfaces.
const hostPrefix = "host-"

// frameOverhead is what a frame has beside its payload: header and a VLAN tag, bytes.
const frameOverhead = 18

type descriptor struct{ *Mechanism }

func noteOf(key string) string { t := tagOf(key); return t.ID + "@" + string(t.Side) }

// Dependencies: the function that is ready.
func (d descriptor) Dependencies(_ string, spec Port) []string {
	return []string{sriov.VFKey(spec.PCI)}
}

// Equal compares by content.
func (d descriptor) Equal(found, want Port) bool { return found == want }

// Create gives VPP the function.
func (d descriptor) Create(ctx context.Context, key string, spec Port) error {
	if err := d.create(ctx, key, spec); err != nil {
		return fmt.Errorf("port of VPP: %w", err)
	}
	return nil
}

func (d descriptor) create(ctx context.Context, key string, spec Port) error {
	if _, err := d.o.VFs.Home(spec.PCI, tagOf(key)); err != nil { // is it this one's?
		return err
	}
	if port, there := d.o.VPP.Tagged(spec.Tag); there {
		return d.finish(ctx, key, spec, port.Index)
	}
	if err := d.remove(ctx, key); err != nil { // what was made by half
		return err
	}
	done, err := d.o.Room()
	if err != nil {
		return err
	}
	defer done()
	note := made{Key: key, Spec: spec, Process: d.o.VPP.Process()}
	if spec.Native {
		return d.attach(ctx, key, spec, note)
	}
	return d.listen(ctx, key, spec, note)
}

// attach has VPP drive the function.
func (d descriptor) attach(ctx context.Context, key string, spec Port, note made) (err error) {
	if err = d.notes.Put(noteOf(key), note); err != nil {
		return err
	}
	note.Device, err = d.o.VPP.AttachDevice(ctx, spec.PCI)
	if errors.Is(err, vppapi.ErrNoDriver) {
		err = fmt.Errorf("%w %s; set the parameter %s to %s, or load VPP's plugin for the card", err, spec.PCI, Driver, AFPacket)
	}
	if err == nil {
		note.Whole = true
		err = d.notes.Put(noteOf(key), note)
	}
	if err != nil {
		return err
	}
	index, err := d.o.VPP.CreateDevicePort(ctx, note.Device, "vf"+strings.NewReplacer(":", "-", ".", "-").Replace(spec.PCI))
	if err != nil {
		return err
	}
	return d.finish(ctx, key, spec, index)
}

// listen has VPP send and receive on the function's interface.
func (d descriptor) listen(ctx context.Context, key string, spec Port, note made) error {
	if note.Name = d.o.VFs.Netdev(spec.PCI); note.Name == "" {
		return fmt.Errorf("%s has no interface here", spec.PCI)
	}
	note.Whole = true
	if err := d.notes.Put(noteOf(key), note); err != nil {
		return err
	}
	if err := d.o.Kernel.Raise(note.Name, spec.MTU); err != nil {
		return err
	}
	index, err := d.o.VPP.CreateHostIf(ctx, vppapi.HostIf{Name: note.Name, Frame: spec.MTU + frameOverhead})
	if err != nil && !vppapi.Exists(err) {
		return err
	}
	return d.finish(ctx, key, spec, index)
}

// finish sets what can be set at any time. An af_packet interface polls: many that wait for packets stop VPP 25.10.
func (d descriptor) finish(ctx context.Context, key string, spec Port, index vppapi.Index) error {
	mode := d.o.RxMode
	if !spec.Native {
		mode = vppapi.Polling
	}
	err := d.o.VPP.Finish(ctx, index, vppapi.Setup{Tag: spec.Tag, MTU: spec.MTU, RxMode: mode})
	if err == nil {
		d.ports.Add(spec.Tag, key)
	}
	return err
}

// Update mends in place what it can.
func (d descriptor) Update(ctx context.Context, key string, old, new Port) error {
	same := old
	if same.broken = false; same != new {
		return reconcile.ErrRecreate
	}
	return d.Create(ctx, key, new)
}

// Delete takes the function from VPP; how it was before, plugins/sriov knows.
func (d descriptor) Delete(ctx context.Context, key string, spec Port) error {
	d.ports.Drop(spec.Tag)
	if err := d.remove(ctx, key); err != nil {
		return fmt.Errorf("port of VPP: %w", err)
	}
	return nil
}

func (d descriptor) remove(ctx context.Context, key string) error {
	note, ok, err := d.notes.Get(noteOf(key))
	if !ok || err != nil {
		return err
	}
	if !d.o.VPP.Gone() && note.Process == d.o.VPP.Process() { // else it is gone with VPP
		port, _ := d.o.VPP.Tagged(note.Spec.Tag)
		switch {
		case note.Name != "":
			err = d.o.VPP.DeleteHostIf(ctx, port.Index, note.Name)
		case note.Whole:
			err = d.o.VPP.DetachDevice(ctx, note.Device, port.Index)
		default:
			err = d.forgotten(ctx, note)
		}
	}
	if err != nil {
		return err
	}
	return d.notes.Remove(noteOf(key))
}

// forgotten is for a device that VPP was asked to attach by an agent that did not live to hear the answer: only a
// VPP that does not have it says so.
func (d descriptor) forgotten(ctx context.Context, note made) error {
	device, err := d.o.VPP.AttachDevice(ctx, note.Spec.PCI)
	switch {
	case errors.Is(err, vppapi.ErrDeviceInUse):
		return fmt.Errorf("VPP has %s, by a number that was not heard; detach it: vppctl device detach pci/%[1]s", note.Spec.PCI)
	case err == nil:
		return d.o.VPP.DetachDevice(ctx, device, vppapi.All)
	}
	return nil
}

// Retrieve finds the ports by the notes of them, and in VPP by their tags.
func (d descriptor) Retrieve(ctx context.Context, _ iter.Seq2[string, Port]) ([]reconcile.Found[Port], error) {
	d.ports.Clear()
	names, err := d.notes.All()
	if err != nil || d.o.VPP.Gone() {
		return nil, err
	}
	if _, err := d.o.VPP.Refresh(ctx); err != nil {
		return nil, err
	}
	var all []reconcile.Found[Port]
	for _, name := range names {
		note, ok, err := d.notes.Get(name)
		if err != nil || !ok || note.Process != d.o.VPP.Process() {
			continue
		}
		port, there := d.o.VPP.Tagged(note.Spec.Tag)
		note.Spec.broken = !there || !port.AdminUp || port.MTU != note.Spec.MTU
		if !note.Spec.broken {
			d.ports.Add(note.Spec.Tag, note.Key)
		}
		all = append(all, reconcile.Found[Port]{Key: note.Key, Spec: note.Spec})
	}
	return all, nil
}
