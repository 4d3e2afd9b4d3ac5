package nsm

import (
	"fmt"
	"testing"

	"github.com/networkservicemesh/api/pkg/api/networkservice"

	"go.patchbay.dev/tests/nsm/workload"
)

const (
	initial = "INITIAL_STATE_TRANSFER"
	update  = "UPDATE"
	deleted = "DELETE"
)

func TestMonitorTellsOfTheClientsOwnConnection(t *testing.T) {
	start(t)
	a := startAgent(t)
	a.endpoint("nse", 1, nil).register()
	w := a.client(newNetns(t), nil)
	heard := func() workload.Event {
		t.Helper()
		e := w.await(workload.Heard, nil)
		if e.Error != "" {
			t.Fatalf("the stream broke: %s", e.Error)
		}
		return e
	}

	w.do(workload.Command{Do: workload.Monitor, ID: "nsc-0"})
	if e := heard(); e.Type != initial || len(e.Connections) != 0 {
		t.Fatalf("a monitor of nothing begins with %v", e)
	}
	w.connect("nsc-1", "nsm-2") // not selected
	w.connect("nsc-0", "nsm-1")
	for {
		e := heard()
		conn := e.Connection()
		if e.Type != update || len(e.Connections) != 1 || conn.GetPath().GetPathSegments()[0].GetId() != "nsc-0" {
			t.Fatalf("heard %v, want updates of nsc-0 alone", e)
		}
		if conn.State == networkservice.State_UP && len(conn.Path.PathSegments) == 3 {
			// As NSM's manager shows it: from the place of the agent's own path segment.
			if conn.Path.Index != 1 || conn.Id != conn.Path.PathSegments[1].Id || conn.Mechanism.GetType() != "KERNEL" {
				t.Errorf("the connection is told as %v", conn)
			}
			break
		}
	}
	w.do(workload.Command{Do: workload.Monitor, ID: "nsc-0"})
	if e := w.await(workload.Heard, isInitial); len(e.Connections) != 1 || e.Connection().GetState() != networkservice.State_UP {
		t.Errorf("a monitor of one connection begins with %v", e)
	}
	// Each of the two streams tells of the close.
	w.do(workload.Command{Do: workload.Close, ID: "nsc-0"})
	for range 2 {
		e := w.await(workload.Heard, func(e workload.Event) bool { return e.Type == deleted })
		if got := e.Connection().GetPath().GetPathSegments()[0].GetId(); got != "nsc-0" || len(e.Connections) != 1 {
			t.Errorf("the close is told as %v", e)
		}
	}
}

// A client of NSM that hears of its connection being down closes it and asks again, so a
// new one must not be told as down while its two ends come up one after the other.
func TestNewConnectionsAreNeverToldAsDown(t *testing.T) {
	start(t)
	a := startAgent(t)
	a.endpoint("nse", 1, nil).register()
	w := a.client(newNetns(t), nil)
	w.do(workload.Command{Do: workload.Monitor}) // of all
	const many = 20
	for i := range many {
		w.connect(fmt.Sprintf("nsc-%d", i), fmt.Sprintf("nsm-%d", i))
	}
	w.connect("last", "last")
	w.do(workload.Command{Do: workload.Close, ID: "last"})
	told := map[string]bool{}
	w.await(workload.Heard, func(e workload.Event) bool {
		if e.Error != "" {
			t.Fatalf("the stream broke: %s", e.Error)
		}
		for _, c := range e.Connections {
			id := c.GetPath().GetPathSegments()[0].GetId()
			told[id] = true
			if c.GetState() != networkservice.State_UP && id != "last" {
				t.Errorf("%s was told as %v", id, c.GetState())
			}
		}
		return e.Type == deleted
	})
	if len(told) != many+1 {
		t.Errorf("told of %d connections, want %d", len(told), many+1)
	}
}

func isInitial(e workload.Event) bool { return e.Type == initial }

func TestClientThatStartsAgainFindsItsConnection(t *testing.T) {
	start(t)
	a := startAgent(t)
	a.endpoint("nse", 1, nil).register()
	n := newNetns(t)
	w := a.client(n, nil)
	conn := w.connect("nsc-0", "nsm-1")
	before := n.only()
	ping := n.keepPinging(first(t, conn, "10."))

	w.kill()
	again := a.client(n, nil).do(workload.Command{Do: workload.Resume, ID: "nsc-0", Interface: "nsm-1"})
	checkReply(t, again, n)
	for i, s := range again.Path.PathSegments {
		if s.Id != conn.Path.PathSegments[i].Id {
			t.Errorf("path segment %d was %v and is %v", i, conn.Path.PathSegments[i], s)
		}
	}
	if got := n.only(); got != before {
		t.Errorf("the interface is %v, it was %v", got, before)
	}
	ping.stop()
}
