package tests

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.patchbay.dev/tests/lab"
	"go.patchbay.dev/vppapi"
	"go.patchbay.dev/vppapi/vppfake"
)

// fakeSocket is where a fake VPP is to be.
func fakeSocket(t *testing.T) string {
	dir, err := os.MkdirTemp("", "vf-") // t.TempDir's is too long for the name of a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "api.sock")
}

// onSocket has an agent use the VPP at a socket, that has no stats segment.
func onSocket(socket, dataplane string) []lab.Option {
	return []lab.Option{lab.With("dataplane", dataplane), lab.With("vpp.api_socket", socket), lab.With("vpp.stats_socket", socket+".stats"),
		lab.With("vpp.run_dir", filepath.Join(filepath.Dir(socket), "run"))}
}

func startFake(t *testing.T, socket string, options ...vppfake.Option) *vppfake.VPP {
	t.Helper()
	v, err := vppfake.Start(socket, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

// fakeWorld is all that a fake VPP has, without the numbers that mean nothing.
func fakeWorld(v *vppfake.VPP) string {
	all := v.Interfaces()
	name := map[vppapi.Index]string{}
	for _, i := range all {
		if name[i.Index] = i.Tag; i.Tag == "" {
			name[i.Index] = i.Name
		}
	}
	var lines []string
	for _, i := range all {
		var l3 []string
		for _, p := range i.L3 {
			l3 = append(l3, fmt.Sprintf("%s via %v ip6 %v", name[p.To], p.NextHop, p.IPv6))
		}
		for _, n := range i.Fixed {
			l3 = append(l3, fmt.Sprintf("%v is at %x", n.Address, n.MAC))
		}
		slices.Sort(l3)
		lines = append(lines, fmt.Sprintf("%s %s mac %x mtu %d up %v rx %d ip6 %v socket %s secret %q to %s, %v",
			name[i.Index], i.Device, i.MAC, i.MTU, i.AdminUp, i.RxMode, i.IP6, i.Socket, i.Secret, name[i.L2], l3))
	}
	slices.Sort(lines)
	return strings.Join(append(lines, v.Sockets()...), "\n")
}

// broken is one kind of connection and all the moments at which VPP may go.
type broken struct {
	name, payload    string
	client, endpoint func(t *testing.T) end
}

func memifEnd(addresses ...string) func(*testing.T) end {
	return func(*testing.T) end { return end{mechanism: "MEMIF", addresses: addresses} }
}

func vhostEnd(addresses ...string) func(*testing.T) end {
	return func(*testing.T) end { return end{mechanism: "VHOST_USER", addresses: addresses} }
}

var allBroken = []broken{
	{"memif to memif", "ETHERNET", memifEnd(), memifEnd()},
	{"memif to memif, IP", "IP", memifEnd(), memifEnd()},
	{"kernel to memif", "ETHERNET", func(t *testing.T) end { return kernelEnd(t, "nsm0", "10.60.0.1/24") }, memifEnd()},
	{"kernel to memif, IP", "IP", func(t *testing.T) end { return kernelEnd(t, "nsm0", "10.60.0.1/32") }, memifEnd("10.60.0.2/32")},
	{"vhost-user to memif", "ETHERNET", vhostEnd(), memifEnd()},
	{"vhost-user to memif, IP", "IP", vhostEnd("10.60.0.1/32", "fd60::1/128"), memifEnd("10.60.0.2/32")},
	{"vhost-user to vhost-user, IP", "IP", vhostEnd("10.60.0.1/32"), vhostEnd("10.60.0.2/32")},
}

// breaking is one story under way: an agent, a fake VPP, and what it has when all is well.
type breaking struct {
	broken
	t           *testing.T
	a           *lab.Agent
	v           *vppfake.VPP
	record      string
	whole       string // what VPP has with the connection, and without
	empty       string
	makes, ends int // mutating messages of a connect, and of a close
}

func newBreaking(t *testing.T, b broken) *breaking {
	socket := fakeSocket(t)
	k := &breaking{broken: b, t: t, v: startFake(t, socket, vppfake.Without(vppapi.TapPlugin)), a: lab.StartAgent(t, onSocket(socket, "vpp")...)}
	k.empty = fakeWorld(k.v)
	before := len(k.v.Mutations())
	connectEnds(t, k.a, "c1", b.payload, 0, b.client(t), b.endpoint(t))
	k.whole = fakeWorld(k.v)
	k.record = k.a.Etcdctl("get", "--print-value-only", "/patchbay/v1/nodes/n1/crossconnects/c1")
	k.makes = len(k.v.Mutations()) - before
	k.remove()
	k.awaitEmpty("a close")
	k.ends = len(k.v.Mutations()) - before - k.makes
	return k
}

func (k *breaking) put()    { put(k.a, "c1", k.record) }
func (k *breaking) remove() { k.a.Etcdctl("del", "/patchbay/v1/nodes/n1/crossconnects/c1") }

func (k *breaking) await(what, world string) {
	k.t.Helper()
	lab.Eventually(k.t, 20*time.Second, what, func() error {
		if now := fakeWorld(k.v); now != world {
			return fmt.Errorf("VPP has:\n%s\nwant:\n%s", now, world)
		}
		return nil
	})
}

func (k *breaking) awaitWhole(when string) {
	k.t.Helper()
	k.await("all of it after "+when, k.whole)
	awaitState(k.t, k.a, "c1", func(s linkStatus) bool { return s.State == "DOWN" || s.State == "UP" })
	if now := fakeWorld(k.v); now != k.whole {
		k.t.Errorf("after %s VPP has:\n%s\nwant:\n%s", when, now, k.whole)
	}
}

func (k *breaking) awaitEmpty(when string) {
	k.t.Helper()
	k.await("nothing after "+when, k.empty)
	k.a.Eventually(20*time.Second, "no status after "+when, func() error {
		if _, err := readStatus(k.a, "c1"); err == nil {
			return errors.New("there is one")
		}
		return nil
	})
	if files, err := filepath.Glob(filepath.Dir(k.v.Socket()) + "/run/[^.]*"); err != nil || len(files) > 0 {
		k.t.Errorf("after %s there are the files %v, %v", when, files, err)
	}
}

// strike has a fault befall VPP at a message, does something, and waits until it has.
func (k *breaking) strike(n int, f vppfake.Fault, do func()) (when string) {
	k.t.Helper()
	k.v.Strike(n, f, f == vppfake.Cut)
	do()
	lab.Eventually(k.t, 10*time.Second, fmt.Sprintf("the fault at message %d", n), func() error {
		if !k.v.Struck() {
			return errors.New("it has not come")
		}
		return nil
	})
	all := k.v.Mutations()
	return fmt.Sprintf("fault %d at message %d (%s was the last)", f, n, all[len(all)-1])
}

// VPP dies, or drops the agent and keeps what it has, at every single message of a
// connect and of a close: what is there in the end is what is on record, no more and no less.
func TestVPPGoesInTheMiddleOfEachCall(t *testing.T) {
	for _, b := range allBroken {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			k := newBreaking(t, b)
			t.Logf("%d messages to connect, %d to close", k.makes, k.ends)
			for _, fault := range []vppfake.Fault{vppfake.Die, vppfake.Cut} {
				again := func() {
					if fault == vppfake.Die {
						if err := k.v.Restart(); err != nil {
							t.Fatal(err)
						}
					}
				}
				for n := 1; n <= k.makes; n++ {
					if testing.Short() && n%3 != 0 {
						continue
					}
					when := "connect, " + k.strike(n, fault, k.put)
					again()
					k.awaitWhole(when)
					k.remove()
					k.awaitEmpty(when)
				}
				for n := 1; n <= k.ends; n++ {
					if testing.Short() && n%3 != 0 {
						continue
					}
					k.put()
					k.awaitWhole("connect")
					when := "close, " + k.strike(n, fault, k.remove)
					again()
					k.awaitEmpty(when)
				}
			}
		})
	}
}

