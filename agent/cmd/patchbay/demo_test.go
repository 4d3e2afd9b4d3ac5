package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.patchbay.dev/agent/lab"
	"go.patchbay.dev/tests/report"
)

// runAsPatchbay makes the test's own binary the program: the demo starts itself again.
const runAsPatchbay = "TEST_RUNS_AS_PATCHBAY"

func TestMain(m *testing.M) {
	if os.Getenv(runAsPatchbay) != "" {
		main()
	}
	os.Exit(m.Run())
}

// asPatchbay is an environment in which the test's binary is the program; the race
// detector would let each process linger for a second.
func asPatchbay(env ...string) []string {
	return append(os.Environ(), append(env, runAsPatchbay+"=1", "GORACE=atexit_sleep_ms=0")...)
}

// demo gives the demo as a process of its own.
func demo(t *testing.T, env ...string) (*exec.Cmd, *buffer) {
	t.Helper()
	if os.Geteuid() != 0 {
		report.Skip(t, "root", "network namespaces are made")
	}
	for _, c := range []string{"ip", "ping"} {
		if _, err := exec.LookPath(c); err != nil {
			report.Skip(t, c, "not in PATH")
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "demo")
	out := newBuffer()
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = asPatchbay(env...)
	return cmd, out
}

var ofDemo = regexp.MustCompile(`patchbay-demo-[0-9a-f]{6}|/tmp/patchbay-demo-[0-9]+`)

// nothingLeft checks that what a demo named in its output is gone.
func nothingLeft(t *testing.T, out string) {
	t.Helper()
	for _, name := range ofDemo.FindAllString(out, -1) {
		if !strings.HasPrefix(name, "/") {
			name = filepath.Join("/run/netns", name+"-")
		}
		if left, _ := filepath.Glob(name + "*"); len(left) > 0 {
			t.Errorf("left over: %v\n%s", left, out)
		}
	}
}

func TestDemoShowsAPingAndLeavesNothing(t *testing.T) {
	var both sync.WaitGroup
	for range 2 { // two at once do not meet
		cmd, out := demo(t, "PATCHBAY_LOG_LEVEL=loud") // what is the caller's does not matter
		both.Go(func() {
			if err := cmd.Run(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			for _, want := range []string{
				"3 packets transmitted, 3 received, 0% packet loss",
				"State:          UP", "Decision:", "KERNEL: ", "Received:     ", "no crossconnects\n", "All of it is gone again",
			} {
				if !strings.Contains(out.String(), want) {
					t.Errorf("it does not say %q:\n%s", want, out)
				}
			}
			nothingLeft(t, out.String())
		})
	}
	both.Wait()
}

func TestDemoOfTwoNodesShowsATunnelAndLeavesNothing(t *testing.T) {
	cmd, out := demo(t, "NODES=2")
	if _, err := lab.FindEtcd(); err != nil {
		report.Skip(t, "etcd-server", "etcd is not in PATH")
	}
	if err := cmd.Run(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	for _, want := range []string{
		"3 packets transmitted, 3 received, 0% packet loss", "1 packets transmitted, 1 received, 0% packet loss",
		"VXLAN: tunnel between node n1 and node n2", "src_ip=10.99.0.1", "n2$ patchbay describe crossconnect ", "no crossconnects\n", "All of it is gone again",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
	nothingLeft(t, out.String())
}

func TestDemoOfTwoNodesCleansUpWhenInterrupted(t *testing.T) {
	for _, moment := range []string{"1. 2 nodes", "n2: namespace", "serving ", "connected ", "Decision:"} {
		t.Run(moment, func(t *testing.T) {
			cmd, out := demo(t, "NODES=2")
			if _, err := lab.FindEtcd(); err != nil {
				report.Skip(t, "etcd-server", "etcd is not in PATH")
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			out.await(t, moment, says(moment))
			if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err == nil || !strings.Contains(out.String(), "patchbay: demo: interrupted\n") {
				t.Errorf("%v:\n%s", err, out)
			}
			nothingLeft(t, out.String())
		})
	}
}

func TestDemoCleansUpWhenInterrupted(t *testing.T) {
	for _, moment := range []string{"1. An agent", "it answers after", "-server", "3. An endpoint", "serving ", "accepted ", "connected ", "64 bytes", "Decision:"} {
		t.Run(moment, func(t *testing.T) {
			t.Parallel()
			cmd, out := demo(t)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			out.await(t, moment, says(moment))
			if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err == nil || !strings.Contains(out.String(), "patchbay: demo: interrupted\n") {
				t.Errorf("%v:\n%s", err, out)
			}
			nothingLeft(t, out.String())
		})
	}
}

func TestDemoCleansUpWhenAStepFails(t *testing.T) {
	// A ping of our own that finds nobody.
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "ping"), []byte("#!/bin/sh\necho nobody answers; exit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd, out := demo(t, "PATH="+bin+":"+os.Getenv("PATH"))
	err := cmd.Run()
	text := out.String()
	if err == nil || !strings.Contains(text, "nobody answers") || !strings.Contains(text, "patchbay: demo: ip netns exec") {
		t.Errorf("%v:\n%s", err, text)
	}
	nothingLeft(t, text)
}

func TestConnectAndServeRunCommandsInTheirNamespaces(t *testing.T) {
	_, _ = demo(t) // only what it needs
	dir, err := os.MkdirTemp("/tmp", "patchbay-cmd-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	name := filepath.Base(dir)
	for _, side := range []string{"a", "b"} {
		if out, err := exec.Command("ip", "netns", "add", name+side).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		t.Cleanup(func() { exec.Command("ip", "netns", "delete", name+side).Run() })
	}
	file := filepath.Join(dir, "patchbay.yaml")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(demoConfig, "DIR", dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	agent := "unix://" + dir + "/agent.sock"
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// Each is stopped, in the reverse order, before its namespace goes.
	run := func(args ...string) (*buffer, func() error) {
		cmd := exec.Command(self, append([]string{"--agent", agent}, args...)...)
		out := newBuffer()
		cmd.Stdout, cmd.Stderr, cmd.Env = out, out, asPatchbay()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		wait := sync.OnceValue(cmd.Wait)
		t.Cleanup(func() { cmd.Process.Signal(syscall.SIGTERM); wait() })
		return out, wait
	}
	agentLog, _ := run("run", "--config", file)
	defer func() {
		if t.Failed() {
			t.Logf("the agent:\n%s", agentLog)
		}
	}()
	agentLog.await(t, "the agent", says("agent ready"))
	const script = "echo from $PATCHBAY_ADDRESSES to $PATCHBAY_PEER_ADDRESSES on $PATCHBAY_INTERFACE for $PATCHBAY_ID; ip -brief link show $PATCHBAY_INTERFACE; "
	served, _ := run("serve", "hello", "--netns", name+"b", "--cidr", "10.60.0.0/30", "--interface", "srv", "--", "sh", "-c", script+"touch "+dir+"/served; exec sleep 60")
	served.await(t, "the endpoint", says("serving hello"))
	connected, end := run("connect", "hello", "--netns", name+"a", "--interface", "cli", "--id", "c1", "--", "sh", "-c", script+"ping -c 1 -W 2 10.60.0.2; until [ -e "+dir+"/served ]; do sleep 0.02; done; exit 3")
	if err := end(); err == nil || err.Error() != "exit status 3" || !strings.Contains(connected.String(), " 0% packet loss") {
		t.Errorf("connect: %v\n%s", err, connected)
	}
	for _, c := range []struct{ out, want string }{
		{connected.String(), "from 10.60.0.1/32 to 10.60.0.2/32 on cli for c1\n"},
		{served.String(), "from 10.60.0.2/32 to 10.60.0.1/32 on srv for c1\n"},
	} {
		if !strings.Contains(c.out, c.want) {
			t.Errorf("a command does not say %q:\n%s", c.want, c.out)
		}
	}
	served.await(t, "the end of the connection", says("connection c1 is closed"))
	links, err := exec.Command("ip", "-n", name+"a", "-oneline", "link").Output()
	if err != nil || strings.Count(string(links), "\n") != 1 {
		t.Errorf("left: %s, %v", links, err)
	}
}

func TestDemoOfABridgeShowsOneSegmentAndLeavesNothing(t *testing.T) {
	cmd, out := demo(t, "NODES=3", "BRIDGE=1")
	if _, err := lab.FindEtcd(); err != nil {
		report.Skip(t, "etcd-server", "etcd is not in PATH")
	}
	if err := cmd.Run(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	for _, want := range []string{"connected pod-n3: lan1 by endpoint bridge/lan1, KERNEL", "member pod-n1 ", "node at 10.99.0.3 ", "n1$ patchbay get bridges\n   no bridges\n", "All of it is gone again"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
	if got := len(regexp.MustCompile(`2 packets transmitted, [12] received`).FindAllString(out.String(), -1)); got != 4 {
		t.Errorf("%d pings of 4 were answered:\n%s", got, out)
	}
	nothingLeft(t, out.String())
}
