//go:build bench

package bench

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"

	"go.patchbay.dev/tests/lab"
	"go.patchbay.dev/vppapi/vpptest"
)

// vppBed is an agent on a VPP, with endpoints that take shared memory.
type vppBed struct {
	agent  *lab.Agent
	runDir string
	vpp    *vpptest.VPP
	client *lab.Client
	end    *lab.Endpoint // one of them
	n      int           // connections asked for
	live   int
}

// newVPPBed starts it with more lines in VPP's startup configuration.
func newVPPBed(t *testing.T, more ...string) *vppBed {
	t.Helper()
	v := vpptest.Start(t, vpptest.Config("memory { main-heap-size 2G main-heap-page-size 4k }"), vpptest.Config(more...))
	dir := inMemory(t)
	b := &vppBed{vpp: v, runDir: dir, agent: lab.StartAgent(t, lab.OnVPP(v), lab.With("vpp.run_dir", dir), lab.With("log.level", "info"))}
	c := b.agent.Dial()
	b.client = lab.NewClient(t, c)
	for i := range endpoints {
		b.end = lab.NewEndpoint(t, b.agent, fmt.Sprintf("fw-%d", i)).From(10000 * i).Accept("MEMIF")
		b.end.Register(c, "fw")
	}
	return b
}

// inMemory is a directory in memory, as /run is on every node: making a socket on a disk
// waits for the same journal as the put.
func inMemory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "pb-")
	check(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	check(t, os.Chmod(dir, 0o755))
	return dir
}

func (b *vppBed) request(id string) *networkservice.NetworkServiceRequest {
	in := lab.MemifRequest(id, "fw")
	in.Connection.Payload = "ETHERNET"
	return in
}

// connect makes one more connection, to stay.
func (b *vppBed) connect(t *testing.T) {
	t.Helper()
	b.live++
	b.ask(t, b.client)
}

// ask makes a connection and gives the time from request to reply.
func (b *vppBed) ask(t *testing.T, client *lab.Client) (*networkservice.Connection, time.Duration) {
	t.Helper()
	b.n++
	in := b.request(fmt.Sprintf("c%d", b.n))
	start := time.Now()
	conn, err := client.Request(t.Context(), in)
	took := time.Since(start)
	check(t, err)
	return conn, took
}

// sample is what was measured beside each other.
type sample struct{ agent, bare, uncalled, least, close []time.Duration }

// compare takes turns between the agent, the bare floor and the least agent; what they
// connect is closed again.
func (b *vppBed) compare(t *testing.T, f *vppFloor, l *lab.Client) (s sample) {
	t.Helper()
	for range 4 * rounds {
		all, uncalled := f.once(t)
		s.bare, s.uncalled = append(s.bare, all), append(s.uncalled, uncalled)
		conn, took := b.ask(t, l)
		s.least = append(s.least, took)
		l.Disconnect(conn)
		conn, took = b.ask(t, b.client)
		s.agent = append(s.agent, took)
		start := time.Now()
		b.client.Disconnect(conn)
		s.close = append(s.close, time.Since(start))
	}
	return s
}

func percentile(d []time.Duration, p int) time.Duration {
	d = slices.Sorted(slices.Values(d))
	return d[min(len(d)*p/100, len(d)-1)]
}

