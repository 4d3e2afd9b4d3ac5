package guest

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"go.patchbay.dev/plugins/mechanism/kernel"
	"go.patchbay.dev/tests/lab"
	"go.patchbay.dev/tests/report"
	"go.patchbay.dev/vppapi/vpptest"
)

// The agent's taps take no offload, for what is joined to them may have none: TCP runs
// through them at full frames all the same. Beside it stands, in the log, what two taps
// made by hand do without offload and with it.
func TestOffloadOfTaps(t *testing.T) {
	if _, err := os.Stat(kernel.VhostNet); err != nil {
		report.Skip(t, "vhost-net", "VPP's taps need "+kernel.VhostNet+"; make test-vm has it")
	}
	v := vpptest.Start(t)
	a := lab.StartAgent(t, lab.OnVPP(v))
	ours := newLink(t, "c1", "ETHERNET")
	ours.apply(t, a)
	ours.await(t, a)
	ours.carries(t)
	hand := func(id string, first int, offload string) link {
		l := newLink(t, id, "ETHERNET")
		for i, ns := range []*lab.Namespace{l.client, l.server} {
			for _, c := range []string{
				fmt.Sprintf("create tap id %d host-if-name nsm0 host-ns %s host-ip4-addr 10.60.0.%d/24 host-mtu-size 1500 %s", first+i, ns.Path, i+1, offload),
				fmt.Sprintf("set interface state tap%d up", first+i),
			} {
				if out := v.CLI(c); strings.Contains(out, "error") || strings.Contains(out, "unknown") {
					t.Fatalf("%s: %s", c, out)
				}
			}
		}
		for i := range 2 {
			v.CLI(fmt.Sprintf("set interface l2 xconnect tap%d tap%d", first+i, first+1-i))
		}
		return l
	}
	with, plain := hand("offload", 100, "gso"), hand("plain", 110, "")
	for range 2 { // in turn, for the machine is not always equally fast
		for _, l := range []link{ours, plain, with} {
			l.transfer(t)
		}
	}
}
