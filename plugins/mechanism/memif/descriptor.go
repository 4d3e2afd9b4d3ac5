package memif

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/reconcile"
	"go.patchbay.dev/vppapi"
)

// descriptor makes memif interfaces.
type descriptor struct{ *Mechanism }

// Dependencies: an abstract socket lives in a namespace.
func (d descriptor) Dependencies(_ string, spec Memif) []string {
	if spec.NetNS != "" {
		return []string{kindNetNS + "/" + spec.NetNS}
	}
	return nil
}

// Equal compares by content.
func (d descriptor) Equal(found, want Memif) bool { return found == want }

// Create makes the interface, or finishes and mends the one that is there.
func (d descriptor) Create(ctx context.Context, key string, spec Memif) error {
	if err := d.create(ctx, key, spec); err != nil {
		return fmt.Errorf("memif interface: %w", err)
	}
	return nil
}

func (d descriptor) create(ctx context.Context, key string, spec Memif) error {
	if err := d.vpp().Up(); err != nil {
		return err
	}
	if err := d.names.claim(spec); err != nil {
		return err
	}
	setup := vppapi.Setup{Tag: spec.Tag, MTU: spec.MTU, IP: spec.IP}
	index, there, err := d.have(ctx, spec)
	if err == nil && !there {
		err = d.make(ctx, spec, setup)
	} else if err == nil {
		if err = d.dress(spec); err == nil {
			err = d.vpp().Finish(ctx, index, setup)
		}
	}
	if err != nil {
		d.doubts.Store(spec.Tag, true)
		return err
	}
	d.ports.Add(spec.Tag, key)
	return nil
}

// have finds the interface by its tag or, where it may have been made and not finished, by
// its socket. One whose socket was removed by somebody goes: nobody could ever connect.
func (d descriptor) have(ctx context.Context, spec Memif) (index vppapi.Index, there bool, err error) {
	port, there := d.vpp().Tagged(spec.Tag)
	index = port.Index
	if _, doubt := d.doubts.LoadAndDelete(spec.Tag); !there && doubt {
		f, ok, err := d.find(ctx, spec)
		if err == nil && !ok {
			err = d.remove(ctx, spec) // of what was half made
		}
		if err != nil {
			return 0, false, err
		}
		index, there = f.Index, ok
	}
	if there && spec.NetNS == "" {
		if _, err := os.Lstat(spec.File); errors.Is(err, fs.ErrNotExist) {
			return 0, false, d.remove(ctx, spec)
		}
	}
	return index, there, nil
}

func (d descriptor) vpp() *vppapi.Client { return d.o.VPP }

// make creates the interface on a socket of its own; it is finished when it is joined, and
// until then it can be told by its socket.
func (d descriptor) make(ctx context.Context, spec Memif, setup vppapi.Setup) error {
	done, err := d.o.Room()
	if err != nil {
		return err
	}
	defer done()
	d.makeRoom(ctx, d.ports.Len()+1)
	if err := d.prepare(spec); err != nil {
		return err
	}
	config := vppapi.Memif{Socket: spec.File, IP: spec.IP, Secret: spec.Secret, MAC: spec.MAC}
	if spec.NetNS != "" {
		ns, err := d.o.Namespaces.File(spec.NetNS)
		if err != nil {
			return err
		}
		defer ns.Close() // VPP has entered it by then
		config.Socket = vppapi.AbstractSocket(abstractName(spec.Tag), fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.Fd()))
	}
	defer d.made()
	for {
		number := d.numbers.take()
		index, err := d.vpp().CreateMemif(ctx, number, config)
		if vppapi.SocketNumberTaken(err) {
			continue // by somebody else; the number stays noted
		}
		if err != nil {
			d.numbers.release(number)
			return err
		}
		if err = d.dress(spec); err == nil {
			d.vpp().Later(index, vppapi.MemifName(number), setup)
		}
		return err
	}
}

// find looks for the interface on the socket, which was made and perhaps not tagged.
func (d descriptor) find(ctx context.Context, spec Memif) (f vppapi.MemifFound, ok bool, err error) {
	all, sockets, err := d.vpp().Memifs(ctx)
	if err != nil {
		return f, false, err
	}
	for _, f := range all {
		if f.Server && isSocketOf(f.Socket, spec) {
			return f, true, nil
		}
	}
	for number, socket := range sockets {
		if isSocketOf(socket, spec) {
			return vppapi.MemifFound{Number: number}, false, nil
		}
	}
	return f, false, nil
}

// isSocketOf compares VPP's name of a socket with a spec. The end of a long one is cut off.
func isSocketOf(socket string, spec Memif) bool {
	if spec.NetNS != "" {
		return strings.HasPrefix(socket, "abstract:"+abstractName(spec.Tag)+",")
	}
	return socket == spec.File
}

// Update has nothing that can be changed in place but what Create mends.
func (d descriptor) Update(ctx context.Context, key string, old, new Memif) error {
	mended := old
	mended.broken, mended.UID, mended.GID, mended.Mode, mended.MTU, mended.Name = false, new.UID, new.GID, new.Mode, new.MTU, new.Name
	if mended != new || new.MTU == 0 && old.MTU != 0 {
		return reconcile.ErrRecreate
	}
	if old.Name != new.Name {
		if err := d.undress(old); err != nil {
			return err
		}
		d.names.release(old)
	}
	return d.Create(ctx, key, new)
}

