package lab

import (
	"path/filepath"
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
