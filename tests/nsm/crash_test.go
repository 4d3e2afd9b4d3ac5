package nsm

import (
	"fmt"
	"testing"
	"time"

	"go.patchbay.dev/tests/nsm/workload"
)

func TestAgentIsKilledAndNothingIsLost(t *testing.T) {
	start(t)
	a := startAgent(t)
	e := a.endpoint("nse", 1, nil).register()
	n := newNetns(t)
	// Without a look at the data path NSM's client would give its connection up by itself.
	w := a.client(n, func(c *workload.Config) { c.Live = true })
	conn := w.connect("nsc-0", "nsm-1")
	before, theirs := n.only(), e.net.only()
	ping := n.keepPinging(first(t, conn, "10."))

	a.kill()
	w.await(workload.Answered, func(e workload.Event) bool { return e.Error != "" })
	a.start()
	again := w.await(workload.Answered, func(e workload.Event) bool { return e.Error == "" }).Connection()
	for i, s := range again.GetPath().GetPathSegments() {
		if i < len(conn.Path.PathSegments) && s.Id != conn.Path.PathSegments[i].Id {
			t.Errorf("path segment %d was %v and is %v", i, conn.Path.PathSegments[i], s)
		}
	}
	if got := n.only(); got != before {
		t.Errorf("the client's interface is %v, it was %v", got, before)
	}
	if got := e.net.only(); got != theirs {
		t.Errorf("the endpoint's interface is %v, it was %v", got, theirs)
	}
	ping.stop()

	// The endpoint has registered itself again, or is still registered: others find it.
	pingBoth(t, n, e.net, conn)
	n2 := newNetns(t)
	pingBoth(t, n2, e.net, a.client(n2, nil).connect("nsc-1", "nsm-1"))
}

func TestConnectionOfADeadClientExpires(t *testing.T) {
	start(t)
	a := startAgent(t)
	e := a.endpoint("nse", 1, nil).register()
	n := newNetns(t)
	w := a.client(n, func(c *workload.Config) { c.Lifetime, c.Timeout = 4*time.Second, time.Second })
	w.connect("nsc-0", "nsm-1")
	asked := e.await(workload.Answered, nil).Connection()

	w.kill()
	if closed := e.await(workload.Closed, nil); closed.Connection().GetId() != asked.GetId() {
		t.Errorf("the endpoint was asked for %q and closed %v", asked.GetId(), closed)
	}
	for _, side := range []*netns{n, e.net} {
		eventually(t, "the interfaces to go", func() error { return count(side.interfaces(), 0) })
	}
}

func count(all []iface, want int) error {
	if len(all) != want {
		return fmt.Errorf("interfaces %v, want %d", all, want)
	}
	return nil
}
