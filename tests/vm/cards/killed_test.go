package cards

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.patchbay.dev/tests/lab"
)

// The agent is killed while it hands functions over and takes them back, sooner and later each time; the next
// one completes what it finds, or puts it back.
func TestKilled(t *testing.T) {
	w := start(t)
	a := lab.NewNamespace(t)
	client := in(a, vf(t, 0), "10.60.0.1/24")
	client.Mac = "02:00:00:00:60:01"
	var device end
	device.Mechanism.Type = "VFIO"
	device.Mechanism.Parameters = map[string]string{"pciAddress": vf(t, 3)}
	for after := time.Duration(0); after < 400*time.Millisecond; after += 60 * time.Millisecond {
		killed := func(what string, begin ...string) {
			t.Helper()
			seen := func() string {
				list, _ := filepath.Glob(w.notes + "/*") // the pattern is right
				return fmt.Sprint(list, w.virtual(t))
			}
			before := seen()
			for _, arg := range begin {
				go func() { _, _ = w.TryPatchbay(strings.Fields(arg)...) }() // it may not live to answer
			}
			lab.Eventually(t, 10*time.Second, "the agent to begin", func() error {
				if seen() == before {
					return errors.New("it has not")
				}
				return nil
			})
			time.Sleep(after) // which step that is, nobody tells
			w.Kill()
			t.Logf("killed %v after it began to %s", after, what)
			w.Start()
			w.WaitReady()
		}
		files := []string{w.file(t, "k1", client, noop()), w.file(t, "k2", device, noop())}
		killed("hand over", "apply -f "+files[0], "apply -f "+files[1])
		for _, f := range files { // what was not on record yet is asked for again
			w.Patchbay("apply", "-f", f)
		}
		w.await(t, "k1", "UP")
		w.await(t, "k2", "UP")
		reaches(t, a, "10.60.0.100")
		killed("take back", "delete crossconnect k1", "delete crossconnect k2")
		for _, id := range []string{"k1", "k2"} {
			_, _ = w.TryPatchbay("delete", "crossconnect", id) // if it is still there
		}
		w.atHome(t)
		if left := a.Interfaces(t); len(left) != 0 {
			t.Fatalf("left in the namespace: %v", left)
		}
	}
}
