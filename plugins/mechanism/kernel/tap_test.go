package kernel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/linux/nstest"
	"go.patchbay.dev/plugins/reconcile"
	"go.patchbay.dev/vppapi"
	"go.patchbay.dev/vppapi/vppfake"
	"go.patchbay.dev/vppapi/vpptest"
)

// fakeVPP is a VPP in memory whose taps are real at the kernel's end.
func fakeVPP(t *testing.T) *vppfake.VPP {
	t.Helper()
	nstest.Need(t)
	return vpptest.Fake(t, vppfake.WithTaps(func(tap vppapi.Tap) (io.Closer, error) {
		return nstest.Tap(tap.NetNS, tap.Name, tap.TUN, tap.HostMAC, tap.MTU)
	}))
}

// device stands for /dev/vhost-net where it is to be found, or not.
const device, noDevice = "/dev/null", "/dev/not-there"

// A vppNode is a node whose cross-connects are attached to VPP at the client's side.
type vppNode struct {
	*node
	vpp *vppapi.Client
}

func startOnVPP(t *testing.T, v *vppfake.VPP, device string, records ...*models.CrossConnect) (n *vppNode, stop func()) {
	t.Helper()
	ns, err := linux.New(options(t))
	check(t, err)
	c := vppapi.New(vppapi.Options{Socket: v.Socket(), Name: "kernel", Timeout: 5 * time.Second})
	m := New(ns, nil).WithVPP(c, vppapi.Adaptive, nil, vppapi.AnyRoom)
	m.taps.device = device
	n = &vppNode{node: &node{t: t, ns: ns, m: m, statuses: map[string]reconcile.Status{}, told: make(chan struct{}, 1)}, vpp: c}
	n.e = reconcile.New(reconcile.Options{MinBackoff: 10 * time.Millisecond, MaxBackoff: 100 * time.Millisecond, OnStatus: n.status})
	m.Register(n.e, func(string) {})
	c.Watch(vppapi.Watcher{Up: func() { go n.e.Resync(context.Background(), m.Kinds()...) }})
	check(t, ns.Start())
	c.Start(t.Context())
	check(t, c.Up())
	for _, x := range records {
		n.attach(x)
	}
	check(t, n.e.Start(context.Background()))
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			n.e.Stop()
			c.Stop()
			check(t, ns.Close())
		}
	}
	t.Cleanup(stop)
	n.settle()
	return n, stop
}

// attach wants a cross-connect's client attached.
func (n *vppNode) attach(x *models.CrossConnect) models.Port {
	n.t.Helper()
	port, values, err := n.m.Attach(x, models.ClientSide)
	check(n.t, err)
	n.e.Apply(reconcile.Change{Group: x.Id, Values: values})
	return port
}

func (n *vppNode) attached(x *models.CrossConnect) models.Port {
	n.t.Helper()
	port := n.attach(x)
	n.is(x.Id, reconcile.Applied, "")
	n.join(port.Tag)
	return port
}

// join sets a port up, as whoever joins it to another does.
func (n *vppNode) join(tag string) {
	n.t.Helper()
	i, ok := n.vpp.Tagged(tag)
	if !ok {
		n.t.Fatalf("VPP has no %s", tag)
	}
	check(n.t, n.vpp.ConnectL2(n.t.Context(), i.Index, i.Index))
}

// inVPP are the interfaces of the fake as "name tag state".
func inVPP(v *vppfake.VPP) (all []string) {
	for _, i := range v.Interfaces() {
		all = append(all, fmt.Sprintf("%s %s %v %d", i.Name, i.Tag, i.AdminUp, i.MTU))
	}
	return all
}

func wantInVPP(t *testing.T, v *vppfake.VPP, want ...string) {
	t.Helper()
	if got := inVPP(v); !slices.Equal(got, want) {
		t.Errorf("VPP has %q; want %q", got, want)
	}
}

// tapped is a cross-connect with one of everything at the client.
func tapped(ns string) *models.CrossConnect {
	x := full(ns, "/run/netns/elsewhere")
	x.Endpoint.Mechanism = &models.Mechanism{Type: "MEMIF"}
	return x
}

const c1InVPP = "tap0 patchbay:c1:client true 1400"

