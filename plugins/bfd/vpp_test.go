package bfd

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"go.patchbay.dev/vppapi"
	"go.patchbay.dev/vppapi/vpptest"
)

// VPP's sessions and those of the speaker understand each other, over both families.
func TestVPPAndTheSpeaker(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: a veth pair")
	}
	v := vpptest.Start(t, vpptest.Sleeping())
	near, far := fmt.Sprintf("pbe%d", os.Getpid()), fmt.Sprintf("pbf%d", os.Getpid())
	ip := func(args string) {
		t.Helper()
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", args, err, out)
		}
	}
	ip("link add " + near + " type veth peer name " + far)
	t.Cleanup(func() { ip("link del " + near) })
	ip("link set " + near + " up")
	ip("link set " + far + " up")
	for _, c := range []string{"create host-interface name " + far, "set interface rx-mode host-" + far + " polling", "set interface state host-" + far + " up"} {
		v.CLI(c)
	}
	for _, c := range []struct {
		kernel, vpp string
		length      int
	}{{"10.97.8.1", "10.97.8.2", 30}, {"fd97:8::1", "fd97:8::2", 126}} {
		t.Run(c.kernel, func(t *testing.T) {
			ip(fmt.Sprintf("addr add %s/%d dev %s nodad", c.kernel, c.length, near))
			v.CLI(fmt.Sprintf("set interface ip address host-%s %s/%d", far, c.vpp, c.length))
			own, other := netip.MustParseAddr(c.kernel), netip.MustParseAddr(c.vpp)
			a := start(t, own, nil)
			b := start(t, other, vppapi.New(vppapi.Options{Socket: v.APISocket, Name: "bfd"}))
			a.watch(other)
			b.watch(own)
			a.counts(StateUp)
			b.counts(StateUp)

			ip("link set " + near + " down")
			a.counts(StateDown)
			b.counts(StateDown)
			ip("link set " + near + " up")
			if own.Is6() { // the kernel takes the address away with its interface
				ip(fmt.Sprintf("addr add %s/%d dev %s nodad", c.kernel, c.length, near))
			}
			a.counts(StateUp)
			b.counts(StateUp)

			v.Stop() // it says nothing for so long that the session ends
			a.counts(StateDown)
			v.Cont()
			a.counts(StateUp)
			b.counts(StateUp)
		})
	}
}
