// Package vm runs tests in a machine of their own: QEMU and a kernel from Debian's
// packages, with what this machine may lack. It needs no rights but to run programs.
package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A Guest is what is run.
type Guest struct {
	Packages *Packages
	Tree     *Tree
	Modules  []string // loaded before anything else
	Env      []string
	Command  string // of a shell; its exit status is the guest's
	MemoryMB int
	// Ports are sockets of vhost-user, each of which is a network card of the guest's. Its
	// memory is shared then.
	Ports  []Port
	Cards  bool          // it has two network cards that can have virtual functions, and an IOMMU
	Limit  time.Duration // after which it is ended; half of it, before it has begun
	Output io.Writer     // all that it says
}

// Port is a card of a guest's whose other end is another process.
type Port struct {
	Socket  string
	Listens bool   // the guest does, else it connects again and again
	MAC     string // empty: QEMU's choice
}

// args are those of QEMU.
func (p Port) args(number int) []string {
	char := fmt.Sprintf("socket,id=c%d,path=%s", number, p.Socket)
	if p.Listens {
		char += ",server=on,wait=off"
	} else {
		char += ",reconnect-ms=200"
	}
	card := fmt.Sprintf("virtio-net-pci,netdev=n%d,romfile=", number)
	if p.MAC != "" {
		card += ",mac=" + p.MAC
	}
	return []string{"-chardev", char, "-netdev", fmt.Sprintf("vhost-user,id=n%d,chardev=c%[1]d", number), "-device", card}
}

// ErrTime is wrapped when a guest was ended at its limit.
var ErrTime = errors.New("the guest did not end in time")

// verdict ends what a guest says.
var verdict = regexp.MustCompile(`PATCHBAY-GUEST-EXIT ([0-9]+)`)

// Run starts the guest and waits for its end. The status is that of its command.
func (g *Guest) Run(ctx context.Context) (status int, err error) {
	dir, err := os.MkdirTemp("", "patchbay-vm-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	initrd := filepath.Join(dir, "initrd")
	if err := g.furnish(initrd); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, g.Limit)
	defer cancel()
	cmd := g.qemu(ctx, initrd)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var said bytes.Buffer
	begun := &mark{text: []byte(begins), seen: make(chan struct{})}
	cmd.Stdout = io.MultiWriter(&said, begun, g.Output)
	cmd.Stderr = cmd.Stdout
	boot := time.AfterFunc(g.Limit/2, func() {
		select {
		case <-begun.seen:
		default:
			cancel() // it hangs before it has begun
		}
	})
	defer boot.Stop()
	err = cmd.Run()
	if found := verdict.FindSubmatch(said.Bytes()); found != nil {
		return strconv.Atoi(string(found[1]))
	}
	if ctx.Err() != nil {
		return 0, fmt.Errorf("%w: %v", ErrTime, g.Limit)
	}
	return 0, fmt.Errorf("the guest ended without a word: %v", err)
}

// begins is a guest's first word.
const begins = "PATCHBAY-GUEST-BEGINS"

// mark looks for a text in what is written.
type mark struct {
	text []byte
	tail []byte
	seen chan struct{}
	done bool
}

// Write takes in what is said.
func (m *mark) Write(p []byte) (int, error) {
	if m.tail = append(m.tail, p...); !m.done && bytes.Contains(m.tail, m.text) {
		m.done = true
		close(m.seen)
	}
	m.tail = m.tail[max(0, len(m.tail)-len(m.text)):]
	return len(p), nil
}

