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
	"syscall"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/reconcile"
	"go.patchbay.dev/vppapi"
)

// roles on a socket that two workloads share: the endpoint makes it, the client connects.
var roles = map[models.Side]string{models.ClientSide: "client", models.EndpointSide: "server"}

// directSocket is the socket that two workloads share.
func (m *Mechanism) directSocket(id string) string {
	return filepath.Join(m.dirOf(id), "direct", "memif-direct.sock")
}

// Direct is the spec of the directory of a socket that two workloads share. The endpoint
// owns it, and the client's group may enter. Values are compared with ==.
type Direct struct {
	Dir      string
	UID, GID int // the endpoint's user, the client's group
}

// Pairs: through VPP unless the path says otherwise, for VPP sees and counts.
func (m *Mechanism) Pairs(path string) bool { return path == models.DirectPath }

// Pair renders two workloads on this node that share memory with nothing in between.
func (m *Mechanism) Pair(x *models.CrossConnect) ([]reconcile.Value, error) {
	client, err := parse(x.GetClient().GetMechanism().GetParameters())
	if err != nil {
		return nil, err
	}
	endpoint, err := parse(x.GetEndpoint().GetMechanism().GetParameters())
	if err != nil {
		return nil, err
	}
	path := m.directSocket(x.GetId())
	for _, side := range []models.Side{models.ClientSide, models.EndpointSide} {
		if err := settled(x, side, path); err != nil {
			return nil, err
		}
		for _, key := range []string{Socket, Mode} {
			if x.At(side).GetMechanism().GetParameters()[key] != "" {
				return nil, field(string(side)+".mechanism.parameters."+key, "cannot be had with path %s, where the endpoint's workload makes the socket; leave it out, or path",
					models.DirectPath)
			}
		}
	}
	d := Direct{Dir: filepath.Dir(path), UID: endpoint.UID, GID: client.GID}
	if len(path) > vppapi.MaxMemifPath {
		return nil, field("path", "direct: the socket's path %s is longer than %d bytes; configure a shorter vpp.run_dir", path, vppapi.MaxMemifPath)
	}
	return []reconcile.Value{{Key: KindDirect + "/" + x.GetId(), Spec: d}}, nil
}

// directDescriptor makes the directories.
type directDescriptor struct{ *Mechanism }

func (d directDescriptor) Dependencies(string, Direct) []string { return nil }

func (d directDescriptor) Equal(found, want Direct) bool { return found == want }

func (d directDescriptor) Create(_ context.Context, _ string, spec Direct) error {
	if err := errors.Join(os.MkdirAll(d.o.RunDir, 0o755), mkdir(filepath.Dir(spec.Dir), dirMode), mkdir(spec.Dir, 0o770)); err != nil {
		return fmt.Errorf("shared memory socket: %w", err)
	}
	return errors.Join(os.Chown(spec.Dir, spec.UID, spec.GID), os.Chmod(spec.Dir, 0o770|fs.ModeSetgid))
}

func mkdir(path string, mode os.FileMode) error {
	if err := os.Mkdir(path, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

func (d directDescriptor) Update(ctx context.Context, key string, old, new Direct) error {
	if old.Dir != new.Dir {
		return reconcile.ErrRecreate
	}
	return d.Create(ctx, key, new)
}

func (d directDescriptor) Delete(_ context.Context, _ string, spec Direct) error {
	if !strings.HasPrefix(spec.Dir, d.o.RunDir+"/") {
		return nil
	}
	if err := os.RemoveAll(spec.Dir); err != nil {
		return fmt.Errorf("shared memory socket: %w", err)
	}
	if err := os.Remove(filepath.Dir(spec.Dir)); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) {
		return err
	}
	return nil
}

func (d directDescriptor) Retrieve(_ context.Context, want iter.Seq2[string, Direct]) ([]reconcile.Found[Direct], error) {
	keys := map[string]string{}
	for key, spec := range want {
		keys[spec.Dir] = key
	}
	dirs, err := filepath.Glob(filepath.Join(d.o.RunDir, "*", "direct"))
	if err != nil {
		return nil, err
	}
	var all []reconcile.Found[Direct]
	for _, dir := range dirs {
		var st syscall.Stat_t
		if syscall.Lstat(dir, &st) != nil || st.Mode&syscall.S_IFMT != syscall.S_IFDIR {
			continue
		}
		key := keys[dir]
		if key == "" {
			key = KindDirect + "/" + filepath.Base(filepath.Dir(dir))
		}
		all = append(all, reconcile.Found[Direct]{Key: key, Spec: Direct{Dir: dir, UID: int(st.Uid), GID: int(st.Gid)}})
	}
	return all, nil
}
