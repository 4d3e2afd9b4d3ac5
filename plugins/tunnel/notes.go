package tunnel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"go.patchbay.dev/models"
)

// notes are files that say which tunnels the agent makes in VPP: one that was made and has
// no tag yet when the agent dies is known by what it leads to, and is not taken for
// somebody else's. A note is there before its tunnel, and goes after it.
type notes struct{ dir string }

func newNotes(runDir string) notes { return notes{filepath.Join(runDir, ".tunnels")} }

// file of the tunnel with a tag; ids hold no @.
func (n notes) file(tag string) string {
	id, side, _ := models.ParseTag(tag)
	return filepath.Join(n.dir, id+"@"+string(side))
}

// write notes what the tunnel with a tag will be, and tells whether just that was noted.
func (n notes) write(tag, what string) (noted bool, err error) {
	if n.read(tag) == what {
		return true, nil
	}
	err = os.WriteFile(n.file(tag), []byte(what), 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		err = errors.Join(os.MkdirAll(n.dir, 0o755), os.WriteFile(n.file(tag), []byte(what), 0o600))
	}
	if err != nil {
		return false, fmt.Errorf("note what is being made: %w", err)
	}
	return false, nil
}

// read is empty where nothing is noted.
func (n notes) read(tag string) string {
	text, err := os.ReadFile(n.file(tag))
	if err != nil {
		return ""
	}
	return string(text)
}

func (n notes) remove(tag string) error {
	if err := os.Remove(n.file(tag)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget a tunnel: %w", err)
	}
	return nil
}

// all are the tags of all tunnels that are noted, by what they are.
func (n notes) all() map[string]string {
	tags := map[string]string{}
	files, err := os.ReadDir(n.dir)
	if err != nil {
		return tags
	}
	for _, f := range files {
		id, side, ok := strings.Cut(f.Name(), "@")
		if tag := models.Tag(id, models.Side(side)); ok {
			tags[n.read(tag)] = tag
		}
	}
	return tags
}
