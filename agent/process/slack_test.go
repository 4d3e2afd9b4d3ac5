package process

import (
	"errors"
	"os"
	"strings"
	"testing"
)

func TestOnlyTheMonitorHasSlack(t *testing.T) {
	if err := SetTimerSlack(); errors.Is(err, os.ErrPermission) {
		t.Skip("this is without CAP_SYS_NICE: ", err)
	} else if err != nil {
		t.Fatal(err)
	}
	threads, err := threadsOfThis()
	if err != nil {
		t.Fatal(err)
	}
	for i, thread := range threads {
		want := promptSlack
		if i == 1 {
			want = monitorSlack
		}
		slack, err := os.ReadFile("/proc/" + thread + "/timerslack_ns")
		if errors.Is(err, os.ErrNotExist) {
			continue // it has ended
		} else if err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimSpace(string(slack)); got != want {
			t.Errorf("thread %d of %d has the slack %s ns, want %s", i, len(threads), got, want)
		}
	}
	// The monitor is the one that sleeps while this goroutine does nothing but run.
	switches := func() string {
		data, err := os.ReadFile("/proc/" + threads[1] + "/schedstat")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Fields(string(data))[2] // how often it was run
	}
	for before := switches(); switches() == before; {
	}
}
