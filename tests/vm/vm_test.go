package vm

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.patchbay.dev/tests/report"
	"go.patchbay.dev/vppapi/vpptest"
)

// want has the tests run that take minutes and, once, hundreds of megabytes. With the value
// cached they run only where those have been fetched already.
const (
	want   = "PATCHBAY_TEST_VM"
	cached = "cached"
)

// limit of one run of a guest; emulated code is 11–32 times slower.
const limit = 5 * time.Minute

// A machine with /dev/vhost-net: VPP's taps by themselves, and under the agent.
func TestTaps(t *testing.T) {
	packages := fetch(t)
	path, version, ok := vpptest.Find()
	if !ok {
		report.Skip(t, "VPP", "it is neither in $"+vpptest.Prefix+" nor in /opt/vpp nor in PATH")
	}
	report.Part(t, "VPP in QEMU", version)
	for _, s := range []struct{ name, folder, run string }{
		{"vppapi", "./vppapi", "TestTapContract/vpp"},
		{"agent", "./tests/vm/guest", "TestTheWayThroughVPPOverTaps"},
		{"busy", "./tests/vm/guest", "TestManyBusyTaps"},
		{"offload", "./tests/vm/guest", "TestOffloadOfTaps"},
	} {
		t.Run(s.name, func(t *testing.T) {
			tree := NewTree()
			addVPP(t, tree, path)
			build(t, tree, "/bin/patchbay", "build", "./agent/cmd/patchbay")
			build(t, tree, "/bin/guest.test", "test", "-c", s.folder)
			run(t, &Guest{
				Packages: packages, Tree: tree, MemoryMB: 2048,
				Modules: []string{"tun", "vhost_net", "veth"},
				Env:     []string{vpptest.Prefix + "=" + prefix(path), "PATCHBAY_BINARY=/bin/patchbay", vpptest.Slow + "=4"},
			}, s.run)
		})
	}
}

// A kernel with every kind of tunnels, and one that has only VXLAN.
func TestTunnelDevices(t *testing.T) {
	packages := fetch(t)
	for _, s := range []struct {
		name, folder, run string
		modules           []string
		env               string        // one variable
		limit             time.Duration // zero: the usual
	}{
		{"all kinds", "./plugins/linux", "TestTunnels|TestWhatTheKernelSupports", devices, "PATCHBAY_TEST_DEVICES=1", 0},
		{"under the engine", "./plugins/mechanism/kernel", "TestTwoWorkloadsOnTwoNodes|TestTunnel", devices, "PATCHBAY_TEST_DEVICES=1", 0},
		// One of each, since two agents with an etcd each are slow in there; the engine's tests have them all.
		{"agents", "./tests", "TestTwoKernelNodes/^(GENEVE.*ETHERNET.*false|GRE,_IP.*true|IPIP.*false)$", devices, "PATCHBAY_TEST_DEVICES=1", 3 * limit},
		{"VXLAN only", "./plugins/linux", "TestWhatTheKernelSupports", []string{"vxlan"},
			"PATCHBAY_TEST_LACKS='geneve gre gretap ip6gre ip6gretap sit ip6tnl wireguard'", 0},
	} {
		t.Run(s.name, func(t *testing.T) {
			tree := NewTree()
			addTools(t, tree, "etcdctl")
			build(t, tree, "/bin/patchbay", "build", "./agent/cmd/patchbay")
			build(t, tree, "/bin/guest.test", "test", "-c", s.folder)
			run(t, &Guest{
				Packages: packages, Tree: tree, MemoryMB: 1024, Limit: s.limit, Modules: append([]string{"veth"}, s.modules...),
				Env: []string{s.env, "PATCHBAY_BINARY=/bin/patchbay", vpptest.Slow + "=4"},
			}, s.run)
		})
	}
}

