//go:build bench

// Package bench measures the agent as a process against a floor measured in the same run:
// one durable etcd put and the same netlink calls, bare, one after the other. It prints a
// table; it fails on what goes wrong, never on a clock.
package bench

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"

	"go.patchbay.dev/plugins/fdpass"
	"go.patchbay.dev/tests/lab"
)

const (
	rounds     = 60   // requests of which a median is taken
	many       = 1000 // connections that are live meanwhile
	namespaces = 50   // of clients
	endpoints  = 5
)

// row of the table: a figure, what it is held against, and what it should be.
type row struct{ what, figure, against, ratio, target string }

var table []row

func TestMain(m *testing.M) {
	if config := os.Getenv(leastEnv); config != "" {
		runLeast(config)
	}
	if socket := os.Getenv(calledEnv); socket != "" {
		runCalled(socket)
	}
	code := m.Run()
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nmeasured\tfigure\tagainst\tratio\twanted")
	for _, r := range table {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", r.what, r.figure, r.against, r.ratio, r.target)
	}
	w.Flush()
	lab.Cleanup()
	os.Exit(code)
}

func median[T cmp.Ordered](d []T) T {
	d = slices.Sorted(slices.Values(d))
	return d[len(d)/2]
}

func ratio(a, b time.Duration) string { return fmt.Sprintf("%.2f", float64(a)/float64(b)) }

func ms(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond)) }

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// rest waits until the machine has little to do: the kernel takes its time to be rid of a
// thousand interfaces, or to make sure that nobody else has their addresses. Where others
// keep it busy, it gives up after a minute.
func rest(t *testing.T) {
	t.Helper()
	spent := func() (busy, all float64) {
		data, err := os.ReadFile("/proc/stat")
		check(t, err)
		for i, f := range strings.Fields(strings.SplitN(string(data), "\n", 2)[0])[1:9] { // proc(5): user to steal
			n, err := strconv.ParseFloat(f, 64)
			check(t, err)
			if all += n; i != 3 && i != 4 { // idle, iowait
				busy += n
			}
		}
		return busy, all
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		busy, all := spent()
		<-time.After(500 * time.Millisecond) // the rest that is waited for
		if b, a := spent(); (b-busy)/(a-all) < 0.1 {
			return
		}
	}
	t.Log("the machine is busy with other work")
}

// bed is an agent with clients and endpoints.
type bed struct {
	agent  *lab.Agent
	client *lab.Client
	ns     []*lab.Namespace
	ends   []*lab.Endpoint
	n      int // connections asked for
	live   int
}

func newBed(t *testing.T) *bed {
	t.Helper()
	b := &bed{agent: lab.StartAgent(t, lab.With("log.level", "info"))}
	c := b.agent.Dial()
	b.client = lab.NewClient(t, c)
	for i := range endpoints {
		e := lab.NewEndpoint(t, b.agent, fmt.Sprintf("fw-%d", i)).From(10000 * i)
		e.Register(c, "fw")
		b.ends = append(b.ends, e)
	}
	for range namespaces {
		b.ns = append(b.ns, lab.NewNamespace(t))
	}
	return b
}

// connect makes one more connection, to stay.
func (b *bed) connect(t *testing.T) {
	t.Helper()
	b.live++
	b.ask(t, b.client)
}

// turn makes a connection, gives the time from request to reply, and closes it again.
func (b *bed) turn(t *testing.T, client *lab.Client) time.Duration {
	t.Helper()
	conn, took := b.ask(t, client)
	client.Disconnect(conn)
	return took
}

func (b *bed) ask(t *testing.T, client *lab.Client) (*networkservice.Connection, time.Duration) {
	t.Helper()
	b.n++
	ns := b.ns[b.n%len(b.ns)]
	in := lab.NewRequest(t, fmt.Sprintf("c%d", b.n), "fw", ns, fmt.Sprintf("nsm%d", b.n))
	return timed(t, client, in, ns)
}

// timed makes a request and gives the time to its reply. The client has its namespace open, as the floor has its.
func timed(t *testing.T, client *lab.Client, in *networkservice.NetworkServiceRequest, ns *lab.Namespace) (*networkservice.Connection, time.Duration) {
	t.Helper()
	own := ns.Open(t)
	defer own.Close()
	start := time.Now()
	conn, err := client.Request(t.Context(), in, fdpass.Send(own))
	took := time.Since(start)
	check(t, err)
	return conn, took
}

// figures are medians of what was measured in turn.
type figures struct {
	agent, least time.Duration // request to reply
	bare, called time.Duration // the floor; with a bare gRPC call that passes a descriptor
}

// compare takes turns between the agent, the bare floor and the least agent; what they
// connect is closed again.
func (b *bed) compare(t *testing.T, f *floor, call, l *lab.Client) figures {
	t.Helper()
	var agents, bares, called, leasts []time.Duration
	for i := range rounds {
		once := f.once(t)
		bares = append(bares, once)
		ns := b.ns[i%len(b.ns)]
		_, took := timed(t, call, lab.NewRequest(t, fmt.Sprint("call", i), "fw", ns, "nsm0"), ns)
		called = append(called, once+took)
		leasts = append(leasts, b.turn(t, l))
		agents = append(agents, b.turn(t, b.client))
	}
	return figures{median(agents), median(leasts), median(bares), median(called)}
}