func TestBenchVPP(t *testing.T) {
	b := newVPPBed(t)
	f, l := newVPPFloor(t, b.vpp), newLeast(t, b.end, b.vpp.APISocket, inMemory(t))
	for range 10 {
		b.connect(t)
	}
	few := b.compare(t, f, l)
	table = append(table,
		row{"VPP: memif–memif, request to reply, 10 live", ms(median(few.agent)), "floor " + ms(median(few.bare)), ratio(median(few.agent), median(few.bare)), "≤ 1.5"},
		row{"VPP: the same", ms(median(few.agent)), "floor without its gRPC call " + ms(median(few.uncalled)), ratio(median(few.agent), median(few.uncalled)), ""},
		row{"VPP: the same", ms(median(few.agent)), "the least agent " + ms(median(few.least)), ratio(median(few.agent), median(few.least)), ""},
		row{"VPP: the least agent", ms(median(few.least)), "floor " + ms(median(few.bare)), ratio(median(few.least), median(few.bare)), ""},
		row{"VPP: the least agent, p99", ms(percentile(few.least, 99)), "floor's median " + ms(median(few.bare)), ratio(percentile(few.least, 99), median(few.bare)), ""},
		row{"VPP: the floor itself, p99", ms(percentile(few.bare, 99)), "floor's median " + ms(median(few.bare)), ratio(percentile(few.bare, 99), median(few.bare)), ""},
		row{"VPP: the same, p99", ms(percentile(few.agent, 99)), "floor's median " + ms(median(few.bare)), ratio(percentile(few.agent, 99), median(few.bare)), "≤ 4"},
		row{"VPP: close", ms(median(few.close)), "", "", "≤ 2 ms"})

	b.burst(t)
	for b.live < many {
		b.connect(t)
	}
	lots := b.compare(t, f, l)
	own := func(s sample) time.Duration { return median(s.agent) - median(s.bare) }
	table = append(table,
		row{"VPP: memif–memif, 1,000 live", ms(median(lots.agent)), "floor " + ms(median(lots.bare)), ratio(median(lots.agent), median(lots.bare)), ""},
		row{"VPP: our own share, 1,000 live", ms(own(lots)), "10 live " + ms(own(few)), ratio(own(lots), own(few)), "≤ 1.3"},
		row{"VPP: resident with 1,000 connections", fmt.Sprintf("%d MB", resident(t, b.agent.Pid())), "", "", "≤ 150 MB"})

	b.restartAgent(t)
	b.restore(t)
}

