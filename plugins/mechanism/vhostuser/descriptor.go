package vhostuser

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/reconcile"
	"go.patchbay.dev/vppapi"
)

// descriptor makes vhost-user interfaces.
type descriptor struct{ *Mechanism }

func (d descriptor) Dependencies(string, VhostUser) []string { return nil }

// Equal compares by content.
func (d descriptor) Equal(found, want VhostUser) bool { return found == want }

// Create makes the interface, or finishes and mends the one that is there. VPP gives it
// its tag in the same call, so that none is ever without.
func (d descriptor) Create(ctx context.Context, key string, spec VhostUser) error {
	if err := d.create(ctx, key, spec); err != nil {
		return fmt.Errorf("vhost-user interface: %w", err)
	}
	return nil
}

func (d descriptor) create(ctx context.Context, key string, spec VhostUser) error {
	port, there := d.o.VPP.Tagged(spec.Tag)
	index := port.Index
	if _, err := os.Lstat(spec.File); there && !spec.Client && errors.Is(err, fs.ErrNotExist) {
		// Somebody has removed the socket: nobody could ever connect.
		if err := d.o.VPP.DeleteVhostUser(ctx, index); err != nil {
			return err
		}
		there = false
	}
	if !there {
		if err := d.o.VPP.Up(); err != nil {
			return err
		}
		done, err := d.o.Room(d.ports.Len)
		if err != nil {
			return err
		}
		defer done()
		if index, err = d.make(ctx, spec); err != nil {
			return err
		}
	}
	if !spec.Client {
		if err := errors.Join(os.Chmod(spec.File, spec.Mode), os.Chown(spec.File, spec.UID, spec.GID)); err != nil {
			return err
		}
	}
	err := d.o.VPP.Finish(ctx, index, vppapi.Setup{Tag: spec.Tag, MTU: spec.MTU, IP: spec.IP, Down: !there})
	if err == nil {
		d.ports.Add(spec.Tag, key)
	}
	return err
}

// make creates the interface. VPP unlinks whatever is where it is to listen, so only the
// agent and VPP may write there; where the workload listens, the directory is its own.
func (d descriptor) make(ctx context.Context, spec VhostUser) (vppapi.Index, error) {
	dir := filepath.Dir(spec.File)
	if err := errors.Join(os.MkdirAll(d.o.RunDir, 0o755), mkdir(filepath.Dir(dir)), mkdir(dir)); err != nil {
		return 0, err
	}
	if spec.Client {
		if err := errors.Join(os.Chmod(dir, 0o700), os.Chown(dir, spec.UID, spec.GID)); err != nil {
			return 0, err
		}
	} else if err := os.Remove(spec.File); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	config := vppapi.VhostUser{Socket: spec.File, Server: !spec.Client, MAC: spec.MAC}
	index, err := d.o.VPP.CreateVhostUser(ctx, config, spec.Tag)
	if !vppapi.Exists(err) {
		return index, err
	}
	// An attempt before this has made it, and its socket was cleared away just now.
	all, err := d.o.VPP.VhostUsers(ctx)
	for _, f := range all {
		if f.Socket == spec.File {
			if err := d.o.VPP.DeleteVhostUser(ctx, f.Index); err != nil {
				return 0, err
			}
			return d.o.VPP.CreateVhostUser(ctx, config, spec.Tag)
		}
	}
	return 0, errors.Join(fmt.Errorf("VPP has another interface on %s", spec.File), err)
}

