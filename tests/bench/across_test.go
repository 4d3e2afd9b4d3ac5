//go:build bench

package bench

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"

	nodes "go.patchbay.dev/agent/lab"
	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/tests/lab"
	"go.patchbay.dev/vppapi/vpptest"
)

// acrossBed is a lab with a client on the first node, and endpoints of a service on some
// nodes: fw-1, fw-2, …
type acrossBed struct {
	*lab.Nodes
	vpp       bool
	client    *lab.Client
	ns        []*lab.Namespace
	endpoints map[int]*lab.Endpoint // by node
	n         int
}

func newAcrossBed(t *testing.T, count int, vpp bool, at ...int) *acrossBed {
	t.Helper()
	o := nodes.Options{Nodes: count, Config: map[string]string{"log.level": "info"}}
	if vpp {
		o.VPP = lab.AllVPP
	}
	b := &acrossBed{Nodes: lab.StartNodes(t, o), vpp: vpp, endpoints: map[int]*lab.Endpoint{}}
	b.client = lab.NewClient(t, b.List[0].Dial())
	for range namespaces {
		b.ns = append(b.ns, lab.NewNamespace(t))
	}
	for i, node := range at {
		n := b.List[node-1]
		e := lab.NewEndpoint(t, n.Agent, fmt.Sprintf("fw-%d", node)).From(10000 * i)
		if vpp {
			e.Accept("MEMIF")
		}
		e.Register(n.Dial(), "fw")
		b.endpoints[node] = e
	}
	lab.Eventually(t, 10*time.Second, "the endpoints to be known", func() error {
		if out := b.List[0].Patchbay("get", "endpoints"); strings.Count(out, "fw-") < len(at) {
			return fmt.Errorf("endpoints: %s", out)
		}
		return nil
	})
	return b
}

// what names the bed in the table.
func (b *acrossBed) what(s string) string {
	if b.vpp {
		return "VPP, two nodes: " + s
	}
	return "two nodes: " + s
}

// request asks for the endpoint of a node, the first being 1.
func (b *acrossBed) request(t *testing.T, id string, node int) (*networkservice.NetworkServiceRequest, *lab.Namespace) {
	t.Helper()
	b.n++
	ns := b.ns[b.n%len(b.ns)]
	in := lab.MemifRequest(id, "fw")
	if !b.vpp {
		in = lab.NewRequest(t, id, "fw", ns, fmt.Sprintf("i%d", b.n))
	}
	in.Connection.Payload = "ETHERNET"
	in.Connection.NetworkServiceEndpointName = fmt.Sprintf("fw-%d", node)
	return in, ns
}

// ask makes the request, with the namespace passed along where it has one.
func (b *acrossBed) ask(ctx context.Context, in *networkservice.NetworkServiceRequest, ns *lab.Namespace) (*networkservice.Connection, error) {
	if b.vpp {
		return b.client.Request(ctx, in)
	}
	return b.client.Pass(ctx, in, ns)
}

func (b *acrossBed) connect(t *testing.T, node int) (*networkservice.Connection, time.Duration) {
	t.Helper()
	in, ns := b.request(t, fmt.Sprintf("a%d", b.n), node)
	start := time.Now()
	conn, err := b.ask(t.Context(), in, ns)
	took := time.Since(start)
	check(t, err)
	return conn, took
}

// turns takes turns between a connection on the node and one to the next.
func (b *acrossBed) turns(t *testing.T) (local, across []time.Duration) {
	t.Helper()
	for range rounds {
		conn, took := b.connect(t, 1)
		local = append(local, took)
		b.client.Disconnect(conn)
		conn, took = b.connect(t, 2)
		across = append(across, took)
		b.client.Disconnect(conn)
	}
	return local, across
}

// parallel makes so many connections to a node, so many at a time.
func (b *acrossBed) parallel(t *testing.T, node, count, atOnce int) (took time.Duration) {
	t.Helper()
	type asked struct {
		in *networkservice.NetworkServiceRequest
		ns *lab.Namespace
	}
	work := make(chan asked, count)
	for i := range count {
		in, ns := b.request(t, fmt.Sprintf("p%d", i), node)
		work <- asked{in, ns}
	}
	close(work)
	var all sync.WaitGroup
	start := time.Now()
	for range atOnce {
		all.Go(func() {
			for w := range work {
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				if _, err := b.ask(ctx, w.in, w.ns); err != nil {
					t.Errorf("request: %v", err)
				}
				cancel()
			}
		})
	}
	all.Wait()
	took = time.Since(start)
	if t.Failed() {
		t.FailNow()
	}
	return took
}

