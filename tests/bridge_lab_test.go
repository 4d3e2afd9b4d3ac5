package tests

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	nodes "go.patchbay.dev/agent/lab"
	"go.patchbay.dev/tests/lab"
)

// segment is a lab whose nodes have members of one bridge.
type segment struct {
	*lab.Nodes
	t       *testing.T
	members []*member
	numbers uint32 // of frames
}

// member is a workload with an interface on the bridge.
type member struct {
	id, address string
	node        *lab.Node
	ns          *lab.Namespace
	frames      *lab.Frames
}

// newSegment starts nodes with so many members each.
func newSegment(t *testing.T, o nodes.Options, each int) *segment {
	t.Helper()
	s := &segment{Nodes: lab.StartNodes(t, o), t: t}
	s.bridge(map[string]any{"name": "lan"})
	for _, n := range s.List {
		for range each {
			s.add(n)
		}
	}
	s.up(s.members...)
	s.listen()
	return s
}

// listen opens the members' interfaces, again where they were made anew.
func (s *segment) listen() {
	s.t.Helper()
	for _, m := range s.members {
		m.frames = m.ns.Frames(s.t, "nsm0")
	}
}

// bridge writes a bridge.
func (s *segment) bridge(record map[string]any) {
	s.t.Helper()
	data, err := json.Marshal(record)
	do(s.t, err)
	s.List[0].Etcdctl("put", "/patchbay/v1/bridges/"+record["name"].(string), string(data))
}

// add writes one more member, of a node.
func (s *segment) add(n *lab.Node) *member {
	s.t.Helper()
	number := len(s.members) + 1
	m := &member{id: fmt.Sprint("m", number), address: fmt.Sprintf("10.60.0.%d", number), node: n, ns: lab.NewNamespace(s.t)}
	s.members = append(s.members, m)
	n.Etcdctl("put", "/patchbay/v1/nodes/"+n.Host.Name+"/crossconnects/"+m.id, bridged(m.id, "lan", m.ns.Path, "nsm0", m.address+"/24"))
	return m
}

// bridged is the record of a member with a kernel interface.
func bridged(id, bridge, netns, name, address string) string {
	return fmt.Sprintf(`{"id":%q,"payload":"ETHERNET","client":{"mechanism":{"type":"KERNEL","parameters":{"netns":%q,"name":%q}},"addresses":[%q]},
		"endpoint":{"mechanism":{"type":"BRIDGE","parameters":{"bridge":%q}}}}`, id, netns, name, address, bridge)
}

// up waits until members are.
func (s *segment) up(members ...*member) {
	s.t.Helper()
	for _, m := range members {
		awaitAt(s.t, m.node, m.id, "UP")
	}
}

// on are the members of a node, by its place.
func (s *segment) on(node int) (all []*member) {
	for _, m := range s.members {
		if m.node == s.List[node] {
			all = append(all, m)
		}
	}
	return all
}

// everyPair waits until each of some members reaches each of the others.
func (s *segment) everyPair(members ...*member) {
	s.t.Helper()
	var all sync.WaitGroup
	var mu sync.Mutex
	var failed []string
	gate := make(chan struct{}, 12)
	for _, from := range members {
		for _, to := range members {
			if from == to {
				continue
			}
			all.Go(func() {
				gate <- struct{}{}
				defer func() { <-gate }()
				if out, err := from.ns.Try("ping", "-c", "1", "-w", "20", to.address); err != nil {
					mu.Lock()
					failed = append(failed, fmt.Sprintf("%s on %s to %s on %s: %s", from.id, from.node.Host.Name, to.id, to.node.Host.Name, out))
					mu.Unlock()
				}
			})
		}
	}
	all.Wait()
	if len(failed) > 0 {
		s.t.Errorf("%d of the pairs do not reach each other: %s", len(failed), strings.Join(failed, "\n"))
	}
}

// number is one that no frame has had.
func (s *segment) number() uint32 {
	s.numbers++
	return s.numbers
}

