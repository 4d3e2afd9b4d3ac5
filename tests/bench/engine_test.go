//go:build bench

package bench

import (
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestEngine runs the engine's own benchmarks, in a process of their own because of the
// memory, and takes their figures into the table.
func TestEngine(t *testing.T) {
	out, err := exec.Command("go", "test", "-run", "^$", "-bench", "Add|Transaction|Resync", "-count", "3", "go.patchbay.dev/plugins/reconcile").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	figure := func(benchmark, unit string) float64 {
		var all []time.Duration
		for _, line := range strings.Split(string(out), "\n") {
			f := strings.Fields(line)
			if len(f) == 0 || !strings.HasPrefix(f[0], "Benchmark"+benchmark) {
				continue
			}
			for i := 2; i+1 < len(f); i += 2 {
				if v, err := strconv.ParseFloat(f[i], 64); err == nil && f[i+1] == unit {
					all = append(all, time.Duration(v*1000))
				}
			}
		}
		if len(all) == 0 {
			t.Fatalf("no %s of %s in\n%s", unit, benchmark, out)
		}
		return float64(median(all)) / 1000
	}
	ns := func(benchmark, unit string) time.Duration { return time.Duration(figure(benchmark, unit)) }
	mb := func(benchmark string) string {
		return strconv.FormatFloat(figure(benchmark, "rss-MB"), 'f', 0, 64) + " MB"
	}
	few, lots := ns("Add/100-", "median-ns/add"), ns("Add/10000-", "median-ns/add")
	table = append(table,
		row{"engine: one more connection, 10,000 present", lots.String(), "100 present " + few.String(), ratio(lots, few), "≤ 25 µs"},
		row{"engine: one transaction of 10,000", ms(ns("Transaction", "ns/op")), "", "", "≤ 250 ms"},
		row{"engine: resync of 10,000, nothing to do", ms(ns("Resync", "ns/op")), "", "", "≤ 150 ms"},
		row{"engine: resident with 10,000", mb("Transaction"), "", "", "≤ 60 MB"})
}
