package sriov

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Notes are what an agent that dies must find again, one file each, in a folder that is as short-lived as
// the kernel's own memory of it.
type Notes[T any] struct{ Dir string }

const noteSuffix = ".json"

func (n Notes[T]) file(name string) string { return filepath.Join(n.Dir, name+noteSuffix) }

// Get reads a note; ok is false if there is none.
func (n Notes[T]) Get(name string) (v T, ok bool, err error) {
	b, err := os.ReadFile(n.file(name))
	if errors.Is(err, fs.ErrNotExist) {
		return v, false, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &v)
	}
	if err != nil {
		return v, false, fmt.Errorf("note of %s: %w", name, err)
	}
	return v, true, nil
}

// Put writes a note, whole or not at all.
func (n Notes[T]) Put(name string, v T) error {
	b, err := json.Marshal(v)
	if err == nil {
		err = os.MkdirAll(n.Dir, 0o700)
	}
	if err == nil {
		err = os.WriteFile(n.file(name)+"~", b, 0o600)
	}
	if err == nil {
		err = os.Rename(n.file(name)+"~", n.file(name))
	}
	if err != nil {
		return fmt.Errorf("note of %s: %w", name, err)
	}
	return nil
}

// Remove removes a note; that there is none is no error.
func (n Notes[T]) Remove(name string) error {
	if err := os.Remove(n.file(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("note of %s: %w", name, err)
	}
	return nil
}

// All are the names of all notes.
func (n Notes[T]) All() (names []string, err error) {
	files, err := os.ReadDir(n.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, f := range files {
		if name, ok := strings.CutSuffix(f.Name(), noteSuffix); ok && !f.IsDir() {
			names = append(names, name)
		}
	}
	return names, err
}
