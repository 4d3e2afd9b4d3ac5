package lab

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"go.patchbay.dev/tests/report"
)

var serial atomic.Int64

// Namespace is a network namespace with a name, as `ip netns` makes it.
type Namespace struct {
	Name string
	Path string
}

// NewNamespace makes a namespace that ends with the test.
func NewNamespace(t testing.TB) *Namespace {
	t.Helper()
	NeedRoot(t)
	ns := &Namespace{Name: fmt.Sprintf("pbt%d-%d", os.Getpid(), serial.Add(1))}
	ns.Path = "/run/netns/" + ns.Name
	ns.Make(t)
	t.Cleanup(func() {
		if _, err := os.Stat(ns.Path); err == nil {
			ns.Delete(t)
		}
	})
	return ns
}

// Make makes the namespace, again if it was deleted.
func (n *Namespace) Make(t testing.TB) {
	t.Helper()
	Run(t, "ip", "netns", "add", n.Name)
	n.Run(t, "ip", "link", "set", "lo", "up")
}

// Delete deletes the namespace.
func (n *Namespace) Delete(t testing.TB) {
	t.Helper()
	Run(t, "ip", "netns", "del", n.Name)
}

// Run runs a command in the namespace, which must succeed, and gives its output.
func (n *Namespace) Run(t testing.TB, command ...string) string {
	t.Helper()
	return Run(t, append([]string{"ip", "netns", "exec", n.Name}, command...)...)
}

// Try runs a command in the namespace that may fail.
func (n *Namespace) Try(command ...string) (string, error) {
	out, err := exec.Command("ip", append([]string{"netns", "exec", n.Name}, command...)...).CombinedOutput()
	return string(out), err
}

// Ping pings an address from the namespace until it answers once, for at most 12 s: WireGuard
// repeats a handshake that was lost after 5 s (its REKEY_TIMEOUT), and once more after that.
func (n *Namespace) Ping(t testing.TB, address string) {
	t.Helper()
	n.Run(t, "ping", "-c", "1", "-w", "12", address)
}

// Interfaces names the interfaces in the namespace but lo.
func (n *Namespace) Interfaces(t testing.TB) []string {
	t.Helper()
	var names []string
	for _, line := range strings.Split(strings.TrimSpace(n.Run(t, "ip", "-o", "link", "show")), "\n") {
		if line == "" || line[0] < '0' || line[0] > '9' {
			continue // what ip says of a tunnel whose other namespace has no id here
		}
		name, _, _ := strings.Cut(strings.Fields(line)[1], "@")
		if name = strings.TrimSuffix(name, ":"); name != "lo" {
			names = append(names, name)
		}
	}
	return names
}

// Run runs a command that must succeed and gives its output.
func Run(t testing.TB, command ...string) string {
	t.Helper()
	out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
	return string(out)
}

// NeedRoot skips a test that needs to make namespaces.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		report.Skip(t, "root", "it makes network namespaces")
	}
}