// VPP is stopped for longer than a call may take, and then does what it was asked
// meanwhile: nothing is made twice.
func TestVPPHangsInTheMiddleOfACall(t *testing.T) {
	for _, at := range []struct {
		kind int
		n    int // of the connect's messages, from the end if negative
	}{{0, 2}, {0, 3}, {3, -1}, {5, 3}} {
		b := allBroken[at.kind]
		t.Run(fmt.Sprintf("%s at %d", b.name, at.n), func(t *testing.T) {
			t.Parallel() // most of it is waiting
			k := newBreaking(t, b)
			n := at.n
			if n < 0 {
				n += k.makes + 1
			}
			when := k.strike(n, vppfake.Freeze, k.put)
			awaitState(t, k.a, "c1", func(s linkStatus) bool { return s.State == "FAILED" })
			k.v.Hang(false)
			k.awaitWhole(when)
			late := strings.Count(k.a.Log(), "not answered in time")
			when = "close, " + k.strike(1, vppfake.Freeze, k.remove)
			lab.Eventually(t, 10*time.Second, "the call to be given up", func() error {
				if strings.Count(k.a.Log(), "not answered in time") == late {
					return errors.New("it is not")
				}
				return nil
			})
			k.v.Hang(false)
			k.awaitEmpty(when)
		})
	}
}