func TestBench(t *testing.T) {
	b := newBed(t)
	f, call, l := newFloor(t, b.ns[0], b.ends[0].Net), newCall(t), newLeast(t, b.ends[0], "", "")
	for range 10 {
		b.connect(t)
	}
	few := b.compare(t, f, call, l)
	table = append(table,
		row{"request to reply, 10 live", ms(few.agent), "floor " + ms(few.bare), ratio(few.agent, few.bare), "≤ 1.5"},
		row{"request to reply, 10 live", ms(few.agent), "floor and a bare gRPC call " + ms(few.called), ratio(few.agent, few.called), ""},
		row{"request to reply, 10 live", ms(few.agent), "the least agent " + ms(few.least), ratio(few.agent, few.least), ""},
		row{"the least agent, 10 live", ms(few.least), "floor " + ms(few.bare), ratio(few.least, few.bare), ""})

	burst(t, b)
	rush(t, b)

	for b.live < many {
		b.connect(t)
	}
	lots := b.compare(t, f, call, l)
	table = append(table,
		row{"request to reply, 1,000 live", ms(lots.agent), "floor " + ms(lots.bare), ratio(lots.agent, lots.bare), ""},
		row{"request to reply, 1,000 live", ms(lots.agent), "10 live " + ms(few.agent), ratio(lots.agent, few.agent), "≤ 1.3"},
		row{"the least agent, 1,000 live", ms(lots.least), "10 live " + ms(few.least), ratio(lots.least, few.least), ""},
		row{"the floor itself, 1,000 live", ms(lots.bare), "10 live " + ms(few.bare), ratio(lots.bare, few.bare), ""})

	idle(t, b)
	restart(t, b)
}

// burst requests 100 connections at once.
func burst(t *testing.T, b *bed) {
	t.Helper()
	took, _ := b.flood(t, 100, 100)
	table = append(table, row{"100 requests at once, all answered", ms(took), "", "", "≤ 1 s"})
}

// rush has clients ask for connections as fast as they get them.
func rush(t *testing.T, b *bed) {
	t.Helper()
	const n, clients = 500, 32
	rest(t)
	took, used := b.flood(t, n, clients)
	table = append(table, row{fmt.Sprintf("set up, %d clients at a time", clients), fmt.Sprintf("%.0f /s", n/took.Seconds()),
		"the agent's share of a core, each: " + ms(used/n), "", ""})
}

// flood makes n connections, so many clients at a time, tells how long that took and how much of
// a processor the agent used, and closes them.
func (b *bed) flood(t *testing.T, n, clients int) (took, used time.Duration) {
	t.Helper()
	conns := make([]*networkservice.Connection, n)
	requests := make([]*networkservice.NetworkServiceRequest, n)
	work := make(chan int, n)
	for i := range n {
		b.n++
		requests[i] = lab.NewRequest(t, fmt.Sprintf("c%d", b.n), "fw", b.ns[i%len(b.ns)], fmt.Sprintf("nsm%d", b.n))
		work <- i
	}
	close(work)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	before, start := cpu(t, b.agent.Pid()), time.Now()
	for range clients {
		wg.Go(func() {
			for i := range work {
				var err error
				if conns[i], err = b.client.Pass(ctx, requests[i], b.ns[i%len(b.ns)]); err != nil {
					t.Errorf("request %d of %d: %v", i, n, err)
				}
			}
		})
	}
	wg.Wait()
	took, used = time.Since(start), cpu(t, b.agent.Pid())-before
	if t.Failed() {
		t.FailNow()
	}
	for _, c := range conns {
		wg.Go(func() { b.client.Disconnect(c) })
	}
	wg.Wait()
	return took, used
}

// idle looks at the process while nobody asks for anything.
func idle(t *testing.T, b *bed) {
	t.Helper()
	const span = 10 * time.Second
	before := cpu(t, b.agent.Pid())
	<-time.After(span) // the idleness that is measured
	used := cpu(t, b.agent.Pid()) - before
	table = append(table,
		row{"idle with 1,000 connections, of a core", fmt.Sprintf("%.2f %%", 100*used.Seconds()/span.Seconds()), "", "", "< 1 %"},
		row{"resident with 1,000 connections", fmt.Sprintf("%d MB", resident(t, b.agent.Pid())), "", "", "≤ 150 MB"})
}

// restart stops the agent and starts it over what is on record.
func restart(t *testing.T, b *bed) {
	t.Helper()
	var times []time.Duration
	for range 5 {
		b.agent.Stop()
		times = append(times, b.agent.StartAndTime())
	}
	table = append(table, row{"exec to ready, 1,000 on record", ms(median(times)), "", "", "≤ 500 ms"})
}

// cpu is the processor time that a process has used.
func cpu(t *testing.T, pid int) time.Duration {
	t.Helper()
	used := lab.Stat(t, pid, 14, 15) // utime and stime, in ticks
	return time.Duration(used[0]+used[1]) * 10 * time.Millisecond
}

// resident is a process's resident memory in MB.
func resident(t *testing.T, pid int) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	check(t, err)
	for _, line := range strings.Split(string(data), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.Atoi(strings.Fields(rest)[0])
			check(t, err)
			return kb / 1024
		}
	}
	t.Fatal("no VmRSS")
	return 0
}
