package nsm

import (
	"errors"
	"strings"
	"testing"
	"time"

	"go.patchbay.dev/tests/nsm/workload"
)

func TestRefreshTouchesNothing(t *testing.T) {
	start(t)
	a := startAgent(t)
	short := func(c *workload.Config) { c.Lifetime, c.Timeout = 4*time.Second, 2*time.Second }
	e := a.endpoint("nse", 1, short).register()
	n := newNetns(t)
	w := a.client(n, short)
	conn := w.connect("nsc-0", "nsm-1")
	before, theirs := n.only(), e.net.only()
	ping := n.keepPinging(first(t, conn, "10."))
	ours, others := n.watch(), e.net.watch()

	// NSM's client refreshes by itself, after a fifth of the time that is left.
	began := w.await(workload.Answered, nil).Connection().GetPath().GetPathSegments()[0].GetExpires().AsTime()
	refreshes := 0
	w.await(workload.Answered, func(e workload.Event) bool {
		if e.Error != "" {
			t.Errorf("refresh: %s", e.Error)
			return false
		}
		refreshes++
		path := e.Connection().GetPath()
		for i, s := range path.GetPathSegments() {
			if i < len(conn.Path.PathSegments) && s.Id != conn.Path.PathSegments[i].Id {
				t.Errorf("refresh %d changed path segment %d from %v to %v", refreshes, i, conn.Path.PathSegments[i], s)
			}
		}
		return path.PathSegments[0].Expires.AsTime().Sub(began) > 2*4*time.Second
	})

	if got := n.only(); got != before {
		t.Errorf("after %d refreshes the client's interface is %v, it was %v", refreshes, got, before)
	}
	if got := e.net.only(); got != theirs {
		t.Errorf("after %d refreshes the endpoint's interface is %v, it was %v", refreshes, got, theirs)
	}
	if changes := ours.stop() + others.stop(); changes != "" {
		t.Errorf("%d refreshes changed something in the kernel:\n%s", refreshes, changes)
	}
	answers := ping.stop()
	t.Logf("%d refreshes, %d pings answered", refreshes, answers)
}

// watching notes every change of links, addresses and routes in a namespace.
type watching struct {
	*background
	net   *netns
	begun int // where the output of what is watched begins
}

// mark is a change that tells where in the output we are.
var mark = []string{"198.51.100.1", "198.51.100.2"}

// watch returns once it hears of changes, and those are over that the kernel makes to a
// new interface (duplicate address detection of its link-local address).
func (n *netns) watch() *watching {
	n.t.Helper()
	eventually(n.t, "addresses to be settled", func() error {
		if tentative := n.run("ip", "-o", "address", "show", "tentative"); tentative != "" {
			return errors.New(tentative)
		}
		return nil
	})
	w := &watching{background: n.begin("ip", "-o", "monitor", "link", "address", "route"), net: n}
	eventually(n.t, "ip monitor to hear of changes", func() error {
		n.run("ip", "route", "replace", "blackhole", mark[0])
		n.run("ip", "route", "del", "blackhole", mark[0])
		return w.has("Deleted blackhole " + mark[0])
	})
	w.settle()
	w.begun = len(w.text())
	return w
}

// settle waits until all that has happened so far is in the output.
func (w *watching) settle() {
	w.t.Helper()
	w.net.run("ip", "route", "add", "blackhole", mark[1])
	w.net.run("ip", "route", "del", "blackhole", mark[1])
	eventually(w.t, "ip monitor to tell of a change", func() error { return w.has("Deleted blackhole " + mark[1]) })
}

func (w *watching) has(what string) error {
	if !strings.Contains(w.text()[w.begun:], what) {
		return errors.New("not yet")
	}
	return nil
}

// stop gives the changes since watch returned.
func (w *watching) stop() string {
	w.t.Helper()
	w.settle()
	var changes strings.Builder
	for line := range strings.Lines(w.background.stop()[w.begun:]) {
		if !strings.Contains(line, mark[1]) {
			changes.WriteString(line)
		}
	}
	return changes.String()
}