// The same at every kind of message that there is, which takes minutes: most of it is
// waiting for calls to be given up.
func TestVPPHangsInTheMiddleOfEachKindOfCall(t *testing.T) {
	if kills(t) <= 30 {
		t.Skip("it takes minutes; make chaos has it")
	}
	var seen sync.Map
	for _, b := range allBroken {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			k := newBreaking(t, b)
			all := k.v.Mutations()
			all = all[len(all)-k.makes-k.ends:]
			for n, name := range all {
				if _, twice := seen.LoadOrStore(fmt.Sprint(n < k.makes, name), true); twice {
					continue
				}
				late := strings.Count(k.a.Log(), "not answered in time")
				var when string
				if n < k.makes {
					when = "connect, " + k.strike(n+1, vppfake.Freeze, k.put)
				} else {
					k.put()
					k.awaitWhole("connect")
					when = "close, " + k.strike(n-k.makes+1, vppfake.Freeze, k.remove)
				}
				lab.Eventually(t, 15*time.Second, "the call to be given up at "+when, func() error {
					if strings.Count(k.a.Log(), "not answered in time") == late {
						return errors.New("it is not")
					}
					return nil
				})
				k.v.Hang(false)
				if n < k.makes {
					k.awaitWhole(when)
					k.remove()
				}
				k.awaitEmpty(when)
			}
		})
	}
}

// The agent dies after VPP has made an interface and before it has its tag: the next
// agent finishes the one that is there, or removes it when nobody wants it.
func TestAgentIsKilledBetweenCreateAndTag(t *testing.T) {
	k := newBreaking(t, allBroken[0])
	k.v.Strike(2, vppfake.Freeze, true)
	k.put()
	lab.Eventually(t, 10*time.Second, "the first interface", func() error {
		if !k.v.Struck() {
			return errors.New("it is not there")
		}
		return nil
	})
	k.a.Kill()
	k.v.Hang(false)
	lab.Eventually(t, 5*time.Second, "all that the agent has sent to be carried out", func() error {
		if n := k.v.Clients(); n > 0 {
			return fmt.Errorf("%d clients", n)
		}
		return nil
	})
	all := k.v.Interfaces() // one, or the other, too, if it was asked for before the end
	there := len(all)
	if there == 0 || all[0].Tag != "" || all[there-1].Tag != "" {
		t.Fatalf("VPP has %+v, want interfaces without a tag", all)
	}
	made := func() (n int) {
		for _, m := range k.v.Mutations() {
			if m == "memif_create_v2" {
				n++
			}
		}
		return n
	}
	before := made()
	k.a.Start()
	k.a.WaitReady()
	k.awaitWhole("the agent's end")
	if n := made() - before; n != 2-there {
		t.Errorf("%d interfaces were made, %d were there", n, there)
	}
	k.remove()
	k.awaitEmpty("the agent's end")
}

