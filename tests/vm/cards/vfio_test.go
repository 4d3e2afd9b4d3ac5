package cards

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"go.patchbay.dev/tests/lab"
)

var roles = map[string]func(args []string) error{"hold": hold, "open": open}

// ioctls of linux/vfio.h: _IO(';', 100 + n).
const (
	vfioGetAPIVersion     = 0x3b64
	vfioSetIOMMU          = 0x3b66
	vfioGroupSetContainer = 0x3b68
	vfioGroupGetDeviceFD  = 0x3b6a
	vfioDeviceGetInfo     = 0x3b6b
	vfioType1             = 1
)

// open opens a group, as a program in a container would.
func open(args []string) error {
	f, err := os.OpenFile(args[0], os.O_RDWR, 0)
	if err != nil {
		return err
	}
	fmt.Println("opened")
	return f.Close()
}

// hold takes over a function as a driver in user space does, and keeps it until it is told to end.
func hold(args []string) error {
	group, pci := args[0], args[1]
	container, err := os.OpenFile("/dev/vfio/vfio", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	g, err := os.OpenFile(group, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	fd := int32(container.Fd())
	name, err := unix.BytePtrFromString(pci)
	if err != nil {
		return err
	}
	if _, err := ioctl(g.Fd(), vfioGroupSetContainer, uintptr(unsafe.Pointer(&fd))); err != nil {
		return fmt.Errorf("set container: %w", err)
	}
	if _, err := ioctl(container.Fd(), vfioSetIOMMU, vfioType1); err != nil {
		return fmt.Errorf("set IOMMU: %w", err)
	}
	device, err := ioctl(g.Fd(), vfioGroupGetDeviceFD, uintptr(unsafe.Pointer(name)))
	if err != nil {
		return fmt.Errorf("get device: %w", err)
	}
	info := struct{ size, flags, regions, irqs, cap uint32 }{size: 20}
	if _, err := ioctl(uintptr(device), vfioDeviceGetInfo, uintptr(unsafe.Pointer(&info))); err != nil {
		return fmt.Errorf("get info: %w", err)
	}
	fmt.Printf("holds it: flags %#x, %d regions, %d interrupts\n", info.flags, info.regions, info.irqs)
	time.Sleep(time.Hour)
	return nil
}

func ioctl(fd, request, arg uintptr) (int, error) {
	r, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, request, arg)
	if errno != 0 {
		return 0, errno
	}
	return int(r), nil
}

// container makes a control group with a program of a container's runtime, that lets nothing be opened but
// /dev/null and the like.
func container(t *testing.T) (dir string) {
	t.Helper()
	// Where the agent looks, and once more where `ip netns exec` leaves it, which mounts another /sys.
	const root = "/run/cgroup"
	if err := os.MkdirAll(root, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{"/sys/fs/cgroup", root} {
		if err := unix.Mount("cgroup2", at, "cgroup2", 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			t.Fatal(err)
		}
	}
	dir = filepath.Join(root, "pod1", "c1")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.CGroupDevice, License: "Apache-2.0", Instructions: asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, 4, asm.Word), // major
		asm.Mov.Imm(asm.R0, 1),
		asm.JEq.Imm(asm.R2, 1, "end"), // /dev/null, /dev/urandom
		asm.Mov.Imm(asm.R0, 0),
		asm.Return().WithSymbol("end"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	group, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer group.Close()
	err = link.RawAttachProgram(link.RawAttachProgramOptions{Target: int(group.Fd()), Program: p, Attach: ebpf.AttachCGroupDevice, Flags: unix.BPF_F_ALLOW_MULTI})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// inside runs a command in a control group.
func inside(dir string, command ...string) []string {
	return append([]string{"/bin/sh", "-c", `set -e; echo $$ > ` + dir + `/cgroup.procs; exec "$@"`, "sh"}, command...)
}

// Functions that workloads drive themselves: handed over, and taken back.
func TestDevices(t *testing.T) {
	w := start(t)
	dir := container(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	a, b := lab.NewNamespace(t), lab.NewNamespace(t)
	server := b.Start(t, lab.Binary(t), "--agent", "unix://"+w.Socket, "serve", "lan", "--mechanism", "NOOP", "--cidr", "10.60.0.0/24")
	server.Await(t, "serving")
	client := a.Start(t, inside(dir, lab.Binary(t), "--agent", "unix://"+w.Socket, "connect", "lan", "--id", "v1", "--mechanism", "VFIO", "--pool", "example.com/radio")...)
	client.Await(t, "connected v1")
	s := w.await(t, "v1", "UP").Client.Parameters
	pci, group := s["pciAddress"], "/dev/vfio/"+s["iommuGroup"]
	t.Logf("%v", s)
	var st unix.Stat_t
	if err := unix.Stat(group, &st); err != nil || s["deviceMajor"] != strconv.Itoa(int(unix.Major(st.Rdev))) || s["deviceMinor"] != strconv.Itoa(int(unix.Minor(st.Rdev))) ||
		s["vfioMajor"] != "10" || s["vfioMinor"] != "196" {
		t.Errorf("%v: %+v", err, s)
	}
	if to, _ := os.Readlink(filepath.Join(devices, pci, "driver")); filepath.Base(to) != "vfio-pci" {
		t.Errorf("driver %s", to)
	}

	t.Run("the workload takes it over", func(t *testing.T) {
		p := a.Start(t, inside(dir, self, "hold", group, pci)...)
		t.Log(p.Await(t, "holds it"))
		p.Kill()
	})
	t.Run("the agent is killed and started again", func(t *testing.T) {
		w.Kill()
		w.Start()
		w.WaitReady()
		w.await(t, "v1", "UP")
		if n := w.Operations(t); n != 0 {
			t.Errorf("%d operations", n)
		}
		a.Run(t, inside(dir, self, "open", group)...)
	})
	t.Run("it is given back when the program that holds it has ended", func(t *testing.T) {
		p := a.Start(t, inside(dir, self, "hold", group, pci)...)
		p.Await(t, "holds it")
		client.Interrupt(t)
		out, err := a.Try(inside(dir, self, "open", group)...)
		if err == nil || !strings.Contains(out, "operation not permitted") {
			t.Errorf("the connection has ended, and it opens: %v, %s", err, out)
		}
		lab.Eventually(t, 30*time.Second, "the agent to wait for it", func() error {
			if !strings.Contains(w.Log(), "a program has "+group+" open; it is put back when that ends") {
				return errors.New("it does not say so")
			}
			return nil
		})
		if to, _ := os.Readlink(filepath.Join(devices, pci, "driver")); filepath.Base(to) != "vfio-pci" {
			t.Errorf("driver %s", to)
		}
		p.Kill()
		w.atHome(t)
	})
	server.Interrupt(t)
}
