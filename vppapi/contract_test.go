package vppapi_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.patchbay.dev/vppapi"
	"go.patchbay.dev/vppapi/vppfake"
	"go.patchbay.dev/vppapi/vpptest"
)

// What vppapi promises is the same for the fake as for the real VPP.
func TestContract(t *testing.T) {
	t.Run("fake", func(t *testing.T) { contract(t, onFake(t)) })
	t.Run("vpp", func(t *testing.T) { contract(t, onVPP(t)) })
}

// contract is what both must keep.
func contract(t *testing.T, e *env) {
	for _, c := range []struct {
		name string
		test func(*testing.T, *env)
	}{
		{"a memif is made, listed and deleted", memifLife},
		{"a memif that is there, or cannot be", memifRefused},
		{"a memif that cannot be opened leaves nothing behind", memifUnopenable},
		{"a memif that carries IP", memifIP},
		{"a vhost-user interface is made, listed and deleted", vhostLife},
		{"a vhost-user interface that is there, or cannot be", vhostRefused},
		{"a host interface is made, listed and deleted", hostLife},
		{"finishing may be repeated", finish},
		{"finishing what is not there", finishAbsent},
		{"finishing is left for later", finishLater},
		{"what is not joined yet is not looked at", unjoined},
		{"room for many memifs", reserve},
		{"rx-modes", rxModes},
		{"tags are found without asking", tags},
		{"tags of long ids", longTags},
		{"room is claimed until it is taken", room},
		{"what others do to an interface is told", told},
		{"a peer comes and goes", peer},
		{"l2 both ways", l2},
		{"l2 when an interface is deleted", l2Deleted},
		{"a bridge domain is made, changed, listed and deleted", bridgeLife},
		{"ports of bridge domains come and go", bridgePorts},
		{"MACs are set, moved and deleted", macTable},
		{"hosts of a bridge domain", bridgeNeighbors},
		{"VPP's own interface on a bridge domain", bviLife},
		{"l3 both families", l3},
		{"l3 of what is not there", l3Absent},
		{"l3 outlives its interface", l3Outlives},
		{"tunnels are made, listed and deleted", tunnels},
		{"tunnels beside each other", tunnelsSide},
		{"a device that is not there, or has no driver", devicesRefused},
		{"WireGuard leaves nothing half made", wireGuardLeavesNothing},
		{"addresses", addresses},
		{"BFD sessions are made, changed, listed and deleted", bfdLife},
		{"calls in one write are answered in order", order},
		{"many calls at the same time", many},
		{"stats", stats},
		{"a socket that comes later", later},
		{"VPP is killed and comes back", killed},
		{"calls under way when VPP is killed", underWay},
		{"VPP hangs", hangs},
		{"VPP hangs for long", silent},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, e) })
	}
}

// env is the VPP that a contract is kept by.
type env struct {
	socket, stats, dir string
	fake               *vppfake.VPP
	real               *vpptest.VPP
}

// onFake starts a stand-in for VPP.
func onFake(t testing.TB, options ...vppfake.Option) *env {
	t.Helper()
	v := vpptest.Fake(t, options...)
	dir := filepath.Dir(v.Socket())
	return &env{socket: v.Socket(), stats: filepath.Join(dir, "stats.sock"), dir: dir, fake: v}
}

// onVPP starts a real one.
func onVPP(t testing.TB, options ...vpptest.Option) *env {
	t.Helper()
	v := vpptest.Start(t, options...)
	return &env{socket: v.APISocket, stats: v.StatsSocket, dir: v.Dir, real: v}
}

func (e *env) kill() {
	if e.real != nil {
		e.real.Kill()
	} else {
		e.fake.Close()
	}
}

func (e *env) restart(t *testing.T) {
	t.Helper()
	if e.real != nil {
		e.real.Restart()
	} else if err := e.fake.Restart(); err != nil {
		t.Fatal(err)
	}
}

// hang stops it; at the test's end at the latest it goes on.
func (e *env) hang(t *testing.T, hung bool) {
	t.Helper()
	switch {
	case e.fake != nil:
		e.fake.Hang(hung)
	case hung:
		e.real.Stop()
	default:
		e.real.Cont()
	}
}