// Cards that have virtual functions, and an IOMMU.
func TestCards(t *testing.T) {
	packages := fetch(t)
	for _, s := range []struct{ name, folder, run string }{
		{"interfaces", "./tests/vm/cards", "TestInterfaces"},
		{"requests", "./tests/vm/cards", "TestRequests"},
		{"pods", "./tests/vm/cards", "TestPods"},
		{"devices", "./tests/vm/cards", "TestDevices"},
		{"killed", "./tests/vm/cards", "TestKilled"},
		{"speed", "./tests/vm/cards", "TestSpeed"},
		{"VPP", "./tests/vm/cards", "TestPortOfVPP"},
		{"control groups", "./plugins/mechanism/vfio", "TestControlGroups"},
	} {
		t.Run(s.name, func(t *testing.T) {
			tree := NewTree()
			addTools(t, tree)
			g := &Guest{
				Packages: packages, Tree: tree, MemoryMB: 1024, Cards: true, Modules: []string{"veth", "igb", "igbvf", "vfio_pci", "vfio_iommu_type1", "8021q"},
				Env: []string{"PATCHBAY_BINARY=/bin/patchbay", vpptest.Slow + "=4"},
			}
			if s.name == "VPP" {
				path, version, ok := vpptest.Find()
				if !ok {
					report.Skip(t, "VPP", "it is neither in $"+vpptest.Prefix+" nor in /opt/vpp nor in PATH")
				}
				report.Part(t, "VPP in QEMU", version)
				addVPP(t, tree, path)
				addTools(t, tree, "bridge")
				g.MemoryMB, g.Modules, g.Env = 2048, append(g.Modules, "tun", "vhost_net", "vxlan"), append(g.Env, vpptest.Prefix+"="+prefix(path))
			}
			build(t, tree, "/bin/patchbay", "build", "./agent/cmd/patchbay")
			build(t, tree, "/bin/guest.test", "test", "-c", s.folder)
			run(t, g, s.run)
		})
	}
}

// devices are the modules that have the kernel's tunnels.
var devices = []string{"vxlan", "geneve", "ip_gre", "ip6_gre", "sit", "ip6_tunnel", "wireguard"}

// fetch gives what guests are made of, or skips the test.
func fetch(t *testing.T) *Packages {
	t.Helper()
	if os.Getenv(want) == "" {
		report.Skip(t, want, "a machine in QEMU takes minutes; make test-vm sets it")
	}
	if os.Getenv(want) == cached && !Fetched() {
		report.Skip(t, "QEMU and a kernel from Debian's packages", "they have not been fetched yet; make test-vm does")
	}
	packages, err := Fetch()
	if err != nil {
		report.Skip(t, "QEMU and a kernel from Debian's packages", err.Error())
	}
	report.Part(t, "Linux in QEMU", packages.Kernel)
	return packages
}

// run runs those tests of /bin/guest.test that a pattern names.
func run(t *testing.T, g *Guest, pattern string) {
	t.Helper()
	g.Limit, g.Output = cmp.Or(g.Limit, limit), os.Stdout
	g.Command = fmt.Sprintf("cd /root; /bin/guest.test -test.v -test.run '%s' -test.timeout %v", pattern, g.Limit-30*time.Second)
	began := time.Now()
	status, err := g.Run(t.Context())
	if errors.Is(err, ErrTime) { // an emulated machine hangs now and then
		t.Log("a second try:", err)
		status, err = g.Run(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	if status != 0 {
		t.Errorf("exit status %d", status)
	}
	t.Logf("%v", time.Since(began).Round(time.Second))
}

// prefix is the folder that VPP is installed in.
func prefix(vpp string) string { return filepath.Dir(filepath.Dir(vpp)) }

// plugins of VPP that are needed; each takes time to load.
var plugins = []string{"af_packet", "l3xc", "memif", "vhost", "vxlan", "ping"}

// addVPP adds VPP, and the programs that tests call.
func addVPP(t *testing.T, tree *Tree, vpp string) {
	t.Helper()
	libraries := []string{filepath.Join(prefix(vpp), "lib", "x86_64-linux-gnu"), filepath.Join(prefix(vpp), "lib")}
	programs := []string{vpp, filepath.Join(filepath.Dir(vpp), "vppctl")}
	for _, p := range plugins {
		for _, l := range libraries {
			file := filepath.Join(l, "vpp_plugins", p+"_plugin.so")
			if _, err := os.Stat(file); err == nil {
				programs = append(programs, file)
			}
		}
	}
	for _, p := range programs {
		if err := tree.Program(p, libraries...); err != nil {
			t.Fatal(err)
		}
	}
	addTools(t, tree)
}

// addTools adds this machine's programs that tests call.
func addTools(t *testing.T, tree *Tree, more ...string) {
	t.Helper()
	for _, name := range append([]string{"ip", "ping", "nsenter"}, more...) {
		path, err := exec.LookPath(name)
		if err != nil {
			report.Skip(t, name, "the guest has this machine's")
		}
		if err := tree.Program(path); err != nil {
			t.Fatal(err)
		}
	}
}

// build adds a program of this project's, which needs no library.
func build(t *testing.T, tree *Tree, at string, args ...string) {
	t.Helper()
	out := filepath.Join(t.TempDir(), filepath.Base(at))
	args = append(args[:len(args)-1:len(args)-1], "-o", out, args[len(args)-1])
	cmd := exec.Command("nice", append([]string{"-n", "10", "go"}, args...)...)
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, text)
	}
	tree.File(at, out)
}