// burst requests 100 connections at once, and closes them.
func (b *vppBed) burst(t *testing.T) {
	t.Helper()
	const n = 100
	conns := make([]*networkservice.Connection, n)
	var wg sync.WaitGroup
	start := time.Now()
	for i := range n {
		wg.Go(func() {
			var err error
			if conns[i], err = b.client.Request(t.Context(), b.request(fmt.Sprintf("burst%d", i))); err != nil {
				t.Errorf("request %d of the burst: %v", i, err)
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	if t.Failed() {
		t.FailNow()
	}
	table = append(table, row{"VPP: 100 requests at once, all answered", ms(took), "", "", "≤ 0.5 s"})
	for _, c := range conns {
		wg.Go(func() { b.client.Disconnect(c) })
	}
	wg.Wait()
}

// restartAgent starts the agent over 1,000 connections while pings cross another one.
func (b *vppBed) restartAgent(t *testing.T) {
	t.Helper()
	client, server := lab.NewNamespace(t), lab.NewNamespace(t)
	b.agent.Etcdctl("put", "/patchbay/v1/nodes/n1/crossconnects/flow", fmt.Sprintf(`{"id":"flow","payload":"ETHERNET","path":"forwarder",
		"client":{"mechanism":{"type":"KERNEL","parameters":{"netns":%q,"name":"x0"}},"addresses":["10.99.0.1/24"]},
		"endpoint":{"mechanism":{"type":"KERNEL","parameters":{"netns":%q,"name":"x0"}},"addresses":["10.99.0.2/24"]}}`, client.Path, server.Path))
	lab.Eventually(t, 20*time.Second, "the flow", func() error { _, err := client.Try("ping", "-c", "1", "-W", "1", "10.99.0.2"); return err })
	var times []time.Duration
	lost, changed := 0, 0
	for range 5 {
		ping := client.Start(t, "ping", "-i", "0.002", "-c", "1000", "-q", "10.99.0.2")
		b.agent.Kill()
		times = append(times, b.agent.StartAndTime())
		line := ping.Await(t, "packets transmitted")
		var sent, received int
		if _, err := fmt.Sscanf(line, "%d packets transmitted, %d received", &sent, &received); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		lost += sent - received
		changed += b.agent.Operations(t)
	}
	table = append(table,
		row{"VPP: agent killed and started, ready, 1,000 on record", ms(median(times)), "", "", "≤ 1 s"},
		row{"VPP: the same, operations that change something", fmt.Sprint(changed), "", "", "0"},
		row{"VPP: the same, of 5,000 packets lost", fmt.Sprint(lost), "", "", "0"})
	b.agent.Etcdctl("del", "/patchbay/v1/nodes/n1/crossconnects/flow")
}

// restore kills VPP and measures until everything is there again, beside the same calls
// made bare in the same VPP, started anew.
func (b *vppBed) restore(t *testing.T) {
	t.Helper()
	var ours, bares []time.Duration
	for range 9 {
		b.vpp.Kill()
		b.vpp.Restart()
		start := time.Now()
		b.settle(t)
		ours = append(ours, time.Since(start))

		b.agent.Stop()
		b.vpp.Kill()
		b.vpp.Restart()
		f := newVPPFloor(t, b.vpp)
		start = time.Now()
		replayed := make(chan error, 1)
		go func() { replayed <- f.replay(many) }()
		b.settle(t) // looked at in the same way
		bares = append(bares, time.Since(start))
		check(t, <-replayed)
		f.vpp.Stop()
		b.vpp.Kill()
		b.vpp.Restart()
		b.agent.Start()
		b.agent.WaitReady()
		b.settle(t)
	}
	table = append(table, row{"VPP: 1,000 connections restored after VPP's restart", ms(median(ours)), "bare replay " + ms(median(bares)), ratio(median(ours), median(bares)), "≤ 1.25"})
}

// settle waits until VPP has joined 1,000 connections. To list them keeps VPP busy for
// milliseconds, so it is not asked all the time.
func (b *vppBed) settle(t *testing.T) {
	t.Helper()
	look := dial(t, b.vpp, "settle")
	defer look.Stop()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	lab.Eventually(t, time.Minute, "1,000 connections", func() error {
		<-tick.C
		to, err := look.L2Connections(t.Context())
		if err == nil && len(to) < 2*many {
			err = fmt.Errorf("%d ends are joined", len(to))
		}
		return err
	})
}

// Ten connections: how soon after VPP answers can their workloads connect again?
func TestBenchReconnect(t *testing.T) {
	b := newVPPBed(t)
	var sockets []string
	for range 10 {
		conn, _ := b.ask(t, b.client)
		sockets = append(sockets, conn.GetMechanism().GetParameters()["socketfile"])
	}
	var times []time.Duration
	for range 5 {
		b.vpp.Kill()
		b.vpp.Restart()
		start := time.Now()
		for _, s := range sockets {
			lab.Eventually(t, 20*time.Second, "the socket "+filepath.Base(s), func() error {
				c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: s, Net: "unixpacket"})
				if err == nil {
					c.Close()
				}
				return err
			})
		}
		times = append(times, time.Since(start))
	}
	table = append(table, row{"VPP: 10 workloads can connect again after VPP's restart", ms(median(times)), "", "", "≤ 1.5 s"})
}

// Kernel interfaces: linked directly, through VPP, and to shared memory.
func TestBenchKernelOnVPP(t *testing.T) {
	v := vpptest.Start(t)
	for _, path := range []string{"", "forwarder"} {
		a := lab.StartAgent(t, lab.OnVPP(v), lab.With("log.level", "info"), lab.With("mechanisms.path", fmt.Sprintf("%q", path)))
		c := a.Dial()
		client := lab.NewClient(t, c)
		lab.NewEndpoint(t, a, "fw-0").Register(c, "fw")
		ns := lab.NewNamespace(t)
		var times []time.Duration
		for i := range 30 {
			start := time.Now()
			conn := client.Connect(fmt.Sprintf("k%d", i), "fw", ns, "nsm0")
			times = append(times, time.Since(start))
			client.Disconnect(conn)
		}
		what, want := "VPP: kernel–kernel", "≤ 15 ms"
		if path != "" {
			what, want = what+" with path forwarder (two af_packet interfaces)", ""
		}
		table = append(table, row{what, ms(median(times)), "", "", want})
		a.Stop()
	}
}