// furnish adds what every guest has, and writes its file system.
func (g *Guest) furnish(file string) error {
	modules, err := g.Tree.Modules(g.Packages, g.Modules...)
	if err != nil {
		return err
	}
	busybox := filepath.Join(g.Packages.Root, "usr/bin/busybox")
	g.Tree.File("/bin/busybox", busybox)
	for _, tool := range []string{"sh", "mount", "cat", "insmod", "mkdir", "ls", "dmesg", "sleep", "poweroff", "true"} {
		g.Tree.Link("/bin/"+tool, "busybox")
	}
	for _, d := range []string{"/proc", "/sys", "/dev", "/tmp", "/run/netns", "/root", "/etc"} {
		g.Tree.Dir(d)
	}
	script := "#!/bin/sh\nexport PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root " + strings.Join(g.Env, " ") + "\necho " + begins + `
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mkdir -p /dev/shm /dev/pts; mount -t tmpfs shm /dev/shm; mount -t tmpfs run /run; mkdir -p /run/netns
for m in ` + strings.Join(modules, " ") + `; do insmod $m || echo "cannot load $m"; done
busybox ip link set lo up
` + g.Command + `
echo "PATCHBAY-GUEST-EXIT $?"
poweroff -f
`
	g.Tree.Text("/init", script)
	return g.Tree.Write(file)
}

// processors of the guest. With cards it has one: emulated, a second one's timer stops now and then when a
// card is taken out.
func (g *Guest) processors() int {
	if g.Cards {
		return 1
	}
	return 2
}

// kernel is what the kernel is told beside that. With an IOMMU that remaps interrupts, the emulated timers
// lose one now and then: a tick that comes again and again is not missed for long.
func (g *Guest) kernel() string {
	if g.Cards {
		return " intel_iommu=on iommu=pt no_timer_check nohz=off highres=off"
	}
	return ""
}

// cards are two of Intel's 82576, which QEMU emulates with virtual functions, on one wire, each behind a port of its
// own; and what gives each virtual function an IOMMU group.
var cards = []string{
	"-device", "intel-iommu,intremap=on,caching-mode=on,device-iotlb=on", "-machine", "kernel-irqchip=split",
	"-device", "pcie-root-port,id=port0,chassis=1,slot=1", "-device", "pcie-root-port,id=port1,chassis=2,slot=2",
	"-netdev", "hubport,id=wire0,hubid=0", "-device", "igb,bus=port0,netdev=wire0,mac=52:54:00:00:00:01,romfile=",
	"-netdev", "hubport,id=wire1,hubid=0", "-device", "igb,bus=port1,netdev=wire1,mac=52:54:00:00:00:02,romfile=",
}

// qemu runs the kernel by QEMU, which runs by its own loader: this machine's libraries may
// be older. There is a device called /dev/kvm on machines that have no KVM.
func (g *Guest) qemu(ctx context.Context, initrd string) *exec.Cmd {
	root := g.Packages.Root
	accel := "tcg,thread=multi"
	for _, module := range []string{"kvm_intel", "kvm_amd"} {
		if _, err := os.Stat("/sys/module/" + module); err == nil && openable("/dev/kvm") {
			accel = "kvm"
		}
	}
	lib := filepath.Join(root, "usr/lib/x86_64-linux-gnu")
	args := []string{
		"-n", "10", filepath.Join(lib, "ld-linux-x86-64.so.2"), "--library-path", lib + ":" + filepath.Join(lib, "pulseaudio"),
		filepath.Join(root, "usr/bin/qemu-system-x86_64"), "-L", filepath.Join(root, "usr/share/qemu"), "-L", filepath.Join(root, "usr/share/seabios"),
		"-machine", "q35", "-accel", accel, "-cpu", "max", "-smp", strconv.Itoa(g.processors()), "-m", strconv.Itoa(g.MemoryMB),
		"-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot", "-net", "none",
		"-kernel", filepath.Join(root, "boot/vmlinuz-"+g.Packages.Kernel), "-initrd", initrd,
		"-append", "console=ttyS0 quiet panic=-1 random.trust_cpu=on mitigations=off" + g.kernel(),
	}
	if g.Cards {
		args = append(args, cards...)
	}
	for i, p := range g.Ports {
		if i == 0 {
			args = append(args, "-object", fmt.Sprintf("memory-backend-memfd,id=m0,size=%dM,share=on", g.MemoryMB), "-machine", "memory-backend=m0")
		}
		args = append(args, p.args(i)...)
	}
	cmd := exec.CommandContext(ctx, "nice", args...)
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

func openable(path string) bool {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err == nil {
		f.Close()
	}
	return err == nil
}
