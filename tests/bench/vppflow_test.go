//go:build bench

package bench

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"go.patchbay.dev/tests/lab"
)

// flow is a DPDK workload whose packets go round and round: out of its one memif, through
// VPP, in at the other. It keeps one processor busy and VPP the other (ownCore), so that
// nobody waits for a time slice, which would be all that is measured.
type flow struct{ *lab.Testpmd }

// ownCore has VPP stay where no workload's packets are handled: testpmd does that on core 1.
const ownCore = "cpu { main-core 0 }"

const (
	span     = time.Second // for how long a rate is measured
	turns    = 5           // of four measurements each
	together = 512         // packets on the way, half the size of a ring
)

func startFlow(t *testing.T, sockets [2]string, args ...string) flow {
	return flow{lab.StartMemifLoop(t, sockets, args...)}
}

// rate is how many packets a second come through VPP to port 1.
func (f flow) rate() float64 {
	f.Forward(fmt.Sprint("start tx_first ", together/32)) // of 32 each
	before, _ := f.PacketsAt(1)
	began := time.Now()
	<-time.After(span) // the time over which is counted
	after, _ := f.PacketsAt(1)
	took := time.Since(began)
	f.Stop()
	return float64(after-before) / took.Seconds()
}

// takeTurns measures two flows in turn, A-B-B-A, and gives the median rate of each and the
// median over the turns of their ratio: what changes from one turn to the next is not in that.
func takeTurns(agent, byHand flow) (a, h, ratio float64) {
	var as, hs, ratios []float64
	for range 2 { // until the agent has seen that they are busy
		agent.rate()
		byHand.rate()
	}
	for range turns {
		a1, h1, h2, a2 := agent.rate(), byHand.rate(), byHand.rate(), agent.rate()
		as, hs, ratios = append(as, a1, a2), append(hs, h1, h2), append(ratios, (a1+a2)/(h1+h2))
	}
	return median(as), median(hs), median(ratios)
}

// Packets take the same time through what the agent has programmed as through the same
// made by hand in vppctl.
func TestBenchForwarding(t *testing.T) {
	b := newVPPBed(t, ownCore)
	b.agent.Etcdctl("put", "/patchbay/v1/nodes/n1/crossconnects/flow",
		`{"id":"flow","payload":"ETHERNET","client":{"mechanism":{"type":"MEMIF"}},"endpoint":{"mechanism":{"type":"MEMIF"}}}`)
	ours := [2]string{filepath.Join(b.runDir, "flow", "memif-client.sock"), filepath.Join(b.runDir, "flow", "memif.sock")}
	lab.Eventually(t, 10*time.Second, "the connection", func() error {
		if out := b.vpp.CLI("show mode"); len(out) < 60 {
			return fmt.Errorf("show mode: %s", out)
		}
		return nil
	})
	var hand [2]string
	for i := range hand {
		hand[i] = filepath.Join(b.vpp.Dir, fmt.Sprintf("hand%d.sock", i))
		b.vpp.CLI(fmt.Sprintf("create memif socket id %d filename %s", 901+i, hand[i]))
		b.vpp.CLI(fmt.Sprintf("create interface memif id 0 socket-id %d master", 901+i))
		b.vpp.CLI(fmt.Sprintf("set interface state memif%d/0 up", 901+i))
	}
	b.vpp.CLI("set interface l2 xconnect memif901/0 memif902/0")
	b.vpp.CLI("set interface l2 xconnect memif902/0 memif901/0")

	a, h, ratio := takeTurns(startFlow(t, ours), startFlow(t, hand))
	table = append(table, row{"VPP: forwarding memif–memif, packets a second", fmt.Sprintf("%.2f M", a/1e6), fmt.Sprintf("by hand %.2f M", h/1e6), fmt.Sprintf("%.2f", ratio), "≥ 0.98"})
}

// A flow at half of what is carried without loss loses nothing while 100 connections are made.
func TestBenchConnectBesideAFlow(t *testing.T) {
	b := newVPPBed(t)
	near, far := lab.NewNamespace(t), lab.NewNamespace(t)
	b.agent.Etcdctl("put", "/patchbay/v1/nodes/n1/crossconnects/flow", fmt.Sprintf(`{"id":"flow","payload":"ETHERNET","path":"forwarder",
		"client":{"mechanism":{"type":"KERNEL","parameters":{"netns":%q,"name":"x0"}},"addresses":["10.99.0.1/24"]},
		"endpoint":{"mechanism":{"type":"KERNEL","parameters":{"netns":%q,"name":"x0"}},"addresses":["10.99.0.2/24"]}}`, near.Path, far.Path))
	lab.Eventually(t, 10*time.Second, "the flow", func() error { _, err := near.Try("ping", "-c", "1", "-W", "1", "10.99.0.2"); return err })
	u := newUDPFlow(t, near, far, "10.99.0.2:7000")
	second := func() <-chan struct{} {
		done := make(chan struct{})
		time.AfterFunc(time.Second, func() { close(done) })
		return done
	}
	carried := 0
	for rate := 1000; ; rate *= 2 {
		if sent, lost := u.run(rate, second()); lost > 0 || sent < rate*9/10 {
			break
		}
		carried = rate
	}
	if carried == 0 {
		t.Fatal("not even 1000 packets a second are carried")
	}
	done, ended := make(chan struct{}), make(chan struct{})
	var sent, lost int
	go func() {
		defer close(ended)
		sent, lost = u.run(carried/2, done)
	}()
	for range 100 {
		b.connect(t)
	}
	close(done)
	<-ended
	table = append(table, row{"VPP: packets lost while 100 connections were made", fmt.Sprint(lost),
		fmt.Sprintf("%d sent, %d a second; without loss %d", sent, carried/2, carried), "", "0"})
}
