package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.patchbay.dev/agent/lab"
	"go.patchbay.dev/tests/report"
)

// labOf gives a function that runs a lab command on a lab of the test's own.
func labOf(t *testing.T) (run func(args ...string) (string, error), dir, name string) {
	t.Helper()
	_, _ = demo(t) // only what it needs
	if _, err := lab.FindEtcd(); err != nil {
		report.Skip(t, "etcd-server", "etcd is not in PATH")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	name = fmt.Sprintf("pbc%d", os.Getpid())
	dir = filepath.Join("/tmp", name)
	run = func(args ...string) (string, error) {
		cmd := exec.Command(self, append([]string{"lab"}, args...)...)
		cmd.Env = asPatchbay()
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	t.Cleanup(func() {
		if out, err := run("down", "--dir", dir); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		left, _ := filepath.Glob("/run/netns/" + name + "-*")
		if _, err := os.Stat(dir); err == nil || len(left) > 0 {
			t.Errorf("left over: %s, %v", dir, left)
		}
	})
	return run, dir, name
}

func TestLabStaysUpAndGoesAlsoWhenItWasKilled(t *testing.T) {
	run, dir, name := labOf(t)
	up := []string{"up", "--dir", dir, "--name", name, "--nodes", "2", "--dataplane", "kernel"}
	out, err := run(up...)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// What it says to type works, word by word.
	for _, c := range []struct{ line, want string }{{"  agent   ", "n2"}, {"etcd      ", "/patchbay/v1/agents/n1"}, {"cut       ", ""}} {
		_, rest, ok := strings.Cut(out, "\n"+c.line)
		if !ok {
			t.Fatalf("it does not say %q:\n%s", c.line, out)
		}
		command, _, _ := strings.Cut(rest, "\n")
		command, _, _ = strings.Cut(command, ";")
		self, _ := os.Executable()
		cmd := exec.Command("sh", "-c", strings.Replace(command, " patchbay ", " "+self+" ", 1))
		cmd.Env = append(asPatchbay(), "ETCDCTL_API=3")
		if said, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(said), c.want) {
			t.Errorf("%s: %v: %s", command, err, said)
		}
	}
	if again, err := run(up...); err == nil || !strings.Contains(again, "there is one in "+dir+" already") {
		t.Errorf("a second one: %v: %s", err, again)
	}
	state, err := os.ReadFile(filepath.Join(dir, lab.StateFile))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(state), `"pid": `)
	number, _, _ := strings.Cut(rest, ",")
	pid, err := strconv.Atoi(number)
	if err != nil {
		t.Fatalf("%v in %s", err, state)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); syscall.Kill(pid, 0) == nil && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond) // another's child tells nobody of its end
	}
	if out, err := run("down", "--dir", dir); err != nil || !strings.Contains(out, "is gone") {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := run("down", "--dir", dir); err != nil || !strings.Contains(out, "there is no lab") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestLabThatCannotBeSaysWhy(t *testing.T) {
	run, dir, name := labOf(t)
	for _, c := range []struct{ args, want string }{
		{"up --nodes 10", "--nodes 10: use 1 to 9"},
		{"up --mtu 1000", "--mtu 1000: use 1280"},
		{"up --dataplane ovs", "--dataplane ovs: use auto, kernel or vpp"},
	} {
		if out, err := run(append(strings.Fields(c.args), "--dir", dir, "--name", name)...); err == nil || !strings.Contains(out, c.want) {
			t.Errorf("%s: %v: %s", c.args, err, out)
		}
	}
	if out, err := exec.Command("ip", "netns", "add", name+"-n2").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	defer exec.Command("ip", "netns", "delete", name+"-n2").Run()
	if out, err := run("up", "--dir", dir, "--name", name, "--dataplane", "kernel"); err == nil || !strings.Contains(out, name+"-n2 is there already") {
		t.Errorf("a name that is taken: %v: %s", err, out)
	}
	if _, err := os.Stat("/run/netns/" + name + "-n2"); err != nil {
		t.Error("what is not the lab's is gone")
	}
}