func TestATapIsMadeAndUndone(t *testing.T) {
	v, a := fakeVPP(t), nstest.New(t)
	n, _ := startOnVPP(t, v, device)
	x := tapped(a)
	port := n.attached(x)
	mac := linux.Tag{ID: "c1", Side: linux.Client}.MAC()
	if !port.Ethernet || port.Tag != "patchbay:c1:client" || port.MAC != mac || len(port.Addresses) != 2 {
		t.Errorf("port %+v", port)
	}
	for _, text := range []string{"mtu 1400", "alias patchbay:c1:client", "UP,LOWER_UP", mac.String(), "!group default"} {
		has(t, a, "ip link show nsm0", text)
	}
	has(t, a, "ip address show nsm0", "10.60.0.1/24")
	has(t, a, "ip route", "10.61.0.0/16 via 10.60.0.2 dev nsm0")
	has(t, a, "ip rule", "20000")
	wantInVPP(t, v, c1InVPP)
	if s := n.m.Status(x, models.ClientSide); s.Interface != "tap0" || !s.LinkUp || s.Parameters[PortKind] != PortTap {
		t.Errorf("status %+v", s)
	}
	if v.Interfaces()[0].RxMode != vppapi.Adaptive {
		t.Error("it polls")
	}
	n.untouched("applied again", func() { n.attached(x) })
	n.remove("c1")
	nothing(t, a)
	has(t, a, "ip link", "!nsm0")
	has(t, a, "ip rule", "!20000")
	wantInVPP(t, v)
}

func TestATUNForIP(t *testing.T) {
	v, a := fakeVPP(t), nstest.New(t)
	n, stop := startOnVPP(t, v, device)
	x := cross("c1", end(a, "nsm0", "10.60.0.1/32"), end("elsewhere", "", "10.60.0.2/32"))
	x.Payload = models.IP
	if port := n.attached(x); port.Ethernet || port.MAC != [6]byte{} {
		t.Errorf("port %+v", port)
	}
	has(t, a, "ip link show nsm0", "POINTOPOINT")
	has(t, a, "ip link show nsm0", "link/none")
	has(t, a, "ip route", "10.60.0.2 dev nsm0")
	has(t, a, "ip neighbour", "!10.60.0.2")
	if s := n.m.Status(x, models.ClientSide); s.Interface != "tun0" || s.Parameters[PortKind] != PortTUN {
		t.Errorf("status %+v", s)
	}
	if i := v.Interfaces()[0]; !i.IP6 || i.MTU != 1500 {
		t.Errorf("%+v", i)
	}
	stop()
	before := len(v.Mutations())
	n, _ = startOnVPP(t, v, device, x)
	n.is("c1", reconcile.Applied, "")
	if calls := v.Mutations()[before:]; len(calls) != 0 || n.ns.Mutations() != 0 {
		t.Errorf("started again: %v, and %d calls to the kernel", calls, n.ns.Mutations())
	}
	// An address of its own takes an Ethernet interface.
	x.Client.Mac = "02:00:00:00:00:09"
	if port := n.attached(x); !port.Ethernet || port.MAC != [6]byte{2, 0, 0, 0, 0, 9} {
		t.Errorf("port %+v", port)
	}
	has(t, a, "ip neighbour", "10.60.0.2 dev nsm0 lladdr")
	wantInVPP(t, v, "tap0 patchbay:c1:client true 1500")
}

func TestTapsAreAdopted(t *testing.T) {
	v, a := fakeVPP(t), nstest.New(t)
	x, y := tapped(a), cross("c2", end(a, "second", "10.7.0.1/24"), end("elsewhere", ""))
	n, stop := startOnVPP(t, v, device)
	n.attached(x)
	n.attached(y)
	stop()
	before := len(v.Mutations())
	n, stop = startOnVPP(t, v, device, x, y)
	n.is("c1", reconcile.Applied, "")
	n.is("c2", reconcile.Applied, "")
	if calls := v.Mutations()[before:]; len(calls) != 0 || n.ns.Mutations() != 0 {
		t.Errorf("started again: %v, and %d calls to the kernel", calls, n.ns.Mutations())
	}
	if s := n.m.Status(x, models.ClientSide); s.Interface != "tap0" || !s.LinkUp {
		t.Errorf("status %+v", s)
	}
	stop()
	startOnVPP(t, v, device, x) // what nobody wants any more goes
	wantInVPP(t, v, c1InVPP)
	has(t, a, "ip link", "!second")
	has(t, a, "ip address show nsm0", "10.60.0.1/24")
}

