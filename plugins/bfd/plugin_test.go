package bfd

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"go.patchbay.dev/models"
	"go.patchbay.dev/vppapi"
	"go.patchbay.dev/vppapi/vpptest"
)

// node is a node as far as this room goes.
type node struct {
	*Plugin
	t       *testing.T
	told    chan struct{}
	address netip.Addr
}

// detect is the least that the configuration has.
const detect = time.Second

// start starts a node whose tunnels end at an address of the kernel's, or of VPP's.
func start(t *testing.T, address netip.Addr, vpp *vppapi.Client) *node {
	t.Helper()
	n := &node{t: t, told: make(chan struct{}, 100), address: address}
	n.Plugin = New(Options{Detect: detect, Addresses: []netip.Addr{address}, VPP: vpp, OnVPP: func(netip.Addr) (bool, bool) { return vpp != nil, true }})
	if vpp != nil {
		vpp.Start(t.Context())
		t.Cleanup(vpp.Stop)
	}
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Stop)
	return n
}

// loopbacks are two addresses of this machine that no other test has.
func loopbacks() (a, b netip.Addr) {
	pid := os.Getpid()
	a = netip.AddrFrom4([4]byte{127, byte(1 + pid>>14&0x7f), byte(pid >> 6), byte(pid<<2) | 1})
	return a, a.Next()
}

func (n *node) watch(other netip.Addr) (at models.TunnelPath, stop func()) {
	at = models.TunnelPath{Local: n.address, Remote: other}
	return at, n.Watch(at, func() { n.told <- struct{}{} })
}

// until waits for what comes without this goroutine.
func until(t *testing.T, what string, is func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(vpptest.Patience(10 * time.Second)); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if err = is(); err == nil {
			return
		}
	}
	t.Fatalf("waited for %s: %v", what, err)
}

// counts waits until there are so many paths that are new, up and down. None is old enough to
// count as up but for what the test has made old.
func (n *node) counts(states ...string) {
	n.t.Helper()
	want := map[string]int{StateNew: 0, StateUp: 0, StateDown: 0}
	for _, s := range states {
		want[s]++
	}
	until(n.t, fmt.Sprintf("paths %v", states), func() error {
		n.age()
		if got := n.Count(); fmt.Sprint(got) != fmt.Sprint(want) {
			return fmt.Errorf("they are %v", got)
		}
		return nil
	})
}

// age has all sessions be old.
func (n *node) age() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, w := range n.paths {
		if !w.began.IsZero() {
			w.began = w.began.Add(-settled)
		}
	}
}

// mute has nothing that a node says arrive, until it is unmuted.
func (n *node) mute(t *testing.T) (unmute func()) {
	t.Helper()
	s := n.speaker
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.ends[n.address]
	out := e.out
	closed, err := listen(n.address, 0)
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	e.out = closed
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		e.out = out
	}
}

func TestAPathBreaksAndCarriesAgain(t *testing.T) {
	one, two := loopbacks()
	a, b := start(t, one, nil), start(t, two, nil)
	there, stop := a.watch(two)
	back, _ := b.watch(one)
	a.counts(StateUp)
	b.counts(StateUp)
	<-a.told

	unmute := b.mute(t) // one direction is enough
	began := time.Now()
	<-a.told
	t.Logf("noticed after %v", time.Since(began))
	a.counts(StateDown)
	b.counts(StateDown)
	if !a.Broken(there) || !b.Broken(back) {
		t.Error("it is not broken")
	}
	unmute()
	<-a.told
	a.counts(StateUp)
	b.counts(StateUp)

	stop()
	a.mu.Lock()
	a.paths[there].until = time.Now()
	a.mu.Unlock()
	a.counts()
	b.counts(StateNew) // it was told that a has left
}

// An agent that stops, or is killed and comes back, breaks no path.
func TestAnAgentComesBack(t *testing.T) {
	one, two := loopbacks()
	a := start(t, one, nil)
	at, _ := a.watch(two)
	a.counts(StateNew) // it was never up
	for _, killed := range []bool{false, true} {
		b := start(t, two, nil)
		b.watch(one)
		a.counts(StateUp)
		if killed {
			b.mute(t)
		}
		b.Stop()
		want := StateNew
		if killed {
			want = StateDown // until b is asked, which says that it is new
		}
		a.counts(want)
	}
	b := start(t, two, nil)
	back := models.TunnelPath{Local: two, Remote: one}
	if ready, ok := b.Asked(back); ready || !ok {
		t.Errorf("it is ready: %v, %v", ready, ok)
	}
	a.counts(StateUp) // b has a session because it was asked
	if a.Broken(at) {
		t.Error("it is broken")
	}
	b.age()
	if ready, ok := b.Asked(back); !ready || !ok {
		t.Errorf("it is not ready: %v, %v", ready, ok)
	}
	if _, ok := b.Asked(at); ok {
		t.Error("it answers for an address of another node")
	}
}

// An agent that is held up says nothing meanwhile, and knows that it did not listen.
func TestAnAgentIsHeldUp(t *testing.T) {
	one, two := loopbacks()
	a, b := start(t, one, nil), start(t, two, nil)
	at, _ := a.watch(two)
	back, _ := b.watch(one)
	a.counts(StateUp)
	b.counts(StateUp)
	a.speaker.mu.Lock()
	b.counts(StateDown)
	a.speaker.mu.Unlock()
	if ready, ok := a.Asked(at); ready || !ok {
		t.Errorf("b is told: %v, %v", ready, ok)
	}
	until(t, "both ends to be up", func() error {
		if a.Broken(at) {
			t.Fatal("a takes the path for broken")
		}
		if got := a.Count()[StateNew]; got != 1 || b.Broken(back) {
			return fmt.Errorf("%d are new", got)
		}
		return nil
	})
	a.counts(StateUp)
	b.counts(StateUp)
}

// What has the port keeps paths from being watched, and nothing else.
func TestTheirPortIsTaken(t *testing.T) {
	one, two := loopbacks()
	taken, err := listen(one, port)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	a := start(t, one, nil)
	at, _ := a.watch(two)
	until(t, "the refusal", func() error {
		if _, ok := a.Asked(at); ok {
			return errors.New("it answers")
		}
		return nil
	})
	taken.Close()
	until(t, "the next attempt", func() error {
		if _, ok := a.Asked(at); !ok {
			return errors.New("it does not answer")
		}
		return nil
	})
}

func TestSessionsOfVPP(t *testing.T) {
	v := vpptest.Fake(t)
	one, two := loopbacks()
	client := vppapi.New(vppapi.Options{Socket: v.Socket(), Name: "bfd"})
	a := start(t, one, client)
	at, stop := a.watch(two)
	set := func(up bool) {
		t.Helper()
		until(t, "the session", func() error { return v.SetBFD(one, two, up) })
	}
	set(true)
	a.counts(StateUp)
	set(false)
	a.counts(StateDown)
	set(true)
	a.counts(StateUp)

	before := len(v.Mutations())
	a.soon()
	a.counts(StateUp)
	if after := v.Mutations(); len(after) != before {
		t.Errorf("it was looked at, and changed: %v", after[before:])
	}
	if err := v.Restart(); err != nil { // its sessions are new, and nothing is wrong with the path
		t.Fatal(err)
	}
	a.counts(StateNew)
	set(true)
	a.counts(StateUp)

	stop()
	a.mu.Lock()
	a.paths[at].until = time.Now()
	a.mu.Unlock()
	a.counts()
	until(t, "the session to be gone", func() error {
		if v.SetBFD(one, two, true) == nil {
			return errors.New("it is there")
		}
		return nil
	})
}
