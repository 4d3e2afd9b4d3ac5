package tests

import (
	"bufio"
	"strconv"
	"strings"
	"testing"

	"go.patchbay.dev/tests/lab"
)

// scrape gives the agent's metrics by name with labels: `patchbay_store_up` → 1.
func scrape(a *lab.Agent) map[string]float64 {
	r, err := a.Get("/metrics")
	if err != nil {
		return nil
	}
	defer r.Body.Close()
	out := map[string]float64{}
	for s := bufio.NewScanner(r.Body); s.Scan(); {
		i := strings.LastIndexByte(s.Text(), ' ')
		if i < 0 || strings.HasPrefix(s.Text(), "#") {
			continue
		}
		if v, err := strconv.ParseFloat(s.Text()[i+1:], 64); err == nil {
			out[s.Text()[:i]] = v
		}
	}
	return out
}

// mutating is how many operations the agent has made on the dataplane since it started; -1 if it does not say.
func mutating(a *lab.Agent) int {
	all, n := scrape(a), 0.0
	if len(all) == 0 {
		return -1
	}
	for name, v := range all {
		if strings.HasPrefix(name, "patchbay_dataplane_calls_total") {
			n += v
		}
	}
	return int(n)
}

func TestMetricsSayWhatTheContractPromises(t *testing.T) {
	s := newSetup(t)
	s.client.Connect("c1", "fw", s.ns, "nsm0")
	s.ns.Run(t, "ping", "-c", "3", "-i", "0.01", "10.0.1.2")
	got := scrape(s.agent)
	for name, min := range map[string]float64{
		`patchbay_requests_total{code="OK",method="Request"}`:                                    1,
		`patchbay_request_duration_seconds_count{method="Request"}`:                              1,
		`patchbay_connections{client="KERNEL",endpoint="KERNEL",payload="IP",state="UP"}`:        1,
		`patchbay_connection_receive_packets_total{connection="c1",service="fw",side="client"}`:  3,
		`patchbay_connection_transmit_packets_total{connection="c1",service="fw",side="client"}`: 3,
		`patchbay_connection_receive_bytes_total{connection="c1",service="fw",side="endpoint"}`:  252,
		`patchbay_connection_transmit_bytes_total{connection="c1",service="fw",side="endpoint"}`: 252,
		`patchbay_connection_drops_total{connection="c1",service="fw",side="client"}`:            0,
		`patchbay_negotiations_total{mechanism="KERNEL",outcome="agreed"}`:                       1,
		`patchbay_values{kind="veth",state="applied"}`:                                           1,
		`patchbay_values{kind="ipconfig",state="applied"}`:                                       2,
		`patchbay_apply_duration_seconds_count`:                                                  3,
		`patchbay_retries_total{kind="veth"}`:                                                    0,
		`patchbay_dataplane_up{dataplane="kernel"}`:                                              1,
		`patchbay_dataplane_restarts_total`:                                                      0,
		`patchbay_dataplane_calls_total{call="create veth",result="ok"}`:                         1,
		`patchbay_dataplane_call_duration_seconds_count{call="create ipconfig"}`:                 2,
		`patchbay_store_up`:       1,
		`patchbay_store_revision`: 2,
	} {
		if v, ok := got[name]; !ok || v < min {
			t.Errorf("%s is %v (there: %v), want at least %v", name, v, ok, min)
		}
	}
	info := false
	for name := range got {
		info = info || strings.HasPrefix(name, "patchbay_build_info{version=")
	}
	if !info {
		t.Error("patchbay_build_info is missing")
	}
}
