package kernel

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/linux/nstest"
	"go.patchbay.dev/plugins/reconcile"
)

// options set what a test makes apart from what others make on this machine.
func options(t testing.TB) linux.Options {
	return linux.Options{Instance: nstest.Instance(t)}
}

// A node is an agent's engine with this mechanism, and nothing else of an agent.
type node struct {
	t  testing.TB
	ns *linux.Namespaces
	m  *Mechanism
	e  *reconcile.Engine
	// tunnel is what other mechanisms than KERNEL describe.
	tunnel func(x *models.CrossConnect) models.Device

	mu       sync.Mutex
	statuses map[string]reconcile.Status
	told     chan struct{} // something was told since
}

// start begins a node that wants these cross-connects. It is stopped, as an agent that
// is killed, by the function returned or with the test.
func start(t testing.TB, records ...*models.CrossConnect) (n *node, stop func()) {
	t.Helper()
	return startTunnels(t, nil, records...)
}

// startTunnels begins a node whose workloads are placed on tunnels.
func startTunnels(t testing.TB, tunnel func(x *models.CrossConnect) models.Device, records ...*models.CrossConnect) (n *node, stop func()) {
	t.Helper()
	nstest.Need(t)
	ns, err := linux.New(options(t))
	check(t, err)
	n = &node{t: t, ns: ns, m: New(ns, nil), tunnel: tunnel, statuses: map[string]reconcile.Status{}, told: make(chan struct{}, 1)}
	n.e = reconcile.New(reconcile.Options{MinBackoff: 10 * time.Millisecond, MaxBackoff: 100 * time.Millisecond, OnStatus: n.status})
	n.m.Register(n.e, func(string) {})
	check(t, ns.Start())
	for _, x := range records {
		n.apply(x)
	}
	check(t, n.e.Start(context.Background()))
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			n.e.Stop()
			check(t, ns.Close())
		}
	}
	t.Cleanup(stop)
	n.settle()
	return n, stop
}

// deaf begins a node that hears nothing of what happens.
func deaf(t testing.TB) *node {
	t.Helper()
	nstest.Need(t)
	ns, err := linux.New(options(t))
	check(t, err)
	n := &node{t: t, ns: ns, m: New(ns, nil), e: reconcile.New(reconcile.Options{})}
	n.m.Register(n.e, func(string) {})
	check(t, n.e.Start(context.Background())) // but ns is not started
	t.Cleanup(func() {
		n.e.Stop()
		check(t, ns.Close())
	})
	return n
}

func (n *node) status(s reconcile.Status) {
	n.mu.Lock()
	n.statuses[s.Group] = s
	n.mu.Unlock()
	select {
	case n.told <- struct{}{}:
	default:
	}
}

func (n *node) apply(x *models.CrossConnect) {
	n.t.Helper()
	check(n.t, models.ValidateCrossConnect(x))
	values, err := n.render(x)
	check(n.t, err)
	n.e.Apply(reconcile.Change{Group: x.Id, Values: values})
}

func (n *node) render(x *models.CrossConnect) ([]reconcile.Value, error) {
	if x.Endpoint.Mechanism.Type != Type {
		return n.m.Place(x, models.ClientSide, n.tunnel(x))
	}
	if x.Client.Mechanism.Type != Type {
		return n.m.Place(x, models.EndpointSide, n.tunnel(x))
	}
	return n.m.Pair(x)
}

// want applies and waits until the cross-connect is there.
func (n *node) want(x *models.CrossConnect) {
	n.t.Helper()
	n.apply(x)
	n.is(x.Id, reconcile.Applied, "")
}

// remove takes a cross-connect away and waits until it is gone.
func (n *node) remove(id string) {
	n.t.Helper()
	n.e.Apply(reconcile.Change{Group: id})
	n.settle()
}

func (n *node) settle() {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	check(n.t, n.e.Settle(ctx))
}

// is waits until a cross-connect is in this state, for a reason that holds these words.
func (n *node) is(id string, state reconcile.State, words string) {
	n.t.Helper()
	n.wait(id+" to be "+state.String(), func() bool {
		s, ok := n.e.Status(id)
		return ok && s.State == state && strings.Contains(s.Reason, words)
	})
}

// wait asks f whenever something was told, for 20 s at most.
func (n *node) wait(what string, f func() bool) {
	n.t.Helper()
	end := time.After(20 * time.Second)
	for !f() {
		select {
		case <-n.told:
		case <-time.After(5 * time.Millisecond): // what is waited for may come untold
		case <-end:
			n.mu.Lock()
			defer n.mu.Unlock()
			n.t.Fatalf("waited in vain for %s; last told: %+v", what, n.statuses)
		}
	}
}

// untouched checks that f changes nothing in the kernel.
func (n *node) untouched(what string, f func()) {
	n.t.Helper()
	before := n.ns.Mutations()
	f()
	if calls := n.ns.Mutations() - before; calls != 0 {
		n.t.Errorf("%s: %d changing calls to the kernel, want none", what, calls)
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// in runs a command in a namespace, which must succeed, and returns what it says.
func in(t testing.TB, netns string, command string) string {
	t.Helper()
	return nstest.Run(t, netns, strings.Fields(command)...)
}

// has checks that a command says something, or with a leading ! that it does not.
func has(t testing.TB, netns, command, text string) {
	t.Helper()
	text, not := strings.CutPrefix(text, "!")
	if out := in(t, netns, command); strings.Contains(out, text) == not {
		t.Errorf("%q in %s: %s %q in\n%s", command, netns, map[bool]string{true: "there is", false: "there is no"}[not], text, out)
	}
}

func ping(t testing.TB, netns, to string) {
	t.Helper()
	in(t, netns, "ping -c1 -W2 "+to)
}

// nothing checks that a namespace holds nothing of ours.
func nothing(t testing.TB, netns string) {
	t.Helper()
	if _, err := os.Stat(netns); errors.Is(err, os.ErrNotExist) {
		return
	}
	ns, err := linux.New(options(t))
	check(t, err)
	defer func() { check(t, ns.Close()) }()
	found, err := ns.Surveys([]string{netns})
	check(t, err)
	if s := found[netns]; s == nil || len(s.Links) > 0 || s.Stale > 0 {
		t.Errorf("left over in %s: %+v", netns, s)
	}
}

// two makes the namespaces of a client and an endpoint.
func two(t testing.TB) (a, b string) { return nstest.New(t), nstest.New(t) }
