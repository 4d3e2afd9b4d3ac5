package manager

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.patchbay.dev/models"
)

// cards give one device to whoever asks for the pool radio.
type cards struct {
	mu       sync.Mutex
	settled  []int // the processes that got one
	released []string
}

// Asks says no: how devices are negotiated is tested in package negotiation.
func (c *cards) Asks(*models.Mechanism, string) bool { return false }

func (c *cards) Settle(_ context.Context, x *models.CrossConnect, side models.Side, pid int) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := x.At(side).Mechanism.Parameters
	switch {
	case p["pool"] == "full":
		return "", errors.New("pool full has no free virtual function")
	case p["pool"] != "":
		c.settled = append(c.settled, pid)
		p[paramDevice] = "0000:01:10.0"
		return "KERNEL: virtual function 0", nil
	}
	return "", nil
}

func (c *cards) Release(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.released = append(c.released, id)
}

func TestADeviceIsNamedInTheRecordBeforeItIsWritten(t *testing.T) {
	a := newLab(t).start("a")
	given := &cards{}
	a.devices = given
	a.restart()
	a.bridges.serve("lan")

	in := ask("c1", "lan")
	in.MechanismPreferences[0].Parameters = map[string]string{"pool": "radio", paramDevice: "0000:09:00.0"}
	for range 2 { // a refresh gets the same
		if _, err := a.request(in); err != nil {
			t.Fatal(err)
		}
		x, _, _ := a.m.known("c1")
		if x.Client.Mechanism.Parameters[paramDevice] != "0000:01:10.0" || !slices.Contains(x.Decision, "KERNEL: virtual function 0") {
			t.Errorf("the record is %v", x)
		}
	}
	given.mu.Lock()
	if slices.Contains(given.settled, 0) || !slices.Contains(given.released, "c1") {
		t.Errorf("given to %v, released %v", given.settled, given.released)
	}
	given.mu.Unlock()

	in = ask("c2", "lan")
	in.MechanismPreferences[0].Parameters = map[string]string{paramDevice: "0000:01:10.1"} // whoever sends it says nothing by it
	if _, err := a.request(in); err != nil {
		t.Fatal(err)
	}
	if x, _, _ := a.m.known("c2"); x.Client.Mechanism.Parameters[paramDevice] != "" {
		t.Errorf("the record is %v", x)
	}

	in = ask("c3", "lan")
	in.MechanismPreferences[0].Parameters = map[string]string{"pool": "full"}
	if _, err := a.request(in); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "client.mechanism: pool full has no free virtual function") ||
		strings.Contains(err.Error(), "answer does not fit") {
		t.Errorf("error %v", err)
	}
	if x, _, ok := a.m.known("c3"); ok {
		t.Errorf("there is a record: %v", x)
	}
}
