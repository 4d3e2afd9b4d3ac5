package tests

import (
	"errors"
	"testing"
	"time"

	nodes "go.patchbay.dev/agent/lab"
	"go.patchbay.dev/tests/lab"
)

// meshes are labs by what forwards on their nodes.
var meshes = []struct {
	name string
	vpp  func(node int) bool
}{
	{"kernel", nil},
	{"VPP and kernel", func(node int) bool { return node != 2 }},
}

// leaves is what an underlay of 1500 bytes leaves of tunnels over IPv4.
const leaves = 1500 - 20 - 8 - 8 - 14

// Three nodes with three members each are one segment, whatever happens to one of them.
func TestBridgeOverThreeNodes(t *testing.T) {
	t.Parallel()
	for _, c := range meshes {
		t.Run(c.name, func(t *testing.T) {
			s := newSegment(t, nodes.Options{Nodes: 3, VPP: c.vpp}, 3)
			s.everyPair(s.members...)
			s.eachOnce()
			fullSize(t, s.on(0)[0].ns, s.on(1)[0].address, leaves)
			fullSize(t, s.on(1)[0].ns, s.on(2)[0].address, leaves)
			s.moves()
			s.storm()
			s.faults(s.List[2])
			s.listen()
			s.everyPair(s.members...)
			s.eachOnce()
			s.leave()
		})
	}
}

// moves: a MAC is followed from node to node, and within one.
func (s *segment) moves() {
	s.t.Helper()
	mac := [6]byte{2, 0, 0, 0, 0xaa, 1}
	for _, at := range []*member{s.on(0)[0], s.on(2)[0], s.on(2)[1], s.on(1)[0], s.on(0)[0]} {
		at.frames.Send(mac, lab.Broadcast, s.number())
		s.heard(quiet)
		for _, from := range []*member{s.on(0)[2], s.on(1)[2], s.on(2)[2]} {
			s.goesTo(from, mac, at)
		}
	}
}

// storm: however many broadcasts there are, nobody hears one twice, and when no more are sent
// nobody hears any.
func (s *segment) storm() {
	s.t.Helper()
	s.heard(quiet)
	first := s.numbers + 1
	senders := []*member{s.on(0)[0], s.on(1)[0], s.on(2)[0]}
	for range 5000 {
		for _, m := range senders {
			m.frames.Send(m.frames.MAC, lab.Broadcast, s.number())
		}
	}
	for m, heard := range s.heard(2 * quiet) {
		twice := 0
		for n, times := range heard {
			if n >= first && times > 1 {
				twice++
			}
		}
		if len(heard) == 0 || twice > 0 {
			s.t.Errorf("%s on %s has heard %d of the frames of a storm, %d more than once", m.id, m.node.Host.Name, len(heard), twice)
		}
	}
	for m, heard := range s.heard(quiet) {
		if len(heard) > 0 {
			s.t.Errorf("after the storm %s on %s hears %d frames", m.id, m.node.Host.Name, len(heard))
		}
	}
}

// faults: what befalls one node is not noticed by the members of the others, and it rejoins.
func (s *segment) faults(n *lab.Node) {
	s.t.Helper()
	f := startFlow(s.t, s.on(0)[0].ns, s.on(1)[0].address)
	third := s.on(2)[0]
	back := func(what string) {
		s.t.Helper()
		lab.Eventually(s.t, 30*time.Second, "the node to be back after "+what, func() error { return reaches(third.ns, s.on(1)[1].address) })
		awaitPing(s.t, s.on(0)[1].ns, third.address)
	}
	for _, end := range []func(){n.Stop, n.Kill} {
		flow := startFlow(s.t, third.ns, s.on(1)[1].address)
		end()
		n.Start()
		if did := n.Operations(s.t); did != 0 {
			s.t.Errorf("an agent that was restarted has changed something %d times", did)
		}
		flow.end(s.t)
	}
	if n.Host.VPP != nil {
		do(s.t, n.Host.VPP.Stop())
		do(s.t, n.Host.StartVPP(s.t.Context()))
		back("VPP was restarted")
	}
	s.restart(n)
	back("it was restarted")
	do(s.t, s.Cut(n.Host))
	lab.Eventually(s.t, 10*time.Second, "the node to be cut off", func() error {
		if reaches(third.ns, s.on(1)[1].address) == nil {
			return errors.New("it still answers")
		}
		return nil
	})
	do(s.t, s.Mend(n.Host))
	back("it was cut off")
	f.end(s.t)
	s.up(s.members...)
}

// leave: with its last member a node leaves, and with the bridge all is gone.
func (s *segment) leave() {
	s.t.Helper()
	left := s.on(2)
	for _, m := range left {
		s.List[0].Etcdctl("del", "/patchbay/v1/nodes/n3/crossconnects/"+m.id)
	}
	for _, m := range left {
		lab.Eventually(s.t, 10*time.Second, "the interface to be gone", func() error { return none(m.ns.Interfaces(s.t)) })
	}
	lab.Eventually(s.t, 10*time.Second, "no tunnel to the node that has left", func() error {
		return tunnelsTo(s.List[0], s.List[2])
	})
	s.everyPair(append(s.on(0), s.on(1)...)...)
	s.List[0].Etcdctl("del", "--prefix", "/patchbay/v1/nodes/")
	for _, n := range s.List {
		lab.Eventually(s.t, 10*time.Second, "nothing to be left on "+n.Host.Name, func() error { return bridgeless(s.t, n) })
	}
}
