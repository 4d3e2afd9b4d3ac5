//go:build bench

package bench

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"

	"go.patchbay.dev/tests/lab"
	"go.patchbay.dev/vppapi"
)

// Members of a bridge with few and of one with many.
const (
	fewMembers  = 5
	manyMembers = 500
)

// bridgeBed is an agent with two bridges that answer a network service each.
type bridgeBed struct {
	t       *testing.T
	agent   *lab.Agent
	client  *lab.Client
	request func(id, service string) (*networkservice.NetworkServiceRequest, *lab.Namespace)
	n       int
}

// bridges writes the bridges and fills them.
func (b *bridgeBed) bridges() {
	b.t.Helper()
	b.client = lab.NewClient(b.t, b.agent.Dial())
	for i, name := range []string{"few", "many"} {
		b.agent.Etcdctl("put", "/patchbay/v1/bridges/"+name, fmt.Sprintf(`{"name":%q,"service":%q,"subnets":["10.%d.0.0/16"]}`, name, name, 60+i))
	}
	for service, count := range map[string]int{"few": fewMembers, "many": manyMembers} {
		for range count {
			b.connect(service)
		}
	}
}

// connect makes one more member.
func (b *bridgeBed) connect(service string) (conn *networkservice.Connection, took time.Duration) {
	b.t.Helper()
	b.n++
	in, ns := b.request(fmt.Sprint("c", b.n), service)
	lab.Eventually(b.t, 10*time.Second, "a member of "+service, func() (err error) {
		start := time.Now()
		if ns != nil {
			conn, err = b.client.Pass(b.t.Context(), in, ns)
		} else {
			conn, err = b.client.Request(b.t.Context(), in)
		}
		took = time.Since(start)
		return err
	})
	return conn, took
}

// compare adds a member to either in turn, and takes it away.
func (b *bridgeBed) compare(dataplane string) {
	b.t.Helper()
	took := map[string][]time.Duration{}
	for range rounds {
		for _, service := range []string{"few", "many", "many", "few"} {
			conn, one := b.connect(service)
			took[service] = append(took[service], one)
			b.client.Disconnect(conn)
		}
	}
	lots, few := median(took["many"]), median(took["few"])
	table = append(table, row{fmt.Sprintf("%s: a member added to a bridge of %d", dataplane, manyMembers), ms(lots), fmt.Sprintf("of %d: %s", fewMembers, ms(few)), ratio(lots, few), "≤ 1.3"})
}

func TestBenchBridge(t *testing.T) {
	b := &bridgeBed{t: t, agent: lab.StartAgent(t, lab.In(lab.NewNamespace(t)), lab.With("log.level", "info"))}
	var spaces []*lab.Namespace
	for range 10 {
		spaces = append(spaces, lab.NewNamespace(t))
	}
	b.request = func(id, service string) (*networkservice.NetworkServiceRequest, *lab.Namespace) {
		ns := spaces[b.n%len(spaces)]
		return lab.NewRequest(t, id, service, ns, fmt.Sprint("x", b.n)), ns
	}
	b.bridges()
	b.compare("kernel")
}

func TestBenchBridgeOnVPP(t *testing.T) {
	v := newVPPBed(t)
	b := &bridgeBed{t: t, agent: v.agent, request: func(id, service string) (*networkservice.NetworkServiceRequest, *lab.Namespace) {
		in := lab.MemifRequest(id, service)
		in.Connection.Payload = "ETHERNET"
		return in, nil
	}}
	b.bridges()
	b.compare("VPP")
	v.restoreBridge(t)
}

// restoreBridge kills VPP and measures until every member is in its bridge again, beside the
// same calls made bare in the same VPP, started anew.
func (b *vppBed) restoreBridge(t *testing.T) {
	t.Helper()
	var ours, bares []time.Duration
	for range 3 {
		b.vpp.Kill()
		b.vpp.Restart()
		start := time.Now()
		b.bridged(t)
		ours = append(ours, time.Since(start))

		b.agent.Stop()
		b.vpp.Kill()
		b.vpp.Restart()
		f := newVPPFloor(t, b.vpp)
		bares = append(bares, f.replayBridge(t, fewMembers+manyMembers))
		f.vpp.Stop()
		b.vpp.Kill()
		b.vpp.Restart()
		b.agent.Start()
		b.agent.WaitReady()
		b.bridged(t)
	}
	table = append(table, row{fmt.Sprintf("VPP: bridges of %d members restored after VPP's restart", fewMembers+manyMembers), ms(median(ours)), "bare replay " + ms(median(bares)),
		ratio(median(ours), median(bares)), "≤ 1.25"})
}

