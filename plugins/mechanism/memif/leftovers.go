package memif

import (
	"iter"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/reconcile"
)

// wants are the attachments that are wanted, by their tags and by their files.
type wants struct{ byTag, byFile map[string]wanted }

type wanted struct {
	key  string
	spec Memif
}

func newWants(want iter.Seq2[string, Memif]) wants {
	w := wants{map[string]wanted{}, map[string]wanted{}}
	for key, spec := range want {
		w.byTag[spec.Tag] = wanted{key, spec}
		if spec.NetNS == "" {
			w.byFile[spec.File] = wanted{key, spec}
		}
	}
	return w
}

// leftovers are what is there of attachments that have no interface, because VPP or the
// agent went in the middle of making or deleting one: files, and sockets of VPP's. Those
// that nobody wants are found, to be deleted; those that are wanted are doubted.
func (d descriptor) leftovers(found []reconcile.Found[Memif], sockets map[uint32]string, wants wants) (all []reconcile.Found[Memif]) {
	seen := map[string]bool{}
	for _, f := range found {
		seen[f.Key] = true
	}
	add := func(id string, side models.Side, spec Memif) {
		spec.Tag, spec.broken = models.Tag(id, side), true
		if w, ok := wants.byFile[spec.File]; ok { // its directory need not be named by its id
			spec.Tag = w.spec.Tag
		}
		key := keyOf(id, side)
		if _, ok := wants.byTag[spec.Tag]; ok {
			d.doubts.Store(spec.Tag, true)
		} else if !seen[key] {
			seen[key] = true
			all = append(all, reconcile.Found[Memif]{Key: key, Spec: spec})
		}
	}
	for _, socket := range sockets {
		if id, side, ok := d.ofSocket(socket); ok && !seen[keyOf(id, side)] {
			add(id, side, Memif{Dir: filepath.Dir(socket), File: socket})
		}
	}
	names := d.namesByFile()
	for file := range d.files() {
		// A file that is wanted is replaced when its interface is made: no reason for doubt,
		// which costs a look at all that VPP has, for each one after VPP's restart.
		if _, wanted := wants.byFile[file]; wanted {
			continue
		}
		if id, side, ok := d.ofSocket(file); ok && !seen[keyOf(id, side)] {
			add(id, side, Memif{Dir: filepath.Dir(file), File: file, Name: names[file]})
		}
	}
	return all
}

// young is a directory that somebody may be about to fill.
const young = 10 * time.Second

// old tells whether a directory has been as it is for long enough.
func old(dir os.DirEntry) bool {
	info, err := dir.Info()
	return err == nil && time.Since(info.ModTime()) > young
}

// files yields the names of the sockets that a connection's directory has, or may have had.
func (m *Mechanism) files() iter.Seq[string] {
	return func(yield func(string) bool) {
		dirs, err := os.ReadDir(m.o.RunDir)
		if err != nil {
			return
		}
		for _, d := range dirs {
			dir := filepath.Join(m.o.RunDir, d.Name())
			entries, err := os.ReadDir(dir)
			if err == nil && len(entries) == 0 && old(d) && !yield(filepath.Join(dir, fileOf(models.EndpointSide))) {
				return
			}
			for _, e := range entries {
				if !yield(filepath.Join(dir, strings.TrimSuffix(e.Name(), noteSuffix))) {
					return
				}
			}
		}
	}
}

// namesByFile are the names that sockets have, by where they lead.
func (m *Mechanism) namesByFile() map[string]string {
	all := map[string]string{}
	links, err := os.ReadDir(filepath.Join(m.o.RunDir, namesDir))
	if err != nil {
		return all
	}
	for _, l := range links {
		if target, err := os.Readlink(filepath.Join(m.o.RunDir, namesDir, l.Name())); err == nil {
			all[target] = l.Name()
		}
	}
	return all
}