func benchAcross(t *testing.T, vpp bool) {
	rest(t)
	b := newAcrossBed(t, 2, vpp, 1, 2)
	local, across := b.turns(t)
	table = append(table,
		row{b.what("request to reply, durable on both"), ms(median(across)), "on one node " + ms(median(local)), ratio(median(across), median(local)), "≤ 2"},
		row{b.what("the same, p99"), ms(percentile(across, 99)), "", "", ""})

	// What the tenth and the last of 1,000 cost: medians of the first and the last twenty,
	// with the rest in between.
	const some = 20
	few := func() time.Duration {
		var d []time.Duration
		for range some {
			_, took := b.connect(t, 2)
			d = append(d, took)
		}
		return median(d)
	}
	tenth := few()
	const atOnce = 32
	count := many - 3*some
	took := b.parallel(t, 2, count, atOnce)
	behind := few()
	rest(t)
	last := few()
	table = append(table,
		row{b.what(fmt.Sprintf("%d connections, %d clients at a time", count, atOnce)), fmt.Sprintf("%.0f /s", float64(count)/took.Seconds()), "", "", "≥ 200 /s"},
		row{b.what("the last of 1,000"), ms(last), "the tenth " + ms(tenth), ratio(last, tenth), "≤ 1.3"},
		row{b.what("the same, at the heels of the 32 clients"), ms(behind), "the tenth " + ms(tenth), ratio(behind, tenth), ""})
}

func TestBenchAcross(t *testing.T) {
	benchAcross(t, false)
}

func TestBenchBareEnds(t *testing.T) {
	few, lots := bareEnds(t)
	table = append(table, row{"bare netlink: one end of a tunnel, 1,000 there", ms(lots), "10 there " + ms(few), ratio(lots, few), ""})
}

// bareEnds is what the kernel takes for one end of a VXLAN tunnel with addresses of both
// families, by the calls that an agent makes for it, with ten there and with 1,000. They are in
// one namespace, as those of the endpoint.
func bareEnds(t *testing.T) (few, lots time.Duration) {
	t.Helper()
	rest(t)
	ns, err := linux.New(linux.Options{Instance: t.TempDir()})
	check(t, err)
	defer ns.Close()
	work, err := ns.Open(lab.NewNamespace(t).Path)
	check(t, err)
	defer work.Close()
	_, err = work.NSID()
	check(t, err)
	underlay := [2]netip.Addr{netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("198.51.100.2")}
	var took []time.Duration
	for i := range many {
		e := linux.End{NS: work, Name: fmt.Sprintf("t%d", i), MTU: 1450, MAC: linux.Tag{ID: fmt.Sprint(i), Side: linux.Client}.MAC()}
		var c linux.Config
		for _, a := range []netip.Addr{netip.AddrFrom4([4]byte{198, 18, byte(i >> 7), byte(i << 1)}), netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", 2*i))} {
			c.Addresses = append(c.Addresses, netip.PrefixFrom(a, a.BitLen()))
			c.Routes = append(c.Routes, linux.Route{Prefix: netip.PrefixFrom(a.Next(), a.BitLen())})
		}
		start := time.Now()
		check(t, ns.CreateDevice(e, linux.VXLAN{Local: underlay[0], Remote: underlay[1], VNI: uint32(0xf00000 + i), Port: 4790}))
		l, err := work.LinkByName(e.Name)
		check(t, err)
		_, err = work.SetLink(l.Index, linux.Change{Up: true})
		check(t, err)
		check(t, work.ConfigureNew(l.Index, c))
		took = append(took, time.Since(start))
	}
	return median(took[10:20]), median(took[len(took)-10:])
}

func TestBenchAcrossVPP(t *testing.T) {
	if _, _, ok := vpptest.Find(); !ok {
		t.Skip("needs VPP")
	}
	benchAcross(t, true)
}

// A node is cut off, and its endpoint has a twin elsewhere. Neither has a member of etcd,
// which would have to elect another leader in the meantime.
func TestBenchHeal(t *testing.T) {
	const node, twin = 4, 5
	for _, count := range []int{10, 500} {
		b := newAcrossBed(t, 5, false, node, twin)
		b.parallel(t, node, count, 32)
		start := time.Now()
		check(t, b.Cut(b.List[node-1].Host))
		lab.Eventually(t, time.Minute, "all to be connected again", func() error {
			if n := b.endpoints[twin].Live(); n != count {
				return fmt.Errorf("%d are", n)
			}
			up := strings.Count(b.List[0].Etcdctl("get", "--prefix", "--print-value-only", "/patchbay/v1/status/n1/crossconnects/"), `"UP"`)
			if up != count {
				return fmt.Errorf("%d are up", up)
			}
			return nil
		})
		table = append(table, row{fmt.Sprintf("a node is cut off: %d connections have moved to another", count), ms(time.Since(start)), "", "", "≤ detection (3 s) + 1 s"})
		check(t, b.Close())
	}
}
