package memif

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"go.patchbay.dev/models"
)

// Files of a connection stand in its directory, which only the agent writes to; whoever
// knows a socket's name may try to connect, and the socket's own owner and mode decide.
const dirMode = 0o711

// namesDir holds the names of sockets, as symbolic links; no id begins with a dot.
const namesDir = ".names"

// ErrTaken: the socket name asked for belongs to another connection.
var ErrTaken = errors.New("socket name is taken")

// prepare makes the directory and clears the socket's place: VPP would unlink whatever is
// there, or fail.
func (m *Mechanism) prepare(spec Memif) error {
	err := os.Mkdir(spec.Dir, dirMode)
	if errors.Is(err, fs.ErrNotExist) {
		err = errors.Join(os.MkdirAll(m.o.RunDir, 0o755), os.Mkdir(spec.Dir, dirMode))
	}
	switch {
	case err == nil && note(spec) == "":
		return nil // nothing is in it
	case err != nil && !errors.Is(err, fs.ErrExist):
		return err
	}
	if err := os.Remove(spec.File); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return writeNote(spec)
}

// dress gives the socket its owner, mode and name.
func (m *Mechanism) dress(spec Memif) error {
	if spec.NetNS == "" {
		if err := errors.Join(os.Chmod(spec.File, spec.Mode), os.Chown(spec.File, spec.UID, spec.GID)); err != nil {
			return err
		}
	}
	if spec.Name == "" || m.named(spec) {
		return nil
	}
	link := m.linkOf(spec)
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		return err
	}
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Symlink(spec.File, link)
}

// names are those of sockets: each is one attachment's from its first attempt until it is
// deleted, whatever becomes of VPP meanwhile.
type names struct {
	mu      sync.Mutex
	holders map[string]string // tags, by name
}

// claim gives an attachment its name. The error wraps ErrTaken.
func (n *names) claim(spec Memif) error {
	if spec.Name == "" {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if by := n.holders[spec.Name]; by != "" && by != spec.Tag {
		id, side, _ := models.ParseTag(by)
		return fmt.Errorf("%w: %q, by the %s of connection %q; use another name for parameter %s", ErrTaken, spec.Name, side, id, Socket)
	}
	n.set(spec)
	return nil
}

// learn notes whose a name was when the agent came.
func (n *names) learn(spec Memif) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.holders[spec.Name] == "" {
		n.set(spec)
	}
}

func (n *names) set(spec Memif) {
	if n.holders == nil {
		n.holders = map[string]string{}
	}
	n.holders[spec.Name] = spec.Tag
}

// release gives the name back, if it was the attachment's.
func (n *names) release(spec Memif) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.holders[spec.Name] == spec.Tag {
		delete(n.holders, spec.Name)
	}
}

func (m *Mechanism) linkOf(spec Memif) string { return filepath.Join(m.o.RunDir, namesDir, spec.Name) }

// named tells whether the socket can be found under the name that is wanted.
func (m *Mechanism) named(spec Memif) bool {
	if spec.Name == "" {
		return false
	}
	target, err := os.Readlink(m.linkOf(spec))
	return err == nil && target == spec.File
}

// undress takes the socket's name away.
func (m *Mechanism) undress(spec Memif) error {
	if !m.named(spec) {
		return nil
	}
	return os.Remove(m.linkOf(spec))
}

// clean removes the files of an attachment, and its directory if it was the last.
func (m *Mechanism) clean(spec Memif) error {
	errs := []error{m.undress(spec)}
	if strings.HasPrefix(spec.File, m.o.RunDir+"/") {
		for _, path := range []string{spec.File, noteOf(spec), spec.Dir} {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// A note keeps what VPP does not tell of an interface, as a hash: whether the secret and
// the namespace are those that are wanted.
func note(spec Memif) string {
	if spec.Secret == "" && spec.NetNS == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(spec.Secret + "\x00" + spec.NetNS))
	return hex.EncodeToString(sum[:])
}

const noteSuffix = ".note"

func noteOf(spec Memif) string { return spec.File + noteSuffix }

func writeNote(spec Memif) error {
	text := note(spec)
	if text == "" {
		if err := os.Remove(noteOf(spec)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	return os.WriteFile(noteOf(spec), []byte(text), 0o600)
}

func readNote(spec Memif) string {
	text, err := os.ReadFile(noteOf(spec))
	if err != nil {
		return ""
	}
	return string(text)
}

// ownerOf is who may connect to a socket; of one that is gone, nobody.
func ownerOf(socket string) (uid, gid int, mode os.FileMode) {
	var st syscall.Stat_t
	if syscall.Lstat(socket, &st) != nil {
		return -1, -1, 0
	}
	return int(st.Uid), int(st.Gid), os.FileMode(st.Mode & 0o777)
}