func mkdir(path string) error {
	if err := os.Mkdir(path, 0o711); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// Update changes in place what Create mends.
func (d descriptor) Update(ctx context.Context, key string, old, new VhostUser) error {
	mended := old
	mended.broken, mended.UID, mended.GID, mended.Mode, mended.MTU = false, new.UID, new.GID, new.Mode, new.MTU
	if mended != new || new.MTU == 0 && old.MTU != 0 {
		return reconcile.ErrRecreate
	}
	return d.Create(ctx, key, new)
}

// Delete deletes the interface and its directory.
func (d descriptor) Delete(ctx context.Context, _ string, spec VhostUser) error {
	d.ports.Drop(spec.Tag)
	if port, ok := d.o.VPP.Tagged(spec.Tag); ok && !d.o.VPP.Gone() {
		if err := d.o.VPP.DeleteVhostUser(ctx, port.Index); err != nil && !d.o.VPP.Gone() {
			return fmt.Errorf("vhost-user interface: %w", err)
		}
	}
	if !strings.HasPrefix(spec.File, d.o.RunDir+"/") {
		return nil
	}
	dir := filepath.Dir(spec.File)
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("vhost-user socket: %w", err)
	}
	if err := os.Remove(filepath.Dir(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) {
		return fmt.Errorf("vhost-user socket: %w", err)
	}
	return nil
}

// Retrieve finds all interfaces of ours, by their tags.
func (d descriptor) Retrieve(ctx context.Context, want iter.Seq2[string, VhostUser]) ([]reconcile.Found[VhostUser], error) {
	wanted, files := map[string]VhostUser{}, map[string]bool{}
	for _, spec := range want {
		wanted[spec.Tag], files[spec.File] = spec, true
	}
	if d.o.VPP.Gone() || d.o.VPP.Missing(vppapi.VhostPlugin) != "" {
		d.ports.Clear()
		return d.leftovers(files), nil
	}
	interfaces, err := d.o.VPP.Refresh(ctx)
	if err != nil {
		return nil, err
	}
	ports, err := d.o.VPP.VhostUsers(ctx)
	if err != nil {
		return nil, err
	}
	var all []reconcile.Found[VhostUser]
	d.ports.Clear()
	for _, f := range ports {
		i := interfaces[f.Index]
		id, side, ok := models.ParseTag(i.Tag)
		if !ok {
			continue
		}
		spec := VhostUser{Tag: i.Tag, File: f.Socket, Client: !f.Server, MAC: i.MAC, MTU: i.MTU, broken: !i.AdminUp}
		if w, ok := wanted[i.Tag]; ok {
			complete(&spec, w)
		}
		if !spec.broken {
			d.ports.Add(i.Tag, keyOf(id, side))
		}
		files[spec.File] = true
		all = append(all, reconcile.Found[VhostUser]{Key: keyOf(id, side), Spec: spec})
	}
	return append(all, d.leftovers(files)...), nil
}

// leftovers are the directories of sockets that nobody wants and that VPP does not have:
// it went in the middle of deleting one. known are files that are not.
func (m *Mechanism) leftovers(known map[string]bool) (all []reconcile.Found[VhostUser]) {
	for _, side := range []models.Side{models.ClientSide, models.EndpointSide} {
		dirs, err := filepath.Glob(filepath.Join(m.o.RunDir, "*", dirName(side)))
		if err != nil {
			return nil // the pattern's fault
		}
		for _, dir := range dirs {
			id, file := filepath.Base(filepath.Dir(dir)), filepath.Join(dir, socketName)
			if !known[file] && models.ValidName(id) {
				spec := VhostUser{Tag: models.Tag(id, side), File: file, broken: true}
				all = append(all, reconcile.Found[VhostUser]{Key: keyOf(id, side), Spec: spec})
			}
		}
	}
	return all
}

// complete fills in what VPP does not tell.
func complete(spec *VhostUser, want VhostUser) {
	if want.MTU == 0 {
		spec.MTU = 0
	}
	spec.IP = want.IP
	var st syscall.Stat_t
	switch {
	case spec.Client: // the socket is the workload's own
		spec.UID, spec.GID, spec.Mode = want.UID, want.GID, want.Mode
	case syscall.Lstat(spec.File, &st) == nil:
		spec.UID, spec.GID, spec.Mode = int(st.Uid), int(st.Gid), os.FileMode(st.Mode&0o777)
	}
}
