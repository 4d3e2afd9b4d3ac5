package memif

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/reconcile"
	"go.patchbay.dev/vppapi"
)

// Memif is the spec of one attachment. Values are compared with ==.
type Memif struct {
	Tag      string
	Dir      string // of the connection
	File     string // of the socket; of an abstract one, what else is kept of it
	Name     string // under which the socket can be found, too; empty: none
	NetNS    string // of an abstract socket; empty: a socket in the file system
	UID, GID int
	Mode     os.FileMode
	Secret   string
	IP       bool
	MTU      int // bytes; 0: VPP's own
	MAC      [6]byte
	// found: not as it should be in a way that Create mends
	broken bool
}

// key of an attachment's value.
func keyOf(id string, side models.Side) string { return Kind + "/" + id + "/" + string(side) }

// fileOf is the socket's name in its connection's directory.
func fileOf(side models.Side) string {
	if side == models.ClientSide {
		return "memif-client.sock"
	}
	return "memif.sock"
}

// dirOf is a connection's directory: its id or, where the path would be too long for a
// socket, a hash of it.
func (m *Mechanism) dirOf(id string) string {
	dir := filepath.Join(m.o.RunDir, id)
	if len(dir)+1+len(fileOf(models.ClientSide)) <= vppapi.MaxMemifPath {
		return dir
	}
	sum := sha256.Sum256([]byte(id))
	return filepath.Join(m.o.RunDir, "x-"+hex.EncodeToString(sum[:8]))
}

// abstractName is what an abstract socket is called in its namespace: the tag, with the
// one separator that VPP takes in such a name (VPP: src/vppinfra/socket.c).
func abstractName(tag string) string { return strings.ReplaceAll(tag, ":", "/") }

// Attach renders one workload that is attached to VPP.
func (m *Mechanism) Attach(x *models.CrossConnect, side models.Side) (models.Port, []reconcile.Value, error) {
	p, err := parse(x.At(side).GetMechanism().GetParameters())
	if err != nil {
		return models.Port{}, nil, err
	}
	dir := m.dirOf(x.GetId())
	spec := Memif{
		Tag: models.Tag(x.GetId(), side), Dir: dir, File: filepath.Join(dir, fileOf(side)), Name: p.socket, NetNS: p.netns,
		UID: p.UID, GID: p.GID, Mode: p.Mode, Secret: p.secret, IP: x.GetPayload() == models.IP, MTU: int(x.GetMtu()),
	}
	if len(spec.File) > vppapi.MaxMemifPath {
		return models.Port{}, nil, field(string(side)+".mechanism.type", "%s: the socket's path %s has %d bytes, a socket's may have %d; configure a shorter vpp.run_dir",
			Type, spec.File, len(spec.File), vppapi.MaxMemifPath)
	}
	where := spec.File
	if spec.NetNS != "" {
		where = "@" + abstractName(spec.Tag)
	}
	if err := settled(x, side, where); err != nil {
		return models.Port{}, nil, err
	}
	if !spec.IP {
		spec.MAC = models.ForwarderMAC(spec.Tag)
	}
	key := keyOf(x.GetId(), side)
	return models.Port{Key: key, Tag: spec.Tag, Ethernet: !spec.IP}, []reconcile.Value{{Key: key, Spec: spec}}, nil
}

// settled refuses a record that says where its socket is to be: the agent does.
func settled(x *models.CrossConnect, side models.Side, where string) error {
	if asked := x.At(side).GetMechanism().GetParameters()[SocketFile]; asked != "" && asked != where {
		return field(string(side)+".mechanism.parameters."+SocketFile, "%q cannot be had; the socket is %s: leave it out, and give it a name of your own by the parameter %s",
			asked, where, Socket)
	}
	return nil
}

// Hint says where the workload will find its socket, and what it is to make on it.
func (m *Mechanism) Hint(id string, side models.Side, path string) map[string]string {
	if path == models.DirectPath {
		told := m.told(params{}, m.directSocket(id))
		told[Role] = roles[side]
		return told
	}
	return m.told(params{}, filepath.Join(m.dirOf(id), fileOf(side)))
}
