package lab

import (
	"bufio"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"go.patchbay.dev/vppapi/vpptest"
)

// OnVPP has an agent use a VPP.
func OnVPP(v *vpptest.VPP) Option {
	return func(a *Agent, c map[string]string) {
		c["dataplane"] = "vpp"
		c["vpp.api_socket"] = v.APISocket
		c["vpp.stats_socket"] = v.StatsSocket
		c["vpp.run_dir"] = a.RunDir()
	}
}

// RunDir is where the sockets of the agent's workloads are.
func (a *Agent) RunDir() string { return filepath.Join(a.Dir, "vpp") }

// StartOnVPP starts a VPP and an agent that uses it. The test is skipped where there is none.
func StartOnVPP(t testing.TB, options ...Option) (*Agent, *vpptest.VPP) {
	t.Helper()
	v := vpptest.Start(t)
	return StartAgent(t, append([]Option{OnVPP(v)}, options...)...), v
}

// Operations is how many creates, updates and deletes the agent has made since it started. They
// are logged by their kinds.
func (a *Agent) Operations(t testing.TB) (n int) {
	t.Helper()
	r, err := a.Get("/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	for s := bufio.NewScanner(r.Body); s.Scan(); {
		for _, op := range []string{"create", "update", "delete"} {
			if strings.HasPrefix(s.Text(), `patchbay_dataplane_calls_total{call="`+op+" ") {
				v, err := strconv.ParseFloat(s.Text()[strings.LastIndexByte(s.Text(), ' ')+1:], 64)
				if err != nil {
					t.Fatal(err)
				}
				n += int(v)
				t.Log(s.Text())
			}
		}
	}
	return n
}