// replayBridge makes the members of a bridge bare, as replay does connections.
func (f *vppFloor) replayBridge(t *testing.T, count int) time.Duration {
	t.Helper()
	const number = 77
	made := make([]vppapi.Index, count)
	start := time.Now()
	check(t, f.vpp.CreateBridge(t.Context(), vppapi.Bridge{Number: number, Tag: "floor", Learn: true, Flood: true, UnknownUnicast: true, MACAge: 5}))
	check(t, atOnce(count, func(i int) (err error) {
		n := uint32(1 + i)
		made[i], err = f.vpp.CreateMemif(t.Context(), n, vppapi.Memif{Socket: filepath.Join(f.dir, fmt.Sprintf("b%d.sock", n)), MAC: [6]byte{2, 0, 0, 0, byte(n >> 8), byte(n)}})
		return err
	}))
	check(t, atOnce(count, func(i int) error {
		err := f.vpp.Finish(t.Context(), made[i], vppapi.Setup{Tag: fmt.Sprint("floor:", i)})
		if err == nil {
			err = f.vpp.Bridge(t.Context(), number, vppapi.BridgePort{At: made[i]})
		}
		return err
	}))
	return time.Since(start)
}

// bridged waits until VPP has all members in their bridges.
func (b *vppBed) bridged(t *testing.T) {
	t.Helper()
	look := dial(t, b.vpp, "settle")
	defer look.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	lab.Eventually(t, time.Minute, "all members", func() error {
		<-tick.C
		all, err := look.Bridges(t.Context(), vppapi.AllBridges)
		ports := 0
		for _, f := range all {
			ports += len(f.Ports)
		}
		if err == nil && ports < fewMembers+manyMembers {
			err = fmt.Errorf("%d are in bridges", ports)
		}
		return err
	})
}

// Frames take the same time through a bridge that the agent has programmed as through one
// made by hand in vppctl: from one member to where another's MAC is.
func TestBenchBridgeForwarding(t *testing.T) {
	b := newVPPBed(t, ownCore)
	to := net.HardwareAddr{2, 0, 0, 0, 0x60, 2}
	b.agent.Etcdctl("put", "/patchbay/v1/bridges/lan", fmt.Sprintf(`{"name":"lan","staticMacs":[{"mac":%q,"connection":"c2"}]}`, to))
	b.vpp.CLI("create bridge-domain 77 mac-age 5")
	var ours, hand [2]string
	for i := range ours {
		id := fmt.Sprint("c", i+1)
		b.agent.Etcdctl("put", "/patchbay/v1/nodes/n1/crossconnects/"+id,
			fmt.Sprintf(`{"id":%q,"payload":"ETHERNET","client":{"mechanism":{"type":"MEMIF"}},"endpoint":{"mechanism":{"type":"BRIDGE","parameters":{"bridge":"lan"}}}}`, id))
		ours[i] = filepath.Join(b.runDir, id, "memif-client.sock")
		hand[i] = filepath.Join(b.vpp.Dir, fmt.Sprintf("hand%d.sock", i))
		b.vpp.CLI(fmt.Sprintf("create memif socket id %d filename %s", 901+i, hand[i]))
		b.vpp.CLI(fmt.Sprintf("create interface memif id 0 socket-id %d master", 901+i))
		b.vpp.CLI(fmt.Sprintf("set interface state memif%d/0 up", 901+i))
		b.vpp.CLI(fmt.Sprintf("set interface l2 bridge memif%d/0 77", 901+i))
	}
	b.vpp.CLI("l2fib add " + to.String() + " 77 memif902/0 static")
	lab.Eventually(t, 10*time.Second, "the bridge", func() error {
		if out := b.vpp.CLI("show l2fib all"); strings.Count(out, to.String()) != 2 {
			return fmt.Errorf("show l2fib: %s", out)
		}
		return nil
	})
	a, h, ratio := takeTurns(startFlow(t, ours, "--eth-peer=0,"+to.String()), startFlow(t, hand, "--eth-peer=0,"+to.String()))
	table = append(table, row{"VPP: forwarding in a bridge, packets a second", fmt.Sprintf("%.2f M", a/1e6), fmt.Sprintf("by hand %.2f M", h/1e6), fmt.Sprintf("%.2f", ratio), "≥ 0.98"})
}