// heard is what each member hears until it is quiet.
func (s *segment) heard(quiet time.Duration) map[*member]map[uint32]int {
	var all sync.WaitGroup
	var mu sync.Mutex
	heard := map[*member]map[uint32]int{}
	for _, m := range s.members {
		all.Go(func() {
			h := m.frames.Heard(quiet)
			mu.Lock()
			defer mu.Unlock()
			heard[m] = h
		})
	}
	all.Wait()
	return heard
}

// quiet is for how long nobody may hear anything, for it to be said that all has come.
const quiet = 300 * time.Millisecond

// eachOnce has every member send a broadcast, which each of the others must hear once.
func (s *segment) eachOnce() {
	s.t.Helper()
	s.heard(quiet)
	sent := map[uint32]*member{}
	for _, m := range s.members {
		n := s.number()
		sent[n] = m
		m.frames.Send(m.frames.MAC, lab.Broadcast, n)
	}
	for m, heard := range s.heard(quiet) {
		for n, from := range sent {
			want := 1
			if m == from {
				want = 0
			}
			if heard[n] != want {
				s.t.Errorf("%s on %s has heard %d times the broadcast of %s on %s", m.id, m.node.Host.Name, heard[n], from.id, from.node.Host.Name)
			}
		}
	}
}

// goesTo sends a frame from a member to a MAC and wants it to come to one member alone.
func (s *segment) goesTo(from *member, mac [6]byte, to *member) {
	s.t.Helper()
	n := s.number()
	from.frames.Send(from.frames.MAC, mac, n)
	for m, heard := range s.heard(quiet) {
		if (heard[n] > 0) != (m == to) {
			s.t.Errorf("what %s on %s has sent to %x has come %d times to %s on %s; want it at %s", from.id, from.node.Host.Name, mac, heard[n], m.id, m.node.Host.Name, to.id)
		}
	}
}

// restart has a node lose all, as a machine that is started anew.
func (s *segment) restart(n *lab.Node) {
	s.t.Helper()
	n.Kill()
	if n.Host.VPP != nil {
		do(s.t, n.Host.VPP.Stop())
		do(s.t, n.Host.StartVPP(s.t.Context()))
	}
	host := &lab.Namespace{Name: n.Host.Netns}
	for _, name := range host.Interfaces(s.t) {
		if strings.HasPrefix(name, "pb") {
			host.Run(s.t, "ip", "link", "delete", name)
		}
	}
	n.Start()
}

// ctl is what a node's VPP says.
func ctl(n *lab.Node, command ...string) (string, error) {
	out, err := n.Host.VPP.Ctl(command...).CombinedOutput()
	return string(out), err
}

// tunnelsTo wants no tunnel of a bridge to lead from a node to another.
func tunnelsTo(from, to *lab.Node) error {
	address := to.Host.Tunnel[0].String()
	var out string
	var err error
	if from.Host.VPP != nil {
		out, err = ctl(from, "show", "vxlan", "tunnel")
	} else {
		out, err = (&lab.Namespace{Name: from.Host.Netns}).Try("bridge", "fdb", "show")
	}
	if err != nil || strings.Contains(out, address) {
		return fmt.Errorf("%v: %s", err, out)
	}
	return nil
}

// bridgeless wants nothing of bridges to be left on a node.
func bridgeless(t *testing.T, n *lab.Node) error {
	for _, name := range (&lab.Namespace{Name: n.Host.Netns}).Interfaces(t) {
		if strings.HasPrefix(name, "pb") {
			return fmt.Errorf("interface %s", name)
		}
	}
	if n.Host.VPP == nil {
		return nil
	}
	for command, want := range map[string]string{"show bridge-domain": "no bridge-domains", "show vxlan tunnel": "No vxlan tunnels"} {
		if out, err := ctl(n, strings.Fields(command)...); err != nil || !strings.Contains(out, want) {
			return fmt.Errorf("%s: %v: %s", command, err, out)
		}
	}
	return nil
}
