package tests

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"go.patchbay.dev/tests/lab"
	"go.patchbay.dev/vppapi/vpptest"
)

// VPP polls shared memory while much comes in there, and sleeps when that is over, also if the
// agent that has seen it come is not the one that sees it end.
func TestBusyMemifIsPolled(t *testing.T) {
	a, v := lab.StartOnVPP(t)
	s := connectEnds(t, a, "c1", "ETHERNET", 0, end{mechanism: "MEMIF"}, end{mechanism: "MEMIF"})
	workload := lab.StartMemifLoop(t, [2]string{s.Client.Parameters["socketfile"], s.Endpoint.Parameters["socketfile"]})
	awaitState(t, a, "c1", func(s linkStatus) bool { return s.State == "UP" })
	awaitModes(t, v, "adaptive")

	workload.Forward("start tx_first 16")
	awaitModes(t, v, "polling")
	workload.Stop()
	awaitModes(t, v, "adaptive")

	workload.Forward("start tx_first 16")
	awaitModes(t, v, "polling")
	a.Kill()
	workload.Stop()
	a.Start()
	a.WaitReady()
	awaitModes(t, v, "adaptive")
}

// awaitModes waits until VPP waits for packets in one way at two memifs.
func awaitModes(t *testing.T, v *vpptest.VPP, mode string) {
	t.Helper()
	lab.Eventually(t, 40*time.Second, "two memifs, "+mode, func() error {
		out := v.CLI("show interface rx-placement")
		if n := strings.Count(out, "memif") - strings.Count(out, "memif-input"); n != 2 || strings.Count(out, "("+mode+")") != 2 {
			return fmt.Errorf("rx-placement:\n%s", out)
		}
		return nil
	})
}
