//go:build bench

package bench

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.patchbay.dev/tests/lab"
)

// flow is two DPDK workloads that face each other.
type flow struct{ near, far *lab.Testpmd }

// span is for how long a rate is measured: short, for on few processors who runs when with
// whom makes more of a difference than what is compared, and changes from time to time.
const (
	span  = time.Second
	turns = 8 // of four measurements each
)

// rate is how many packets a second arrive while one end sends all it can.
func (f flow) rate() float64 {
	f.far.Command("start")
	f.near.Command("start")
	before, _ := f.far.Packets()
	began := time.Now()
	<-time.After(span) // the time over which is counted
	after, _ := f.far.Packets()
	took := time.Since(began)
	f.near.Command("stop")
	f.far.Command("stop")
	return float64(after-before) / took.Seconds()
}

func startFlow(t *testing.T, client, endpoint, near, far string, args ...string) flow {
	f := flow{far: lab.StartTestpmd(t, lab.MemifDevice(endpoint), far, args...)}
	f.near = lab.StartTestpmd(t, lab.MemifDevice(client), near, args...)
	f.near.Command("stop")
	f.far.Command("stop")
	return f
}

// takeTurns gives the rates of two flows, each the median of what was measured in turn:
// A-B-B-A.
func takeTurns(agent, byHand flow) (a, h float64) {
	var as, hs []float64
	for range turns {
		for _, f := range []struct {
			flow
			rates *[]float64
		}{{agent, &as}, {byHand, &hs}, {byHand, &hs}, {agent, &as}} {
			*f.rates = append(*f.rates, f.rate())
		}
	}
	slices.Sort(as)
	slices.Sort(hs)
	return as[len(as)/2], hs[len(hs)/2]
}

// Packets take the same time through what the agent has programmed as through the same
// made by hand in vppctl.
func TestBenchForwarding(t *testing.T) {
	b := newVPPBed(t)
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

	agent := startFlow(t, ours[0], ours[1], "txonly", "rxonly")
	byHand := startFlow(t, hand[0], hand[1], "txonly", "rxonly")
	a, h := takeTurns(agent, byHand)
	table = append(table, row{"VPP: forwarding memif–memif, packets a second", fmt.Sprintf("%.2f M", a/1e6), fmt.Sprintf("by hand %.2f M", h/1e6), fmt.Sprintf("%.2f", a/h), "≥ 0.98"})
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
