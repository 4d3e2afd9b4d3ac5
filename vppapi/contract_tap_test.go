package vppapi_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/tapv2"

	"go.patchbay.dev/plugins/linux/nstest"
	"go.patchbay.dev/tests/report"
	"go.patchbay.dev/vppapi"
	"go.patchbay.dev/vppapi/vppfake"
)

// What vppapi promises of taps. The real VPP needs /dev/vhost-net; tests/vm runs this in
// a machine that has it.
func TestTapContract(t *testing.T) {
	nstest.Need(t)
	t.Run("fake", func(t *testing.T) { tapContract(t, onFake(t, vppfake.WithTaps(makeTap))) })
	t.Run("vpp", func(t *testing.T) {
		if _, err := os.Stat("/dev/vhost-net"); err != nil {
			report.Skip(t, "vhost-net", "VPP's taps need /dev/vhost-net; make test-vm has it")
		}
		tapContract(t, onVPP(t))
	})
}

// makeTap is the kernel's end of the fake's taps.
func makeTap(t vppapi.Tap) (io.Closer, error) {
	return nstest.Tap(t.NetNS, t.Name, t.TUN, t.HostMAC, t.MTU)
}

func tapContract(t *testing.T, e *env) {
	for _, c := range []struct {
		name string
		test func(*testing.T, *env)
	}{
		{"a tap is made, listed and deleted", tapLife},
		{"a TUN", tunLife},
		{"a tap that cannot be", tapRefused},
		{"a tap whose kernel's end is deleted first", tapHalf},
		{"a tap goes with VPP", tapGoes},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, e) })
	}
}

// tapNamed is a tap of the test's own in VPP's namespace.
func tapNamed(tag string) vppapi.Tap {
	return vppapi.Tap{
		Tag: tag, Name: fmt.Sprintf("pbt%d-%d", os.Getpid()%10000, number()), MAC: [6]byte{2, 0, 0, 0, 3, 1}, HostMAC: [6]byte{2, 0, 0, 0, 3, 2}, MTU: 1400,
	}
}

