// Package nstest gives tests real network namespaces that go away with the test.
package nstest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// Need skips a test that cannot make namespaces here.
func Need(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes network namespaces")
	}
}

// New makes a network namespace, mounted on a file of its own whose path it returns.
func New(t testing.TB) string {
	t.Helper()
	Need(t)
	path := filepath.Join(t.TempDir(), "netns")
	At(t, path)
	return path
}

// At makes a network namespace and mounts it at path, where nothing may be.
func At(t testing.TB, path string) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL, 0)
	if err == nil {
		err = file.Close()
	}
	if err == nil {
		err = mount(path)
	}
	if err != nil {
		t.Fatalf("make a network namespace at %s: %v", path, err)
	}
	t.Cleanup(func() { Delete(t, path) })
}

// mount makes a namespace on a thread that then ends, so that only the mount keeps it.
func mount(path string) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() { // the main thread cannot end
			result <- mount(path)
			runtime.UnlockOSThread()
			return
		}
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = unix.Mount(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), path, "", unix.MS_BIND, "")
		}
		result <- err
	}()
	return <-result
}

// Delete unmounts a namespace and removes the file, if they are still there.
func Delete(t testing.TB, path string) {
	t.Helper()
	err := unix.Unmount(path, unix.MNT_DETACH)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		t.Errorf("unmount %s: %v", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// Run runs a command in a namespace and returns what it says. It must succeed.
func Run(t testing.TB, path string, command ...string) string {
	t.Helper()
	out, err := Try(path, command...)
	if err != nil {
		t.Fatalf("%q in %s: %v: %s", command, path, err, out)
	}
	return out
}

// Try runs a command in a namespace and returns what it says, without what it complains
// of: that is in the error if it does not succeed.
func Try(path string, command ...string) (string, error) {
	out, err := exec.Command("nsenter", append([]string{"--net=" + path, "--"}, command...)...).Output()
	if failed := new(exec.ExitError); errors.As(err, &failed) {
		err = fmt.Errorf("%w: %s", err, failed.Stderr)
	}
	return string(out), err
}

// Process starts a process in a new namespace that nothing else keeps, and returns its id.
// It ends with the test or by the function returned.
func Process(t testing.TB) (pid int, end func()) {
	t.Helper()
	Need(t)
	cmd := exec.Command("cat") // until its input ends
	cmd.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatalf("start a process in a namespace: %v", err)
	}
	ended := false
	end = func() {
		if ended {
			return
		}
		ended = true
		if err := errors.Join(in.Close(), cmd.Wait()); err != nil {
			t.Errorf("end the process: %v", err)
		}
	}
	t.Cleanup(end)
	return cmd.Process.Pid, end
}
