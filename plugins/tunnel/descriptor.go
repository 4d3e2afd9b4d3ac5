package tunnel

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/reconcile"
	"go.patchbay.dev/vppapi"
)

// Interface is the spec of a tunnel's end in VPP. Values are compared with ==.
type Interface[T comparable] struct {
	Tag    string
	Tunnel T
	IP     bool    // the payload is IP
	MTU    int     // bytes; 0: VPP's own
	MAC    [6]byte // zero: VPP's own
	broken bool    // found: not as it should be in a way that Create mends
}

// descriptor makes tunnels in VPP.
type descriptor[T comparable] struct{ *Mechanism[T] }

// ErrTaken: VPP has a tunnel already from which it could not tell the one that is wanted.
var ErrTaken = errors.New("is taken")

func (d descriptor[T]) Dependencies(string, Interface[T]) []string { return nil }

// Equal compares by content.
func (d descriptor[T]) Equal(found, want Interface[T]) bool { return found == want }

func (d descriptor[T]) vpp() *vppapi.Client { return d.room.o.VPP }

// Create makes the tunnel, or finishes and mends the one that is there.
func (d descriptor[T]) Create(ctx context.Context, key string, spec Interface[T]) error {
	if err := d.create(ctx, key, spec); err != nil {
		return fmt.Errorf("%s tunnel: %w", d.Type(), err)
	}
	return nil
}

func (d descriptor[T]) create(ctx context.Context, key string, spec Interface[T]) error {
	if err := d.vpp().Up(); err != nil {
		return err
	}
	port, there := d.vpp().Tagged(spec.Tag)
	index, fresh := port.Index, false
	if !there {
		done, err := d.room.o.Budget()
		if err != nil {
			return err
		}
		defer done()
		if index, fresh, err = d.make(ctx, spec); err != nil {
			return err
		}
	}
	// What joins it sets it up.
	if err := d.vpp().Finish(ctx, index, vppapi.Setup{Tag: spec.Tag, MTU: spec.MTU, IP: spec.IP, MAC: spec.MAC, Down: fresh}); err != nil {
		return err
	}
	d.ports.Add(spec.Tag, key)
	return nil
}

// make creates the tunnel; it is not fresh if an attempt before has made it.
func (d descriptor[T]) make(ctx context.Context, spec Interface[T]) (index vppapi.Index, fresh bool, err error) {
	if err := d.room.onVPP(ctx, d.maker.Local(spec.Tunnel)); err != nil {
		return 0, false, err
	}
	noted, err := d.room.notes.write(spec.Tag, d.note(spec.Tunnel))
	if err != nil {
		return 0, false, err
	}
	if noted {
		if index, there, err := d.left(ctx, spec); there || err != nil {
			return index, false, err
		}
	}
	index, err = d.maker.Create(d.vpp(), ctx, spec.Tunnel)
	var refusal vppapi.Error
	switch {
	case err == nil:
		return index, true, nil
	case vppapi.Exists(err):
		err = d.taken(ctx, spec, err)
	}
	if errors.As(err, &refusal) {
		err = errors.Join(err, d.room.notes.remove(spec.Tag))
	}
	return 0, false, err
}

// left gives the tunnel that is noted and has no tag. One that was made only in part goes.
func (d descriptor[T]) left(ctx context.Context, spec Interface[T]) (index vppapi.Index, there bool, err error) {
	found, interfaces, err := d.list(ctx)
	for _, f := range found {
		if interfaces[f.Index].Tag != "" || d.note(f.Tunnel) != d.note(spec.Tunnel) {
			continue
		}
		if d.maker.Complete != nil {
			d.maker.Complete(&f.Tunnel, spec.Tunnel)
		}
		if f.Tunnel == spec.Tunnel {
			return f.Index, true, nil
		}
		err = errors.Join(err, d.maker.Delete(d.vpp(), ctx, f.Index, f.Tunnel))
	}
	return 0, false, err
}

// taken says whose tunnel is in the way.
func (d descriptor[T]) taken(ctx context.Context, spec Interface[T], why error) error {
	found, interfaces, err := d.list(ctx)
	if err != nil {
		return errors.Join(why, err)
	}
	notes := d.room.notes.all()
	for _, f := range found {
		if !d.maker.Collide(f.Tunnel, spec.Tunnel) {
			continue
		}
		tag := interfaces[f.Index].Tag
		if tag == "" {
			tag = notes[d.note(f.Tunnel)]
		}
		id, _, ours := models.ParseTag(tag)
		if ours = ours && tag != spec.Tag; ours && !models.ValidName(id) {
			return fmt.Errorf("%s %w by the mesh of a bridge; give one of the two another number: %w", d.maker.Show(spec.Tunnel), ErrTaken, why)
		}
		if ours {
			return fmt.Errorf("%s %w by connection %q: %w", d.maker.Show(spec.Tunnel), ErrTaken, id, why)
		}
		return fmt.Errorf("%s %w by an interface of VPP that is not the agent's, %s: %w", d.maker.Show(spec.Tunnel), ErrTaken, interfaces[f.Index].Name, why)
	}
	return why
}

