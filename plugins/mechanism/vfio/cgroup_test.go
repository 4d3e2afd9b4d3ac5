package vfio

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"go.patchbay.dev/tests/report"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "open" { // in a control group, see opens
		if err := os.WriteFile(os.Args[2], []byte("0"), 0o200); err != nil {
			fmt.Println(err)
			os.Exit(2)
		}
		f, err := os.OpenFile(os.Args[3], os.O_RDWR, 0)
		if err != nil {
			os.Exit(1)
		}
		f.Close()
		return
	}
	os.Exit(m.Run())
}

// opens tells whether a process in a group can open a device.
func opens(t *testing.T, dir, device string) bool {
	t.Helper()
	out, err := exec.Command("/proc/self/exe", "open", filepath.Join(dir, "cgroup.procs"), device).CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		return false
	}
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return true
}

// full and random are devices that every machine has, and nobody needs.
var full, random = rule{1, 7}, rule{1, 8}

// A container may open what its runtime lets it, and what it was granted, while that stands.
func TestControlGroups(t *testing.T) {
	for _, c := range []struct {
		version int
		group   func(t *testing.T) (c cgroups, dir string)
	}{{1, groupV1}, {2, groupV2}} {
		t.Run(fmt.Sprintf("version %d", c.version), func(t *testing.T) {
			groups, dir := c.group(t)
			can := func(what string, full, random, zero bool) {
				t.Helper()
				if a, b, c := opens(t, dir, "/dev/full"), opens(t, dir, "/dev/random"), opens(t, dir, "/dev/zero"); a != full || b != random || c != zero || !opens(t, dir, "/dev/null") {
					t.Errorf("%s: full %v, random %v, zero %v", what, a, b, c)
				}
			}
			ok := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			one, two := []rule{full, random}, []rule{random, {1, 5}}
			can("at first", false, false, false)
			for range 2 {
				ok(groups.allow(dir, "grant/c1/client", one))
			}
			can("with one grant", true, true, false)
			if !groups.allows(dir, "grant/c1/client", one) || c.version == 2 && groups.allows(dir, "grant/c2/client", two) {
				t.Error("what is granted is not told from what is not")
			}
			ok(groups.allow(dir, "grant/c2/client", two))
			can("with two grants", true, true, true)
			for range 2 {
				ok(groups.deny(dir, "grant/c1/client", one[:1])) // the other needs the second, see kept
			}
			can("with the second", false, true, true)
			ok(groups.deny(dir, "grant/c2/client", two))
			can("at last", false, false, false)
			ok(groups.deny(filepath.Join(dir, "gone"), "grant/c1/client", one))
		})
	}
}

// groupV1 makes a group of version 1 that may open /dev/null only.
func groupV1(t *testing.T) (cgroups, string) {
	root := t.TempDir()
	at := filepath.Join(root, "devices")
	if err := os.Mkdir(at, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("cgroup", at, "cgroup", 0, "devices"); err != nil {
		report.Skip(t, "control groups of version 1", err.Error())
	}
	t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) }) // the machine goes on with or without
	dir := filepath.Join(at, "patchbay-test")
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(dir) }) // it is empty
	if err := os.WriteFile(filepath.Join(dir, "devices.deny"), []byte("a"), 0o200); err != nil {
		report.Skip(t, "control groups of version 1", err.Error())
	}
	if err := os.WriteFile(filepath.Join(dir, "devices.allow"), []byte("c 1:3 rwm"), 0o200); err != nil {
		t.Fatal(err)
	}
	return cgroups{root}, dir
}

// groupV2 makes a group of version 2 with the program of a container's runtime, that lets /dev/null be opened only.
func groupV2(t *testing.T) (cgroups, string) {
	root := t.TempDir()
	if err := unix.Mount("cgroup2", root, "cgroup2", 0, ""); err != nil {
		report.Skip(t, "control groups of version 2", err.Error())
	}
	t.Cleanup(func() { _ = unix.Unmount(root, unix.MNT_DETACH) })
	dir := filepath.Join(root, "patchbay-test")
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(dir) })
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.CGroupDevice, License: "Apache-2.0", Instructions: asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, 8, asm.Word), // minor
		asm.Mov.Imm(asm.R0, 1),
		asm.JEq.Imm(asm.R2, 3, "end"),
		asm.Mov.Imm(asm.R0, 0),
		asm.Return().WithSymbol("end"),
	}})
	if err != nil {
		report.Skip(t, "BPF programs of control groups", err.Error())
	}
	defer p.Close()
	group, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer group.Close()
	err = link.RawAttachProgram(link.RawAttachProgramOptions{Target: int(group.Fd()), Program: p, Attach: ebpf.AttachCGroupDevice, Flags: unix.BPF_F_ALLOW_MULTI})
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EINVAL) {
		report.Skip(t, "BPF programs of control groups", err.Error())
	} else if err != nil {
		t.Fatal(err)
	}
	return cgroups{root}, dir
}

func TestTheGroupOfAProcess(t *testing.T) {
	got, err := cgroups{"/sys/fs/cgroup"}.of(os.Getpid())
	if err != nil || !strings.HasPrefix(got, "/") {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := (cgroups{"/sys/fs/cgroup"}).of(1 << 30); err == nil {
		t.Error("a process that is not there has a group")
	}
}

func TestPatternsOfGroups(t *testing.T) {
	root := t.TempDir()
	for _, d := range []string{"pod1/a", "pod1/b", "pod2/c"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c := cgroups{root}
	if got, err := c.folders("/pod1/*"); err != nil || len(got) != 2 {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := c.folders("/pod2/c"); err != nil || len(got) != 1 {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := c.folders("/pod3/*"); err == nil || !strings.Contains(err.Error(), "they end with their workload") {
		t.Error(err)
	}
}
