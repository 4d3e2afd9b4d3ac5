package guest

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"go.patchbay.dev/plugins/mechanism/kernel"
	"go.patchbay.dev/tests/lab"
	"go.patchbay.dev/tests/report"
	"go.patchbay.dev/vppapi/vpptest"
)

// busy is how many connections have traffic, with two taps each. Of af_packet interfaces
// in interrupt mode sixteen stop VPP 25.10 for good.
const busy = 12

// VPP answers while all its taps are busy, in the rx-mode that they have by default.
func TestManyBusyTaps(t *testing.T) {
	if _, err := os.Stat(kernel.VhostNet); err != nil {
		report.Skip(t, "vhost-net", "VPP's taps need "+kernel.VhostNet+"; make test-vm has it")
	}
	v := vpptest.Start(t)
	a := lab.StartAgent(t, lab.OnVPP(v))
	var links []link
	for i := range busy {
		l := newLink(t, fmt.Sprintf("b%d", i), "ETHERNET")
		l.apply(t, a)
		links = append(links, l)
	}
	lab.Eventually(t, time.Minute, "all to be up", func() error {
		time.Sleep(time.Second)
		if n := strings.Count(v.CLI("show mode"), "l2 xconnect"); n != 2*busy {
			return fmt.Errorf("%d of %d ends are joined", n, 2*busy)
		}
		return nil
	})
	var pings []*lab.Process
	for _, l := range links {
		pings = append(pings, l.client.Start(t, "ping", "-q", "-i", "0.002", "-w", "12", "10.60.0.2"))
	}
	var slowest time.Duration
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		began := time.Now()
		v.CLI("show version") // fails after 10 s
		slowest = max(slowest, time.Since(began))
	}
	for _, p := range pings {
		t.Log(p.Await(t, "packets transmitted"))
	}
	t.Logf("the slowest answer of VPP's command line took %v", slowest)
	links[0].carries(t)
}
