package vppapi_test

import (
	"testing"

	"go.patchbay.dev/vppapi"
)

// An interface is polled while it is busy, and until it has been quiet for a while.
func TestPace(t *testing.T) {
	var p vppapi.Pace
	var packets uint64
	for i, step := range []struct {
		came uint64
		mode vppapi.RxMode // 0: no change
	}{
		{came: 1_000_000}, // before it was looked at
		{came: 19_999},
		{came: 20_000, mode: vppapi.Polling},
		{came: 1_000_000},
		{came: 10_000}, // neither busy nor quiet
		{came: 0}, {came: 0}, {came: 0}, {came: 1_999},
		{came: 2_000}, // it begins to be quiet anew
		{came: 0}, {came: 0}, {came: 0}, {came: 0},
		{came: 0, mode: vppapi.Adaptive},
		{came: 0}, {came: 0}, {came: 0}, {came: 0}, {came: 0}, {came: 0},
		{came: 60_000, mode: vppapi.Polling},
	} {
		packets += step.came
		mode, change := p.Next(packets)
		if change != (step.mode != 0) || mode != step.mode {
			t.Errorf("step %d, %d packets: mode %d, change %t; want %d", i, step.came, mode, change, step.mode)
		}
	}
	if mode, change := p.Next(10); change {
		t.Errorf("counted anew: mode %d", mode)
	}
}
