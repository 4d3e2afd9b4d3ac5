package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.patchbay.dev/tests/report"
)

// program builds the patchbay program for a test.
func program(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "patchbay")
	if out, err := exec.Command("go", "build", "-o", path, "go.patchbay.dev/agent/cmd/patchbay").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// need skips a test where a lab cannot be.
func need(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		report.Skip(t, "root", "it makes network namespaces")
	}
	if _, err := FindEtcd(); err != nil {
		report.Skip(t, "etcd-server", "etcd is not in PATH")
	}
}

func start(t *testing.T, o Options) *Lab {
	t.Helper()
	need(t)
	o.Name, o.Program = fmt.Sprintf("pbl%d", os.Getpid()), program(t)
	l, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for name, text := range l.Logs() {
				t.Logf("%s:\n%s", name, text)
			}
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if left, _ := filepath.Glob(namedNetns + o.Name + "-*"); len(left) > 0 {
			t.Errorf("left over: %v", left)
		}
		if _, err := os.Stat(l.Dir); err == nil {
			t.Errorf("left over: %s", l.Dir)
		}
	})
	return l
}

// reaches pings another node once.
func reaches(t *testing.T, n *Node, address string) error {
	t.Helper()
	out, err := n.Command("ping", "-n", "-c", "1", "-W", "1", address).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s does not reach %s: %w: %s", n.Name, address, err, out)
	}
	return nil
}

func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for err := check(); err != nil; err = check() {
		select {
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func TestThreeNodes(t *testing.T) {
	l := start(t, Options{Nodes: 3})
	a, b, c := l.Nodes[0], l.Nodes[1], l.Nodes[2]
	both := func(n *Node) [2]string { return [2]string{n.Addresses[0].String(), n.Addresses[1].String()} }
	check := func(from, to *Node, want bool) {
		t.Helper()
		for _, address := range both(to) {
			if err := reaches(t, from, address); (err == nil) != want {
				t.Errorf("%s reaches %s: want %v, %v", from.Name, to.Name, want, err)
			}
		}
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}

	t.Run("the underlay is cut and mended", func(t *testing.T) {
		check(a, b, true)
		check(a, c, true)
		do(l.CutPair(a, b))
		check(a, b, false)
		check(b, a, false)
		check(a, c, true)
		check(c, b, true)
		do(l.MendPair(a, b))
		check(a, b, true)
		do(l.Cut(c))
		check(a, c, false)
		check(a, b, true)
		do(l.Mend(c))
		eventually(t, "mended", func() error { return reaches(t, a, c.Addresses[0].String()) })
	})

	t.Run("it delays and loses, where the kernel can", func(t *testing.T) {
		err := l.Disturb(b, 100*time.Millisecond, 0)
		if errors.Is(err, ErrNoNetem) {
			report.Skip(t, "netem", "the kernel has none")
		}
		do(err)
		out, err := a.Command("ping", "-n", "-c", "1", b.Addresses[0].String()).Output()
		do(err)
		var ms float64
		if _, rest, ok := strings.Cut(string(out), "time="); !ok {
			t.Fatalf("no time in %s", out)
		} else if _, err := fmt.Sscanf(rest, "%f ms", &ms); err != nil || ms < 100 {
			t.Errorf("delayed by %v ms, %v", ms, err)
		}
		do(l.Disturb(b, 0, 100))
		check(a, b, false)
		do(l.Disturb(b, 0, 0))
		check(a, b, true)
	})

	t.Run("one member of etcd is lost and comes back", func(t *testing.T) {
		get := func(n *Node) error {
			out, err := n.Patchbay("get", "agents").CombinedOutput()
			if err != nil || strings.Count(string(out), "\n") != 4 {
				return fmt.Errorf("agents as %s sees them: %w\n%s", n.Name, err, out)
			}
			return nil
		}
		for _, n := range l.Nodes {
			do(n.KillEtcd())
			for _, other := range l.Nodes {
				eventually(t, "agents", func() error { return get(other) })
			}
			do(n.StartEtcd(t.Context()))
		}
	})

	t.Run("an agent is stopped and started", func(t *testing.T) {
		do(a.Agent().Stop())
		do(a.StartAgent(t.Context()))
		do(a.Agent().Kill())
		do(a.StartAgent(t.Context()))
	})
}

func TestVPPOnEachNode(t *testing.T) {
	if _, err := FindVPP(); err != nil {
		report.Skip(t, "VPP", err.Error())
	}
	l := start(t, Options{Nodes: 2, VPP: func(int) bool { return true }})
	a, b := l.Nodes[0], l.Nodes[1]
	for _, address := range b.Tunnel {
		if err := reaches(t, a, address.String()); err != nil {
			t.Error(err)
		}
		out, err := a.VPP.Ctl("ping", address.String(), "repeat", "3", "interval", "0.1").CombinedOutput()
		if err != nil || strings.Contains(string(out), "0 received") {
			t.Errorf("VPP to VPP: %v: %s", err, out)
		}
	}
}

func TestALabThatWasKilledIsRemoved(t *testing.T) {
	need(t)
	dir := filepath.Join("/tmp", fmt.Sprintf("pbk-%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := Remove(t.Context(), dir); !errors.Is(err, ErrNoLab) {
		t.Errorf("a folder without a lab: %v", err)
	}
	ours, foreign := fmt.Sprintf("pbk%d-n1", os.Getpid()), fmt.Sprintf("pbk%d-other", os.Getpid())
	for _, name := range []string{ours, foreign} {
		if err := ip("", "netns add "+name); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { deleteNetns(name) })
	}
	// Its process has ended, and another has the number.
	s := &state{PID: os.Getpid(), Started: 1, Namespaces: []string{ours, ours + "-never-made"}}
	if err := s.write(dir); err != nil {
		t.Fatal(err)
	}
	if err := Remove(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the folder is left")
	}
	if left, _ := filepath.Glob(namedNetns + fmt.Sprintf("pbk%d-*", os.Getpid())); len(left) != 1 || left[0] != namedNetns+foreign {
		t.Errorf("left: %v, want only what is not the lab's", left)
	}
}