// An agent that died between two calls: VPP has made the tap and tagged it, and nobody
// has marked the kernel's end.
func TestATapThatWasNotFinished(t *testing.T) {
	for _, wanted := range []bool{true, false} {
		t.Run(fmt.Sprint(wanted), func(t *testing.T) {
			v, a := fakeVPP(t), nstest.New(t)
			n, stop := startOnVPP(t, v, device)
			file, err := n.ns.File(a)
			check(t, err)
			_, err = n.vpp.CreateTap(t.Context(), vppapi.Tap{
				Tag: "patchbay:c1:client", Name: "nsm0", NetNS: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), file.Fd()), MTU: 1400,
			})
			check(t, err)
			check(t, file.Close())
			stop()
			if !wanted {
				startOnVPP(t, v, device)
				wantInVPP(t, v)
				has(t, a, "ip link", "!nsm0")
				return
			}
			n, _ = startOnVPP(t, v, device, tapped(a))
			n.is("c1", reconcile.Applied, "")
			n.join("patchbay:c1:client")
			wantInVPP(t, v, c1InVPP)
			has(t, a, "ip link show nsm0", "alias patchbay:c1:client")
		})
	}
}

func TestVPPRestartsAndTheTapIsMadeAgain(t *testing.T) {
	v, a := fakeVPP(t), nstest.New(t)
	n, _ := startOnVPP(t, v, device)
	n.attached(tapped(a))
	v.Close()
	n.wait("the tap to go", func() bool { return !strings.Contains(in(t, a, "ip link"), "nsm0") })
	time.Sleep(100 * time.Millisecond)
	n.is("c1", reconcile.Applied, "") // nobody can do anything about it
	check(t, v.Restart())
	n.wait("the tap to be back", func() bool {
		return strings.Contains(in(t, a, "ip link"), "nsm0") && strings.Contains(in(t, a, "ip address show nsm0"), "10.60.0.1/24")
	})
	n.is("c1", reconcile.Applied, "")
	n.join("patchbay:c1:client")
	has(t, a, "ip route", "10.61.0.0/16 via 10.60.0.2 dev nsm0")
	wantInVPP(t, v, c1InVPP)
}

func TestDamageToATapIsMended(t *testing.T) {
	v, a := fakeVPP(t), nstest.New(t)
	n, _ := startOnVPP(t, v, device)
	n.attached(tapped(a))
	address := func() bool {
		out, err := nstest.Try(a, "ip", "address", "show", "nsm0")
		return err == nil && strings.Contains(out, "10.60.0.1/24") && strings.Contains(out, "UP,LOWER_UP") &&
			strings.Contains(in(t, a, "ip route"), "10.61.0.0/16 via 10.60.0.2")
	}
	for _, damage := range []string{"ip link del nsm0", "ip link set nsm0 down", "ip link set nsm0 mtu 1300", "ip link set nsm0 alias x"} {
		in(t, a, damage)
		n.wait("mended after "+damage, address)
		n.settle()
		has(t, a, "ip link show nsm0", "mtu 1400")
		has(t, a, "ip link show nsm0", "alias patchbay:c1:client")
	}
	i, _ := n.vpp.Tagged("patchbay:c1:client")
	check(t, n.vpp.DeleteTap(t.Context(), i.Index))
	n.wait("mended after VPP's end was deleted", address)
	n.settle()
	if got := inVPP(v); len(got) != 1 {
		t.Errorf("VPP has %q", got)
	}
}

func TestTheNamespaceOfATapGoes(t *testing.T) {
	v, dir := fakeVPP(t), t.TempDir()
	a := filepath.Join(dir, "a")
	nstest.At(t, a)
	n, _ := startOnVPP(t, v, device)
	n.attached(tapped(a))
	nstest.Delete(t, a)
	n.wait("the tap to go", func() bool { return len(v.Interfaces()) == 0 })
	n.is("c1", reconcile.Pending, "waits for the network namespace")
	nstest.At(t, a)
	n.is("c1", reconcile.Applied, "")
	n.join("patchbay:c1:client")
	has(t, a, "ip address show nsm0", "10.60.0.1/24")
	wantInVPP(t, v, c1InVPP)
}

