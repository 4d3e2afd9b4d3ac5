package tests

import (
	"fmt"
	"testing"

	"go.patchbay.dev/tests/lab"
)

// A page that the kernel gives to the agent only at its first use is one that a client waits for.
func TestARequestWaitsForFewPages(t *testing.T) {
	s := newSetup(t)
	turns := func(n int) {
		for i := range n {
			s.client.Disconnect(s.client.Connect(fmt.Sprint("c", i), "fw", s.ns, "nsm0"))
		}
	}
	// minflt, for which nothing is read from a disk
	faults := func() int { return lab.Stat(t, s.agent.Pid(), 10)[0] }
	turns(10) // some code runs for the first time
	before := faults()
	const n = 20
	turns(n)
	if each := (faults() - before) / n; each > 15 {
		t.Errorf("%d page faults for a request and its close, want no more than 15; with a heap that has no room yet they are 45", each)
	}
}
