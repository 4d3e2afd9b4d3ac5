package admin

import (
	"context"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"go.patchbay.dev/plugins/admin/adminpb"
	"go.patchbay.dev/plugins/sriov"
)

// card stands in for plugins/sriov.
type card struct {
	mu      sync.Mutex
	devices []sriov.Device
	changed chan struct{}
}

func (c *card) Devices() []sriov.Device {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.devices
}

func (c *card) Explain(pool string) ([]string, bool, error) { return nil, false, sriov.ErrUnknown }

func (c *card) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

func (c *card) set(devices ...sriov.Device) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.devices = devices
	close(c.changed)
	c.changed = make(chan struct{})
}

// stream takes what is sent.
type stream struct {
	grpc.ServerStream
	ctx  context.Context
	sent chan *adminpb.ListEvent
}

func (s stream) Context() context.Context { return s.ctx }

func (s stream) Send(e *adminpb.ListEvent) error { s.sent <- e; return nil }

func TestDevicesAreListedAndFollowed(t *testing.T) {
	a, b := sriov.Device{ID: "0000:3b:10.0", Pool: "radio", NUMA: -1, Group: 7, Healthy: true}, sriov.Device{ID: "0000:3b:10.1", Pool: "radio"}
	c := &card{devices: []sriov.Device{a, b}, changed: make(chan struct{})}
	given := time.Unix(1_700_000_000, 0)
	s := &Server{Options: Options{Devices: c, Given: func(id string) time.Time {
		if id == a.ID {
			return given
		}
		return time.Time{}
	}}}
	ctx, cancel := context.WithCancel(t.Context())
	out := stream{ctx: ctx, sent: make(chan *adminpb.ListEvent)}
	ended := make(chan error)
	go func() { ended <- s.listDevices(&adminpb.ListRequest{Watch: true}, out) }()

	if d := (<-out.sent).GetObject().GetDevice(); d.GetId() != a.ID || d.Numa != nil || d.GetGroup() != 7 || !d.GetGiven().AsTime().Equal(given) {
		t.Errorf("the first is %v", d)
	}
	if d := (<-out.sent).GetObject().GetDevice(); d.GetId() != b.ID || d.Given != nil || d.Numa == nil {
		t.Errorf("the second is %v", d)
	}
	if e := <-out.sent; !e.Synced {
		t.Errorf("after them comes %v", e)
	}
	a.Owner = "c1/client"
	c.set(a, b)
	if d := (<-out.sent).GetObject().GetDevice(); d.GetId() != a.ID || d.GetConnection() != "c1" || d.GetSide() != "client" {
		t.Errorf("claimed, the first is %v", d)
	}
	c.set(a)
	if e := <-out.sent; !e.Deleted || e.GetObject().GetDevice().GetId() != b.ID {
		t.Errorf("the second is gone, and %v is sent", e)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestANodeWithoutPoolsHasNoDevices(t *testing.T) {
	out := stream{ctx: t.Context(), sent: make(chan *adminpb.ListEvent, 1)}
	if err := (&Server{}).listDevices(&adminpb.ListRequest{}, out); err != nil {
		t.Fatal(err)
	}
	if e := <-out.sent; !e.Synced || e.Object != nil {
		t.Errorf("sent %v", e)
	}
}