// VPP would join a tap that somebody else has made, as one more of its queues.
func TestATapsNameIsTaken(t *testing.T) {
	v, a := fakeVPP(t), nstest.New(t)
	n, _ := startOnVPP(t, v, device)
	theirs, err := nstest.Tap(a, "nsm0", false, [6]byte{2, 1}, 1500)
	check(t, err)
	n.attach(tapped(a))
	n.is("c1", reconcile.Failed, "by an interface that is not Patchbay's")
	wantInVPP(t, v)
	check(t, theirs.Close())
	n.is("c1", reconcile.Applied, "")
}

// A node that has had no device and then has one recreates what it finds, either way.
func TestFromVethToTapAndBack(t *testing.T) {
	v, a := fakeVPP(t), nstest.New(t)
	x := tapped(a)
	x.Id = fmt.Sprintf("v%d", os.Getpid()) // the outer end is among those of all tests on this machine
	n, stop := startOnVPP(t, v, noDevice)
	n.attached(x)
	if s := n.m.Status(x, models.ClientSide); !strings.HasPrefix(s.Interface, "host-pb") || s.Parameters[PortKind] != PortAFPacket {
		t.Errorf("status %+v", s)
	}
	stop()
	n, stop = startOnVPP(t, v, device, x)
	n.is(x.Id, reconcile.Applied, "")
	n.settle()
	n.join(models.Tag(x.Id, models.ClientSide))
	wantInVPP(t, v, "tap0 "+models.Tag(x.Id, models.ClientSide)+" true 1400")
	has(t, a, "ip address show nsm0", "10.60.0.1/24")
	has(t, a, "ip route", "10.61.0.0/16 via 10.60.0.2 dev nsm0")
	stop()
	n, _ = startOnVPP(t, v, noDevice, x)
	n.is(x.Id, reconcile.Applied, "")
	n.settle()
	if got := inVPP(v); len(got) != 1 || !strings.HasPrefix(got[0], "host-pb") {
		t.Errorf("VPP has %q", got)
	}
	has(t, a, "ip address show nsm0", "10.60.0.1/24")
}

func TestVPPSaysNoToATap(t *testing.T) {
	v, a := fakeVPP(t), nstest.New(t)
	n, _ := startOnVPP(t, v, device)
	v.Refuse("sw_interface_set_mtu", -1)
	n.attach(tapped(a))
	n.is("c1", reconcile.Failed, "sw_interface_set_mtu")
	v.ClearRefusals()
	n.is("c1", reconcile.Applied, "")
	n.join("patchbay:c1:client")
	wantInVPP(t, v, c1InVPP)
	n.remove("c1")
	wantInVPP(t, v)
}

// VPP stops after it has made the tap, and is not heard to say how that is.
func TestVPPStallsWhileATapIsFinished(t *testing.T) {
	v, a := fakeVPP(t), nstest.New(t)
	n, _ := startOnVPP(t, v, device)
	v.Strike(2, vppfake.Freeze, false)
	n.attach(tapped(a))
	n.is("c1", reconcile.Failed, "")
	v.Hang(false)
	n.is("c1", reconcile.Applied, "")
	n.join("patchbay:c1:client")
	wantInVPP(t, v, c1InVPP)
	has(t, a, "ip link show nsm0", "alias patchbay:c1:client")
}

// VPP keeps the namespace of its taps alive: that nobody is in it any more must be noticed
// all the same.
func TestTheProcessOfATapsNamespaceEnds(t *testing.T) {
	v := fakeVPP(t)
	n, _ := startOnVPP(t, v, device)
	pid, end := nstest.Process(t)
	path := fmt.Sprintf("/proc/%d/ns/net", pid)
	f, err := os.Open(path)
	check(t, err)
	ref, err := n.ns.FromDescriptor(f, pid)
	check(t, errors.Join(err, f.Close()))
	x := tapped(ref)
	n.attached(x)
	wantInVPP(t, v, c1InVPP)
	end()
	n.wait("the tap to go", func() bool { return len(v.Interfaces()) == 0 })
	n.is("c1", reconcile.Pending, "waits for the network namespace")
}