// note is what is noted of a tunnel in the VPP that runs now.
func (d descriptor[T]) note(t T) string {
	return d.name + " " + d.maker.Show(t) + " " + d.vpp().Process()
}

// list gives all tunnels of the kind and all interfaces.
func (d descriptor[T]) list(ctx context.Context) ([]vppapi.Tunnel[T], map[vppapi.Index]vppapi.Interface, error) {
	all, err := d.vpp().Interfaces(ctx)
	if err != nil {
		return nil, nil, err
	}
	found, err := d.maker.List(d.vpp(), ctx)
	return found, all, err
}

// Update sets another MTU; a tunnel is not changed in place.
func (d descriptor[T]) Update(ctx context.Context, key string, old, new Interface[T]) error {
	mended := old
	mended.broken, mended.MTU = false, new.MTU
	if mended != new || new.MTU == 0 && old.MTU != 0 {
		return reconcile.ErrRecreate
	}
	return d.Create(ctx, key, new)
}

// Delete deletes the tunnel.
func (d descriptor[T]) Delete(ctx context.Context, _ string, spec Interface[T]) error {
	d.ports.Drop(spec.Tag)
	if err := d.remove(ctx, spec); err != nil && !d.vpp().Gone() {
		return fmt.Errorf("%s tunnel: %w", d.Type(), err)
	}
	return d.room.notes.remove(spec.Tag)
}

func (d descriptor[T]) remove(ctx context.Context, spec Interface[T]) error {
	if d.vpp().Gone() {
		return nil // and nothing of it
	}
	if port, ok := d.vpp().Tagged(spec.Tag); ok {
		return d.maker.Delete(d.vpp(), ctx, port.Index, spec.Tunnel)
	}
	if d.room.notes.read(spec.Tag) != d.note(spec.Tunnel) {
		return nil
	}
	found, interfaces, err := d.list(ctx)
	for _, f := range found {
		if interfaces[f.Index].Tag == "" && d.note(f.Tunnel) == d.note(spec.Tunnel) {
			return d.maker.Delete(d.vpp(), ctx, f.Index, f.Tunnel)
		}
	}
	return err
}

// Retrieve finds all tunnels of ours: by their tag or, if the agent died before it could set
// one, by what was noted of them.
func (d descriptor[T]) Retrieve(ctx context.Context, want iter.Seq2[string, Interface[T]]) ([]reconcile.Found[Interface[T]], error) {
	d.ports.Clear()
	if d.vpp().Gone() || d.vpp().Missing(d.maker.Plugin) != "" {
		return nil, nil
	}
	interfaces, err := d.vpp().Refresh(ctx)
	if err != nil {
		return nil, err
	}
	found, err := d.maker.List(d.vpp(), ctx)
	if err != nil {
		return nil, err
	}
	wanted := map[string]Interface[T]{}
	for _, spec := range want {
		wanted[spec.Tag] = spec
	}
	notes := d.room.notes.all()
	var all []reconcile.Found[Interface[T]]
	for _, f := range found {
		spec, ours := d.describe(f, interfaces[f.Index], notes)
		if !ours {
			continue
		}
		if w, isWanted := wanted[spec.Tag]; isWanted {
			d.complete(&spec, w)
		}
		id, side, _ := models.ParseTag(spec.Tag)
		if !spec.broken {
			d.ports.Add(spec.Tag, d.key(id, side))
		}
		delete(notes, d.note(f.Tunnel))
		all = append(all, reconcile.Found[Interface[T]]{Key: d.key(id, side), Spec: spec})
	}
	for what, tag := range notes { // of what nobody wants, and what is not there
		if _, isWanted := wanted[tag]; !isWanted && strings.HasPrefix(what, d.name+" ") {
			err = errors.Join(err, d.room.notes.remove(tag))
		}
	}
	return all, err
}

// describe tells what a tunnel is, if it is ours.
func (d descriptor[T]) describe(f vppapi.Tunnel[T], i vppapi.Interface, notes map[string]string) (Interface[T], bool) {
	spec := Interface[T]{Tag: i.Tag, Tunnel: f.Tunnel, MTU: i.MTU, MAC: i.MAC, broken: !i.AdminUp}
	if i.Tag == "" {
		spec.Tag, spec.broken = notes[d.note(f.Tunnel)], true
	}
	_, _, ours := models.ParseTag(spec.Tag)
	return spec, ours
}

// complete fills in what VPP does not tell, and what is VPP's own choice.
func (d descriptor[T]) complete(spec *Interface[T], want Interface[T]) {
	if want.MTU == 0 {
		spec.MTU = 0
	}
	if want.MAC == [6]byte{} {
		spec.MAC = want.MAC
	}
	spec.IP = want.IP
	if d.maker.Complete != nil {
		d.maker.Complete(&spec.Tunnel, want.Tunnel)
	}
}
