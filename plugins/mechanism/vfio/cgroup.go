package vfio

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// cgroups are the machine's control groups: of version 1 with its controller of devices, or of version 2, which has
// programs for that.
type cgroups struct{ root string }

// rule is a character device, which may be read and written.
type rule device

// rule in the form of version 1 (Documentation/admin-guide/cgroup-v1/devices.rst).
func (r rule) String() string { return fmt.Sprintf("c %d:%d rw", r.major, r.minor) }

// MarshalText and UnmarshalText keep it in notes.
func (r rule) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%d:%d", r.major, r.minor), nil }

// UnmarshalText reads what MarshalText wrote.
func (r *rule) UnmarshalText(b []byte) error {
	_, err := fmt.Sscanf(string(b), "%d:%d", &r.major, &r.minor)
	return err
}

// v1 is the folder of the controller of devices, if there is one.
func (c cgroups) v1() (dir string, ok bool) {
	dir = filepath.Join(c.root, "devices")
	_, err := os.Stat(filepath.Join(dir, "devices.list"))
	if err != nil { // that of the root group
		_, err = os.Stat(filepath.Join(dir, "tasks"))
	}
	return dir, err == nil
}

// base is the folder of the groups that say which devices may be opened.
func (c cgroups) base() string {
	if dir, ok := c.v1(); ok {
		return dir
	}
	return c.root
}

// of is the group of a process (cgroups(7), /proc/pid/cgroup).
func (c cgroups) of(pid int) (string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return "", fmt.Errorf("control group of process %d: %w", pid, err)
	}
	_, v1 := c.v1()
	for line := range strings.Lines(string(text)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		devices := slices.Contains(strings.Split(parts[1], ","), "devices")
		if v1 && devices || !v1 && parts[0] == "0" && parts[1] == "" {
			if strings.HasPrefix(parts[2], "/..") {
				return "", fmt.Errorf("control group of process %d is outside the agent's view (%s); run the agent in the machine's cgroup namespace", pid, parts[2])
			}
			return parts[2], nil
		}
	}
	return "", fmt.Errorf("process %d has no control group for devices", pid)
}

// folders are those of a group, or of the groups that a pattern stands for.
func (c cgroups) folders(group string) ([]string, error) {
	dir := filepath.Join(c.base(), strings.TrimSuffix(group, "/*"))
	if !strings.HasSuffix(group, "/*") {
		if _, err := os.Stat(dir); err != nil {
			return nil, fmt.Errorf("control group %s: %w; it ends with its workload", group, err)
		}
		return []string{dir}, nil
	}
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("control groups %s: %w; they end with their workload", group, err)
	}
	var all []string
	for _, e := range list {
		if e.IsDir() {
			all = append(all, filepath.Join(dir, e.Name()))
		}
	}
	return all, nil
}

// lacks are the rules that a group does not have yet.
func (c cgroups) lacks(dir string, rules []rule) []rule {
	if _, ok := c.v1(); !ok {
		return rules
	}
	lacks := []rule{}
	for _, r := range rules {
		if !listed(dir, r) {
			lacks = append(lacks, r)
		}
	}
	return lacks
}

// listed tells whether a group of version 1 has a rule, or one that is wider.
func listed(dir string, r rule) bool {
	text, _ := os.ReadFile(filepath.Join(dir, "devices.list")) // empty: it is gone
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) != 3 || f[0] != "a" && f[0] != "c" || !strings.Contains(f[2], "r") || !strings.Contains(f[2], "w") {
			continue
		}
		if slices.Contains([]string{"*:*", fmt.Sprintf("%d:*", r.major), fmt.Sprintf("*:%d", r.minor), fmt.Sprintf("%d:%d", r.major, r.minor)}, f[1]) {
			return true
		}
	}
	return false
}

// allow lets a group open what the rules say, for the end with a key.
func (c cgroups) allow(dir, key string, rules []rule) error {
	if _, ok := c.v1(); !ok {
		return addLayer(dir, key, rules)
	}
	var errs []error
	for _, r := range rules {
		errs = append(errs, write(dir, "devices.allow", r))
	}
	return errors.Join(errs...)
}

// deny takes that back. A group that is gone has nothing.
func (c cgroups) deny(dir, key string, rules []rule) error {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if _, ok := c.v1(); !ok {
		return removeLayer(dir, key)
	}
	var errs []error
	for _, r := range rules {
		errs = append(errs, write(dir, "devices.deny", r))
	}
	return errors.Join(errs...)
}

// allows tells whether a group has what was allowed.
func (c cgroups) allows(dir, key string, rules []rule) bool {
	if _, ok := c.v1(); !ok {
		has, err := hasLayer(dir, key)
		return err == nil && has
	}
	return !slices.ContainsFunc(rules, func(r rule) bool { return !listed(dir, r) })
}

func write(dir, file string, r rule) error {
	f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the group has ended
	}
	if err == nil {
		_, err = f.WriteString(r.String())
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fmt.Errorf("control group %s: %s %q: %w", dir, file, r, err)
	}
	return nil
}