// client is a client of its own that is connected.
func (e *env) client(t testing.TB, change ...func(*vppapi.Options, *vppapi.Client)) *vppapi.Client {
	t.Helper()
	c := e.started(t, change...)
	if err := c.Up(); err != nil {
		t.Fatal(err)
	}
	return c
}

func (e *env) started(t testing.TB, change ...func(*vppapi.Options, *vppapi.Client)) *vppapi.Client {
	t.Helper()
	o := vppapi.Options{Socket: e.socket, Name: "contract", Timeout: 5 * time.Second, Probe: 200 * time.Millisecond}
	for _, f := range change {
		f(&o, nil)
	}
	c := vppapi.New(o)
	for _, f := range change {
		f(&vppapi.Options{}, c)
	}
	c.Start(t.Context())
	t.Cleanup(c.Stop)
	return c
}

// options and watch change a client before it is started.
func options(f func(*vppapi.Options)) func(*vppapi.Options, *vppapi.Client) {
	return func(o *vppapi.Options, _ *vppapi.Client) { f(o) }
}

func watch(w vppapi.Watcher) func(*vppapi.Options, *vppapi.Client) {
	return func(_ *vppapi.Options, c *vppapi.Client) {
		if c != nil {
			c.Watch(w)
		}
	}
}

var counter atomic.Uint32

// number is one that no other test uses: of a memif's socket, or in a name.
func number() uint32 { return 100 + counter.Add(1) }

func (e *env) path(n uint32) string { return filepath.Join(e.dir, fmt.Sprintf("p%d.sock", n)) }

func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "fake")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func ok(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// refused wants VPP's code.
func refused(t *testing.T, what string, err error, code vppapi.Error) {
	t.Helper()
	var got vppapi.Error
	switch {
	case err == nil:
		t.Errorf("%s: done; want %q (%d)", what, code, int32(code))
	case !errors.As(err, &got) || !errors.Is(err, code):
		t.Errorf("%s: %v (%d); want %q (%d)", what, err, int32(got), code, int32(code))
	}
}

// soon waits for what is told by another goroutine.
func soon(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(vpptest.Patience(10 * time.Second)); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}

// veth makes a pair of the kernel's, or skips the test.
func veth(t *testing.T) (name, peer string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: a veth pair")
	}
	n := number()
	name, peer = fmt.Sprintf("pbc%d-%d", os.Getpid()%10000, n), fmt.Sprintf("pbd%d-%d", os.Getpid()%10000, n)
	run(t, "ip", "link", "add", name, "mtu", "1400", "type", "veth", "peer", "name", peer, "mtu", "1400")
	t.Cleanup(func() { run(t, "ip", "link", "del", name) })
	return name, peer
}

func run(t *testing.T, command ...string) {
	t.Helper()
	if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(command, " "), err, out)
	}
}

// memif makes one that is deleted with the test.
func (e *env) memif(t *testing.T, c *vppapi.Client, tag string) (vppapi.Index, uint32) {
	t.Helper()
	n := number()
	i, err := c.CreateMemif(t.Context(), n, vppapi.Memif{Socket: e.path(n)})
	ok(t, "create memif", err)
	if tag != "" {
		ok(t, "finish", c.Finish(t.Context(), i, vppapi.Setup{Tag: tag}))
	}
	t.Cleanup(func() {
		if c.Up() == nil {
			if err := c.DeleteMemif(context.Background(), i, n); err != nil && !errors.Is(err, vppapi.ErrAway) {
				t.Error(err)
			}
		}
	})
	return i, n
}

// find is an interface as it is listed.
func find(t *testing.T, c *vppapi.Client, index vppapi.Index) vppapi.Interface {
	t.Helper()
	all, err := c.Refresh(t.Context())
	ok(t, "list interfaces", err)
	if i, there := all[index]; there {
		return i
	}
	return vppapi.Interface{Index: vppapi.All}
}

// absent is an index that nothing has.
const absent = vppapi.Index(50000)
