package tests

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// A page that the kernel gives to the agent only at its first use is one that a client waits for.
func TestARequestWaitsForFewPages(t *testing.T) {
	s := newSetup(t)
	turns := func(n int) {
		for i := range n {
			s.client.Disconnect(s.client.Connect(fmt.Sprint("c", i), "fw", s.ns, "nsm0"))
		}
	}
	turns(10) // some code runs for the first time
	before := pageFaults(t, s.agent.Pid())
	const n = 20
	turns(n)
	if each := (pageFaults(t, s.agent.Pid()) - before) / n; each > 15 {
		t.Errorf("%d page faults for a request and its close, want no more than 15; with a heap that has no room yet they are 45", each)
	}
}

// pageFaults counts those for which nothing was read from a disk (minflt in proc(5)).
func pageFaults(t *testing.T, pid int) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	n, err := strconv.Atoi(fields[7])
	if err != nil {
		t.Fatal(err)
	}
	return n
}