func tapLife(t *testing.T, e *env) {
	c, ns := e.client(t), nstest.New(t)
	tap := tapNamed("patchbay:tap:0")
	tap.NetNS = fmt.Sprintf("/proc/%d/root%s", os.Getpid(), ns)
	if len(tap.NetNS) > vppapi.MaxTapPath {
		short := filepath.Join(shortDir(t), "ns")
		nstest.At(t, short)
		ns, tap.NetNS = short, short
	}
	i, err := c.CreateTap(t.Context(), tap)
	ok(t, "create", err)
	if got := find(t, c, i); !strings.HasPrefix(got.Name, "tap") || got.Device != "virtio" || got.MAC != tap.MAC || got.Tag != tap.Tag || got.AdminUp || !got.LinkUp || got.MTU != 9000 {
		t.Errorf("%+v", got)
	}
	for _, want := range []string{"02:00:00:00:03:02", "mtu 1400", "UP,LOWER_UP", "group default"} {
		if out := nstest.Run(t, ns, "ip", "link", "show", tap.Name); !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if _, err := net.InterfaceByName(tap.Name); err == nil {
		t.Error("it is in VPP's own namespace")
	}
	all, err := c.Taps(t.Context())
	ok(t, "list", err)
	want := vppapi.TapFound{Index: i, Tap: tap}
	want.Tag, want.MAC = "", [6]byte{} // the interface's
	if len(all) != 1 || all[0] != want {
		t.Errorf("listed as %+v; want %+v", all, want)
	}
	for range 2 {
		ok(t, "finish", c.Finish(t.Context(), i, vppapi.Setup{Tag: tap.Tag, MTU: 1400, RxMode: vppapi.Adaptive}))
	}
	if got, there := c.Tagged(tap.Tag); !there || got.MTU != 1400 || !got.AdminUp || !got.LinkUp {
		t.Errorf("after finish: %+v", got)
	}
	for range 2 {
		ok(t, "delete", c.DeleteTap(t.Context(), i))
	}
	if _, there := c.Tagged(tap.Tag); there {
		t.Error("it is known after it was deleted")
	}
	if out, err := nstest.Try(ns, "ip", "link", "show", tap.Name); err == nil {
		t.Errorf("the kernel's end after it was deleted:\n%s", out)
	}
	refused(t, "tap_delete_v2", c.Ask(t.Context(), vppapi.Pair{Request: &tapv2.TapDeleteV2{SwIfIndex: interface_types.InterfaceIndex(i)}, Reply: &tapv2.TapDeleteV2Reply{}}), api.INVALID_SW_IF_INDEX)
}

func tunLife(t *testing.T, e *env) {
	c := e.client(t)
	tun := tapNamed("patchbay:tun:0")
	tun.TUN, tun.MAC, tun.HostMAC = true, [6]byte{}, [6]byte{}
	i, err := c.CreateTap(t.Context(), tun)
	ok(t, "create", err)
	ok(t, "finish", c.Finish(t.Context(), i, vppapi.Setup{Tag: tun.Tag, MTU: 1400, RxMode: vppapi.Adaptive, IP: true}))
	if got := find(t, c, i); !strings.HasPrefix(got.Name, "tun") || got.Device != "virtio" || got.MAC != [6]byte{} || got.MTU != 1400 || !got.AdminUp || !got.LinkUp {
		t.Errorf("%+v", got)
	}
	if l, err := net.InterfaceByName(tun.Name); err != nil || len(l.HardwareAddr) != 0 || l.MTU != 1400 {
		t.Errorf("the kernel's end: %+v, %v", l, err)
	}
	all, err := c.Taps(t.Context())
	ok(t, "list", err)
	if len(all) != 1 || !all[0].TUN || all[0].Name != tun.Name || all[0].Index != i {
		t.Errorf("listed as %+v", all)
	}
	ok(t, "delete", c.DeleteTap(t.Context(), i))
}

func tapRefused(t *testing.T, e *env) {
	c := e.client(t)
	tap := tapNamed("patchbay:tap:1")
	tap.NetNS = "/run/netns/pb-not-there"
	_, err := c.CreateTap(t.Context(), tap)
	refused(t, "no namespace", err, api.SYSCALL_ERROR_2)
	name, _ := veth(t)
	tap.NetNS, tap.Name = "", name
	_, err = c.CreateTap(t.Context(), tap)
	refused(t, "the name of a veth", err, api.SYSCALL_ERROR_3)
	tap.Name = strings.Repeat("x", vppapi.MaxTapName+1)
	if _, err = c.CreateTap(t.Context(), tap); err == nil {
		t.Error("a long name was taken")
	}
	all, err := c.Taps(t.Context())
	ok(t, "list", err)
	if len(all) != 0 {
		t.Errorf("left over: %+v", all)
	}
	// What was refused leaves VPP as it was.
	tap = tapNamed("patchbay:tap:1")
	i, err := c.CreateTap(t.Context(), tap)
	ok(t, "create", err)
	if got := find(t, c, i); got.Tag != tap.Tag {
		t.Errorf("%+v", got)
	}
	ok(t, "delete", c.DeleteTap(t.Context(), i))
}

func tapHalf(t *testing.T, e *env) {
	c := e.client(t)
	tap := tapNamed("patchbay:tap:2")
	i, err := c.CreateTap(t.Context(), tap)
	ok(t, "create", err)
	ok(t, "finish", c.Finish(t.Context(), i, vppapi.Setup{Tag: tap.Tag, MTU: 1400}))
	run(t, "ip", "link", "del", tap.Name)
	if _, there := c.Tagged(tap.Tag); !there {
		t.Error("VPP's end went with the kernel's")
	}
	ok(t, "delete", c.DeleteTap(t.Context(), i))
	again, err := c.CreateTap(t.Context(), tap)
	ok(t, "create again", err)
	ok(t, "delete", c.DeleteTap(t.Context(), again))
}

func tapGoes(t *testing.T, e *env) {
	c := e.client(t)
	tap := tapNamed("patchbay:tap:3")
	_, err := c.CreateTap(t.Context(), tap)
	ok(t, "create", err)
	e.kill()
	soon(t, "the kernel's end gone", func() bool {
		_, err := net.InterfaceByName(tap.Name)
		return err != nil
	})
	soon(t, "VPP away", func() bool { return c.Up() != nil })
	e.restart(t)
	soon(t, "VPP back", func() bool { return c.Up() == nil })
	all, err := c.Taps(t.Context())
	ok(t, "list", err)
	if len(all) != 0 {
		t.Errorf("after a restart: %+v", all)
	}
}
