package nsm

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

var serial atomic.Int64

// netns is a network namespace with a name, as `ip netns` makes it.
type netns struct {
	name string
	t    *testing.T
}

// newNetns makes a namespace that ends with the test.
func newNetns(t *testing.T) *netns {
	t.Helper()
	n := &netns{name: fmt.Sprintf("pbn%d-%d", os.Getpid(), serial.Add(1)), t: t}
	run(t, "ip", "netns", "add", n.name)
	t.Cleanup(n.delete)
	n.run("ip", "link", "set", "lo", "up")
	return n
}

func (n *netns) delete() {
	n.t.Helper()
	if n.name != "" {
		run(n.t, "ip", "netns", "del", n.name)
		n.name = ""
	}
}

// in gives the command line that runs a command in the namespace.
func (n *netns) in(command ...string) []string {
	return append([]string{"ip", "netns", "exec", n.name}, command...)
}

// run runs a command in the namespace, which must succeed, and gives its output.
func (n *netns) run(command ...string) string {
	n.t.Helper()
	return run(n.t, n.in(command...)...)
}

// inodeURL is the namespace as NSM names one that is passed as a descriptor.
func (n *netns) inodeURL() string {
	n.t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat("/run/netns/"+n.name, &st); err != nil {
		n.t.Fatal(err)
	}
	return fmt.Sprintf("inode://%d/%d", st.Dev, st.Ino)
}

// interfaces gives index, MAC and name of the interfaces in the namespace but lo.
func (n *netns) interfaces() (all []iface) {
	n.t.Helper()
	for line := range strings.Lines(n.run("ip", "-o", "link", "show")) {
		fields := strings.Fields(line)
		name, _, _ := strings.Cut(strings.TrimSuffix(fields[1], ":"), "@")
		if name != "lo" {
			_, rest, _ := strings.Cut(line, "link/ether ")
			mac, _, _ := strings.Cut(rest, " ")
			all = append(all, iface{strings.TrimSuffix(fields[0], ":"), mac, name})
		}
	}
	return all
}

type iface struct{ index, mac, name string }

// only gives the one interface that is in the namespace.
func (n *netns) only() iface {
	n.t.Helper()
	all := n.interfaces()
	if len(all) != 1 {
		n.t.Fatalf("interfaces of %s: %v, want one", n.name, all)
	}
	return all[0]
}

// ping pings an address, which must answer within 5 s.
func (n *netns) ping(address string) {
	n.t.Helper()
	n.run("ping", "-n", "-c", "1", "-w", "5", address)
}

// run runs a command that must succeed and gives its standard output. What else it says
// matters only if it fails: ip complains of a namespace that another story is just making.
func run(t *testing.T, command ...string) string {
	t.Helper()
	var errors strings.Builder
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stderr = &errors
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(command, " "), err, out, &errors)
	}
	return string(out)
}

// background is a command that runs until it is stopped.
type background struct {
	t   *testing.T
	cmd *exec.Cmd
	out log
}

// begin starts a command in the namespace.
func (n *netns) begin(command ...string) *background {
	n.t.Helper()
	line := n.in(command...)
	b := &background{t: n.t, cmd: exec.Command(line[0], line[1:]...)}
	b.cmd.Stdout, b.cmd.Stderr = &b.out, &b.out
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := b.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { b.stop() })
	return b
}

// stop interrupts the command and gives all its output.
func (b *background) stop() string {
	if b.cmd != nil {
		b.cmd.Process.Signal(os.Interrupt)
		b.cmd.Wait() // interrupted, so it may well give an error
		b.cmd = nil
	}
	return b.text()
}

// text is the output so far.
func (b *background) text() string {
	b.out.mu.Lock()
	defer b.out.mu.Unlock()
	return string(bytes.Clone(b.out.text.Bytes()))
}
