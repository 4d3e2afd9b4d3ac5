package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// state is what a lab has made outside its folder, and who keeps it up.
type state struct {
	PID        int      `json:"pid"`
	Started    uint64   `json:"started"` // clock ticks since boot, proc(5): tells the process from a later one
	Namespaces []string `json:"namespaces"`
}

// StateFile is the state in the lab's folder.
const StateFile = "lab.json"

func newState(namespaces []string) (*state, error) {
	started, err := startOf(os.Getpid())
	return &state{PID: os.Getpid(), Started: started, Namespaces: namespaces}, err
}

func (s *state) write(dir string) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return replace(filepath.Join(dir, StateFile), append(data, '\n'), 0o644)
}

// startOf is when a process was started: field 22 of /proc/<pid>/stat.
func startOf(pid int) (uint64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := bytes.Cut(data[bytes.LastIndexByte(data, ')'):], []byte(" ")) // after the name, which may hold anything
	fields := strings.Fields(string(rest))
	if len(fields) < 20 {
		return 0, fmt.Errorf("/proc/%d/stat: has %d fields after the name", pid, len(fields))
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// alive reports whether the process that keeps the lab up is there.
func (s *state) alive() bool {
	started, err := startOf(s.PID)
	return err == nil && started == s.Started
}

// ErrNoLab says that there is none in a folder.
var ErrNoLab = errors.New("there is no lab")

// Remove removes the lab of a folder: it asks the process that keeps it up to, and
// removes itself what one left that was killed. Only what is in the state file goes, and
// the folder that holds it.
func Remove(ctx context.Context, dir string) error {
	data, err := os.ReadFile(filepath.Join(dir, StateFile))
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w in %s", ErrNoLab, dir)
	}
	if err != nil {
		return err
	}
	s := &state{}
	if err := json.Unmarshal(data, s); err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(dir, StateFile), err)
	}
	if s.alive() {
		if err := syscall.Kill(s.PID, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("stop the lab's process %d: %w", s.PID, err)
		}
	}
	for s.alive() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("the lab's process %d does not end: %w", s.PID, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
	if err := deleteAll(s.Namespaces); err != nil {
		return err
	}
	return removeAll(ctx, dir)
}

// removeAll removes a folder in which what was killed just now may still write.
func removeAll(ctx context.Context, dir string) error {
	for {
		err := os.RemoveAll(dir)
		if !errors.Is(err, syscall.ENOTEMPTY) || ctx.Err() != nil {
			return err
		}
	}
}

func deleteAll(namespaces []string) error {
	var errs []error
	for _, name := range namespaces {
		errs = append(errs, deleteNetns(name))
	}
	return errors.Join(errs...)
}