// The same on the real VPP, where the tags are taken away, and with interfaces that look
// like ours and that nobody wants.
func TestUntaggedInterfacesAreFinishedOrRemoved(t *testing.T) {
	a, v, client, _ := vppSetup(t)
	lab.Run(t, "ip", "link", "add", "pb0123456789", "type", "veth", "peer", "name", "pbx")
	t.Cleanup(func() { lab.Run(t, "ip", "link", "del", "pbx") })
	want := dumpVPP(v)
	s, err := readStatus(a, "c1")
	if err != nil {
		t.Fatal(err)
	}
	a.Kill()
	for _, dir := range []string{"gone"} {
		if err := os.Mkdir(filepath.Join(a.RunDir(), dir), 0o711); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []string{
		"clear interface tag " + s.Client.Interface,
		"clear interface tag " + s.Endpoint.Interface,
		"create memif socket id 9 filename " + filepath.Join(a.RunDir(), "gone/memif.sock"),
		"create interface memif id 0 socket-id 9 master",
		"create host-interface name pb0123456789",
	} {
		if out := v.CLI(c); strings.Contains(out, "error") || strings.Contains(out, "unknown") {
			t.Fatalf("%s: %s", c, out)
		}
	}
	if out := v.CLI("show interface"); !strings.Contains(out, "host-pb0123456789") || !strings.Contains(out, "memif9/0") {
		t.Fatalf("VPP has %s", out)
	}
	a.Start()
	a.WaitReady()
	lab.Eventually(t, 10*time.Second, "VPP as it was", func() error {
		if now := dumpVPP(v); strings.Contains(now, "pb0123456789") || strings.Contains(now, "memif9/0") || strings.Count(now, "\n") != strings.Count(want, "\n") {
			return fmt.Errorf("it is:\n%s\nand was:\n%s", now, want)
		}
		return nil
	})
	awaitState(t, a, "c1", func(s linkStatus) bool { return s.State == "UP" })
	client.ns.Ping(t, "10.60.0.2") // the workload of the memif has not even noticed
}

// requestMemif asks for a service over MEMIF and gives the error.
func requestMemif(client *lab.Client, id string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err := client.Request(ctx, lab.MemifRequest(id, "fw"))
	return err
}

// Without VPP's socket MEMIF is refused by its name, KERNEL is served, and when VPP comes
// the running agent uses it.
func TestVPPComesAfterTheAgent(t *testing.T) {
	for _, dataplane := range []string{"vpp", "auto"} {
		t.Run(dataplane, func(t *testing.T) {
			socket := fakeSocket(t)
			a := lab.StartAgent(t, onSocket(socket, dataplane)...)
			client := lab.NewClient(t, a.Dial())
			lab.NewEndpoint(t, a, "fw-1").Accept("MEMIF").Register(a.Dial(), "fw")
			if err := requestMemif(client, "c1"); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), socket) {
				t.Errorf("the answer without VPP is %v", err)
			}
			put(a, "waits", `{"client":{"mechanism":{"type":"MEMIF"}},"endpoint":{"mechanism":{"type":"MEMIF"}}}`)
			awaitState(t, a, "waits", func(s linkStatus) bool { return s.State == "FAILED" && strings.Contains(s.Reason, socket) })
			left, right := lab.NewNamespace(t), lab.NewNamespace(t)
			put(a, "kernel", record("kernel", left, right, ""))
			awaitStatus(t, a, "kernel", "UP")
			startFake(t, socket)
			awaitState(t, a, "waits", func(s linkStatus) bool { return s.State == "DOWN" })
			if err := requestMemif(client, "c1"); err != nil {
				t.Errorf("the answer with VPP is %v", err)
			}
			left.Ping(t, "10.60.0.2")
		})
	}
}