// Delete deletes the interface, its socket and, with the last, the directory.
func (d descriptor) Delete(ctx context.Context, _ string, spec Memif) error {
	d.ports.Drop(spec.Tag)
	if err := d.remove(ctx, spec); err != nil && !d.vpp().Gone() {
		return fmt.Errorf("memif interface: %w", err)
	}
	if err := d.clean(spec); err != nil {
		return err
	}
	d.names.release(spec)
	return nil
}

func (d descriptor) remove(ctx context.Context, spec Memif) error {
	if d.vpp().Gone() {
		return nil // and nothing of it; or it is looked at when it is back
	}
	if port, ok := d.vpp().Tagged(spec.Tag); ok {
		if number, ok := vppapi.SocketNumber(port.Name); ok {
			err := d.vpp().DeleteMemif(ctx, port.Index, number)
			if err == nil {
				d.numbers.release(number)
			}
			return err
		}
	}
	f, ok, err := d.find(ctx, spec)
	switch {
	case err != nil:
	case ok:
		err = d.vpp().DeleteMemif(ctx, f.Index, f.Number)
	case f.Number != 0:
		err = d.vpp().DeleteMemifSocket(ctx, f.Number)
	}
	if err == nil && f.Number != 0 {
		d.numbers.release(f.Number)
	}
	return err
}

// Retrieve finds all interfaces of ours: by their tag or, if the agent died before it
// could set one, by their socket.
func (d descriptor) Retrieve(ctx context.Context, want iter.Seq2[string, Memif]) ([]reconcile.Found[Memif], error) {
	wants := newWants(want)
	for _, w := range wants.byTag {
		if d.named(w.spec) {
			d.names.learn(w.spec) // before anybody else can claim it
		}
	}
	if d.vpp().Gone() || d.vpp().Missing(vppapi.MemifPlugin) != "" {
		d.ports.Clear()
		return d.leftovers(nil, nil, wants), nil
	}
	interfaces, err := d.vpp().Refresh(ctx)
	if err != nil {
		return nil, err
	}
	memifs, sockets, err := d.vpp().Memifs(ctx)
	if err != nil {
		return nil, err
	}
	if memifs, err = d.dropReserve(ctx, memifs, sockets); err != nil {
		return nil, err
	}
	d.numbers.learn(sockets)
	d.learnReserve(ctx, len(memifs), len(wants.byTag))
	var all []reconcile.Found[Memif]
	d.ports.Clear()
	for _, f := range memifs {
		i := interfaces[f.Index]
		if found, ok := d.describe(f, i, wants); ok && f.Server {
			all = append(all, found)
			if !found.Spec.broken {
				d.ports.Add(found.Spec.Tag, found.Key)
			}
		}
	}
	return append(all, d.leftovers(all, sockets, wants)...), nil
}

// describe tells what an interface is, if it is ours.
func (d descriptor) describe(f vppapi.MemifFound, i vppapi.Interface, wants wants) (found reconcile.Found[Memif], ok bool) {
	id, side, tagged := models.ParseTag(i.Tag)
	w, isWanted := wants.byTag[i.Tag]
	if !tagged {
		if i.Tag != "" {
			return found, false // somebody else's
		}
		if w, isWanted = wants.byFile[f.Socket]; isWanted { // its directory need not be named by its id
			id, side, _ = models.ParseTag(w.spec.Tag)
		} else if id, side, ok = d.ofSocket(f.Socket); !ok {
			return found, false
		}
		w, isWanted = wants.byTag[models.Tag(id, side)]
	}
	spec := Memif{
		Tag: models.Tag(id, side), Dir: filepath.Dir(f.Socket), File: f.Socket, IP: f.IP, MTU: i.MTU, MAC: f.MAC,
		broken: !tagged || !i.AdminUp,
	}
	if f.IP {
		spec.MAC = [6]byte{}
	}
	if isWanted {
		d.complete(&spec, w.spec, f.Socket)
		if !tagged {
			d.doubts.Store(spec.Tag, true)
		}
	}
	return reconcile.Found[Memif]{Key: keyOf(id, side), Spec: spec}, true
}

// complete fills in what VPP does not tell: what is seen in the file system, and what
// cannot be seen and would not differ.
func (d descriptor) complete(spec *Memif, want Memif, socket string) {
	if want.MTU == 0 {
		spec.MTU = 0
	}
	if want.NetNS != "" && isSocketOf(socket, want) {
		spec.Dir, spec.File, spec.NetNS = want.Dir, want.File, want.NetNS
		spec.UID, spec.GID, spec.Mode = want.UID, want.GID, want.Mode
	}
	if readNote(*spec) == note(want) {
		spec.Secret, spec.NetNS = want.Secret, want.NetNS
	} else {
		spec.Secret = "(another)"
	}
	if want.NetNS == "" {
		spec.UID, spec.GID, spec.Mode = ownerOf(socket)
	}
	if d.named(want) {
		spec.Name = want.Name
	}
}

// ofSocket tells whose socket a path is that the agent has made.
func (d descriptor) ofSocket(socket string) (id string, side models.Side, ok bool) {
	rest, ours := strings.CutPrefix(socket, "abstract:")
	if ours {
		rest, _, _ = strings.Cut(rest, ",")
		return models.ParseTag(strings.ReplaceAll(rest, "/", ":"))
	}
	dir, file := filepath.Split(socket)
	id = filepath.Base(dir)
	if filepath.Dir(filepath.Clean(dir)) != filepath.Clean(d.o.RunDir) || !models.ValidName(id) {
		return "", "", false
	}
	for _, side := range []models.Side{models.ClientSide, models.EndpointSide} {
		if file == fileOf(side) {
			return id, side, true
		}
	}
	return "", "", false
}