// A VPP of another release is not touched; the answers name both, and what needs no VPP
// is served.
func TestVPPOfAnotherRelease(t *testing.T) {
	for _, dataplane := range []string{"vpp", "auto"} {
		t.Run(dataplane, func(t *testing.T) {
			socket := fakeSocket(t)
			v := startFake(t, socket, vppfake.WithVersion("26.02-release"), vppfake.WithCRC("sw_interface_dump", "deadbeef"))
			a := lab.StartAgent(t, onSocket(socket, dataplane)...)
			client := lab.NewClient(t, a.Dial())
			lab.NewEndpoint(t, a, "fw-1").Accept("MEMIF").Register(a.Dial(), "fw")
			err := requestMemif(client, "c1")
			for _, says := range []string{"26.02", vppapi.Release, "sw_interface_dump"} {
				if !strings.Contains(fmt.Sprint(err), says) {
					t.Errorf("the answer does not say %s: %v", says, err)
				}
			}
			left, right := lab.NewNamespace(t), lab.NewNamespace(t)
			put(a, "kernel", record("kernel", left, right, ""))
			awaitStatus(t, a, "kernel", "UP")
			left.Ping(t, "10.60.0.2")
			if m := v.Mutations(); len(m) > 0 {
				t.Errorf("the agent has changed it: %v", m)
			}
			if n := strings.Count(a.Log(), "26.02"); n > 10 {
				t.Errorf("the log says so %d times", n)
			}
		})
	}
}

// Without the stats segment there are no counters, and nothing else is missing.
func TestNoStatsSegment(t *testing.T) {
	a, _ := lab.StartOnVPP(t, lab.With("vpp.stats_socket", "/nowhere/stats.sock"))
	client := kernelEnd(t, "nsm0", "10.60.0.1/24")
	s := connectEnds(t, a, "c1", "ETHERNET", 0, client, end{mechanism: "MEMIF"})
	lab.StartTestpmd(t, lab.MemifDevice(s.Endpoint.Parameters["socketfile"]), "icmpecho")
	awaitState(t, a, "c1", func(s linkStatus) bool { return s.State == "UP" })
	client.ns.Ping(t, "10.60.0.2")
	before := len(a.Log())
	for range 50 {
		for name := range scrape(a) {
			if strings.HasPrefix(name, "patchbay_connection_receive_packets_total") && strings.Contains(name, `side="endpoint"`) {
				t.Fatalf("there is %s", name)
			}
		}
		r, err := a.Get("/readyz")
		if err != nil || r.StatusCode != http.StatusOK {
			t.Fatalf("readyz: %v, %v", r, err)
		}
		r.Body.Close()
	}
	if out := a.Patchbay("describe", "crossconnect", "c1"); !strings.Contains(out, "UP") {
		t.Errorf("described is %s", out)
	}
	if !strings.Contains(a.Log(), "vpp.stats_socket") {
		t.Error("nobody is told why there are no counters")
	}
	if more := a.Log()[before:]; strings.Count(more, "\n") > 5 {
		t.Errorf("the log grows:\n%s", more)
	}
}

// The connection to a VPP that goes on with all that it holds may end: the statuses say so, and that all is well
// again as soon as it is.
func TestTheConnectionToVPPIsCut(t *testing.T) {
	socket := fakeSocket(t)
	v := startFake(t, socket, vppfake.Without(vppapi.TapPlugin))
	a := lab.StartAgent(t, onSocket(socket, "vpp")...)
	connectEnds(t, a, "c1", "ETHERNET", 0, memifEnd()(t), memifEnd()(t))
	for _, side := range []string{"client", "endpoint"} {
		if err := v.SetLink("patchbay:c1:"+side, true); err != nil {
			t.Fatal(err)
		}
	}
	awaitState(t, a, "c1", func(s linkStatus) bool { return s.State == "UP" })
	v.Strike(1, vppfake.Cut, false)
	connectEnds(t, a, "c2", "ETHERNET", 0, memifEnd()(t), memifEnd()(t)) // its status is written after that of c1
	if !v.Struck() {
		t.Fatal("the connection was not cut")
	}
	awaitState(t, a, "c1", func(s linkStatus) bool { return s.State == "UP" })
}
