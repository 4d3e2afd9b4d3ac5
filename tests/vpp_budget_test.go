package tests

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.patchbay.dev/tests/lab"
	"go.patchbay.dev/vppapi"
	"go.patchbay.dev/vppapi/vpptest"
)

// A request for which VPP has no room is refused at once, with the figures; what is
// connected is adopted whatever the limit, and loses no packet.
func TestNoRoomInVPP(t *testing.T) {
	a, v, client, _ := vppSetup(t)
	for _, id := range []string{"v1", "v2"} {
		connectEnds(t, a, id, "ETHERNET", 0, end{mechanism: "VHOST_USER"}, end{mechanism: "MEMIF"})
	}
	before := dumpVPP(v)
	a.Stop()
	for _, limit := range []struct {
		key, value string
		mechanism  string
		says       []string
	}{
		{"vpp.free_buffers", "1000000", "MEMIF", []string{"packet buffers are free", "1000000"}},
		{"vpp.max_interfaces", "3", "MEMIF", []string{"it has 7 interfaces", "may have 3", "vpp.max_interfaces"}},
		{"vpp.max_vhost_user", "1", "VHOST_USER", []string{"it has 2 vhost-user", "may have 1", "vpp.max_vhost_user"}},
	} {
		t.Run(limit.key, func(t *testing.T) {
			f := startFlow(t, client.ns, "10.60.0.2")
			b := lab.StartAgent(t, lab.OnVPP(v), lab.With("etcd.data_dir", filepath.Join(a.Dir, "etcd")),
				lab.With("vpp.run_dir", a.RunDir()), lab.With(limit.key, limit.value))
			requests := lab.NewClient(t, b.Dial())
			lab.NewEndpoint(t, b, "fw-1").Accept(limit.mechanism).Register(b.Dial(), "fw")
			in := lab.MemifRequest("more", "fw")
			in.MechanismPreferences[0].Type = limit.mechanism
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			began := time.Now()
			_, err := requests.Request(ctx, in)
			t.Logf("refused after %s: %v", time.Since(began), err)
			if status.Code(err) != codes.ResourceExhausted {
				t.Errorf("the code is %v", status.Code(err))
			}
			put(b, "more", fmt.Sprintf(`{"client":{"mechanism":{"type":%q}},"endpoint":{"mechanism":{"type":"MEMIF"}}}`, limit.mechanism))
			s := awaitState(t, b, "more", func(s linkStatus) bool { return s.State == "FAILED" })
			for _, says := range limit.says {
				if !strings.Contains(fmt.Sprint(err), says) || !strings.Contains(s.Reason, says) {
					t.Errorf("the answers do not say %q: %v; %s", says, err, s.Reason)
				}
			}
			b.Etcdctl("del", "/patchbay/v1/nodes/n1/crossconnects/more")
			lab.Eventually(t, 10*time.Second, "VPP as it was", func() error {
				if now := dumpVPP(v); now != before {
					return fmt.Errorf("it is:\n%s\nand was:\n%s", now, before)
				}
				return nil
			})
			awaitState(t, b, "c1", func(s linkStatus) bool { return s.State == "UP" })
			f.complete(t)
			b.Stop()
		})
	}
}

// Buffers that run out are noticed before VPP starves those that are connected.
func TestFewBuffersInVPP(t *testing.T) {
	v := vpptest.Start(t, vpptest.Config("buffers { buffers-per-numa 2048 page-size 4k }"))
	a := lab.StartAgent(t, lab.OnVPP(v), lab.With("vpp.free_buffers", "1200"))
	client := kernelEnd(t, "nsm0", "10.60.0.1/24")
	s := connectEnds(t, a, "c1", "ETHERNET", 0, client, end{mechanism: "MEMIF"})
	lab.StartTestpmd(t, lab.MemifDevice(s.Endpoint.Parameters["socketfile"]), "icmpecho")
	awaitState(t, a, "c1", func(s linkStatus) bool { return s.State == "UP" })
	f := startFlow(t, client.ns, "10.60.0.2")
	stats := vppapi.NewStats(v.StatsSocket)
	t.Cleanup(stats.Reset)
	began := time.Now()
	lab.Eventually(t, 20*time.Second, "VPP to tell that buffers are in use, which it does every 10 s", func() error {
		if free, err := stats.FreeBuffers(); err != nil || free >= 1200 {
			return fmt.Errorf("%d are free, %w", free, err)
		}
		return nil
	})
	t.Logf("VPP told after %s", time.Since(began))
	put(a, "more", `{"client":{"mechanism":{"type":"MEMIF"}},"endpoint":{"mechanism":{"type":"MEMIF"}}}`)
	s = awaitState(t, a, "more", func(s linkStatus) bool {
		return s.State == "FAILED" && strings.Contains(s.Reason, "packet buffers are free and 1200 must stay so")
	})
	t.Logf("%s; VPP's buffers:\n%s", s.Reason, v.CLI("show buffers"))
	f.complete(t)
}

// Two hundred busy ports of the kernel leave VPP time for everything else.
func TestManyBusyKernelPorts(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes 30 s")
	}
	a, v := lab.StartOnVPP(t)
	const connections, busy = 100, 60
	left, right := lab.NewNamespace(t), lab.NewNamespace(t)
	for i := range connections {
		put(a, fmt.Sprintf("c%d", i), fmt.Sprintf(`{"path":"forwarder",
			"client":{"mechanism":{"type":"KERNEL","parameters":{"netns":%q,"name":"n%d"}},"addresses":["10.60.%d.1/24"]},
			"endpoint":{"mechanism":{"type":"KERNEL","parameters":{"netns":%q,"name":"n%d"}},"addresses":["10.60.%d.2/24"]}}`,
			left.Path, i, i, right.Path, i, i))
	}
	var s linkStatus
	for i := range connections {
		s = awaitState(t, a, fmt.Sprintf("c%d", i), func(s linkStatus) bool { return s.State == "UP" })
	}
	var pings []*lab.Process
	for i := range busy {
		pings = append(pings, left.Start(t, "ping", "-q", "-i", "0.05", "-w", "8", fmt.Sprintf("10.60.%d.2", i)))
	}
	var worst time.Duration
	for range 20 {
		began := time.Now()
		if out := v.CLI("show version"); !strings.Contains(out, "vpp v") {
			t.Error(out)
		}
		worst = max(worst, time.Since(began))
	}
	t.Logf("with %d ports (%s), %d of them busy, VPP's CLI takes %s at most", 2*connections, s.Client.Interface, 2*busy, worst)
	if worst > time.Second {
		t.Error("that is too long")
	}
	for _, p := range pings {
		if line := p.Await(t, "packets transmitted"); strings.Contains(line, " 0 received") {
			t.Error(line)
		}
	}
}

// A workload that dies is DOWN by the side's name, everywhere, and UP again when it is back.
func TestLinkStateOfAPeer(t *testing.T) {
	a, v := lab.StartOnVPP(t)
	ns := lab.NewNamespace(t)
	requests := lab.NewClient(t, a.Dial())
	lab.NewEndpoint(t, a, "fw-1").Accept("MEMIF").Register(a.Dial(), "fw")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	stream, err := requests.Monitor.MonitorConnections(ctx, &networkservice.MonitorScopeSelector{
		PathSegments: []*networkservice.PathSegment{{Id: "c1", Name: "client"}}})
	if err != nil {
		t.Fatal(err)
	}
	told := func(want networkservice.State) {
		t.Helper()
		for {
			e, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range e.Connections {
				t.Logf("the monitor is told %v %v", e.Type, c.GetState())
				if c.GetState() == want {
					return
				}
			}
		}
	}
	in := lab.NewRequest(t, "c1", "fw", ns, "nsm0")
	in.Connection.Payload = "ETHERNET"
	in.Connection.Context = &networkservice.ConnectionContext{IpContext: &networkservice.IPContext{SrcIpAddrs: []string{"10.60.0.1/24"}}}
	if _, err := requests.Pass(ctx, in, ns); err != nil {
		t.Fatal(err)
	}
	s := awaitState(t, a, "c1", func(s linkStatus) bool {
		return s.State == "DOWN" && strings.Contains(s.Reason, "endpoint interface "+s.Endpoint.Interface) && !strings.Contains(s.Reason, "client")
	})
	for range 2 {
		workload := lab.StartTestpmd(t, lab.MemifDevice(s.Endpoint.Parameters["socketfile"]), "icmpecho")
		awaitState(t, a, "c1", func(s linkStatus) bool { return s.State == "UP" })
		told(networkservice.State_UP)
		ns.Run(t, "ping", "-c", "10", "-i", "0.02", "10.60.0.2")
		countersAgree(t, a, v, "c1")

		began := time.Now()
		workload.Kill()
		told(networkservice.State_DOWN)
		t.Logf("the monitor knows that the workload died after %s", time.Since(began))
		s = awaitState(t, a, "c1", func(s linkStatus) bool { return s.State == "DOWN" && strings.Contains(s.Reason, "endpoint interface") })
		t.Logf("and etcd after %s", time.Since(began))
		if n := scrape(a)[`patchbay_connections{client="KERNEL",endpoint="MEMIF",payload="ETHERNET",state="DOWN"}`]; n != 1 {
			t.Errorf("%v connections are down by the metrics", n)
		}
		_, _ = ns.Try("ping", "-c", "5", "-i", "0.02", "-W", "1", "10.60.0.2") // which VPP drops
		countersAgree(t, a, v, "c1")
	}
}

// countersAgree waits until the metrics of a connection say what vppctl says, from the
// workloads' point of view.
func countersAgree(t *testing.T, a *lab.Agent, v *vpptest.VPP, id string) {
	t.Helper()
	s, err := readStatus(a, id)
	if err != nil {
		t.Fatal(err)
	}
	a.Eventually(5*time.Second, "the counters to agree", func() error {
		got := scrape(a)
		for side, name := range map[string]string{"client": s.Client.Interface, "endpoint": s.Endpoint.Interface} {
			out := v.CLI("show interface " + name)
			for metric, text := range map[string]string{
				"receive_packets": "tx packets", "receive_bytes": "tx bytes", "transmit_packets": "rx packets", "transmit_bytes": "rx bytes", "drops": "drops",
			} {
				want := 0
				for _, line := range strings.Split(out, "\n") {
					if _, n, ok := strings.Cut(line, text); ok {
						if want, err = strconv.Atoi(strings.TrimSpace(n)); err != nil {
							return err
						}
					}
				}
				key := fmt.Sprintf(`patchbay_connection_%s_total{connection=%q,service="fw",side=%q}`, metric, id, side)
				if n, ok := got[key]; !ok || int(n) != want {
					return fmt.Errorf("%s is %v (%v), VPP says %d", key, n, ok, want)
				}
			}
		}
		return nil
	})
}

// What somebody does to an interface of ours is mended: at once where VPP tells of it,
// else when the agent looks again.
func TestDamageByVppctl(t *testing.T) {
	a, v, client, workload := vppSetup(t)
	s, err := readStatus(a, "c1")
	if err != nil {
		t.Fatal(err)
	}
	socket := s.Endpoint.Parameters["socketfile"]
	// DPDK's workload ends when its memif is deleted, so it is a new one.
	mended := func() {
		t.Helper()
		began := time.Now()
		awaitState(t, a, "c1", func(s linkStatus) bool { return s.State == "DOWN" && s.Client.LinkUp && s.Endpoint.Interface != "" })
		t.Logf("mended after %s", time.Since(began))
		workload = lab.StartTestpmd(t, lab.MemifDevice(socket), "icmpecho")
		awaitState(t, a, "c1", func(s linkStatus) bool { return s.State == "UP" })
		client.ns.Ping(t, "10.60.0.2")
	}
	restart := func() {
		a.Kill()
		a.Start()
		a.WaitReady()
	}
	for _, damage := range []struct {
		name, command string
		silent        bool // VPP tells nobody
	}{
		{"memif deleted", "delete interface memif ENDPOINT", false},
		{"host interface deleted", "delete host-interface name PORT", false},
		{"memif set down", "set interface state ENDPOINT down", false},
		{"host interface set down", "set interface state CLIENT down", false},
		{"cross-connect taken away", "set interface l3 ENDPOINT", true},
		{"tag taken away", "clear interface tag ENDPOINT", true},
		{"tag changed", "set interface tag ENDPOINT mine", true}, // it is on a socket of ours
	} {
		t.Run(damage.name, func(t *testing.T) {
			s := awaitState(t, a, "c1", func(s linkStatus) bool { return s.State == "UP" })
			port, there := strings.CutPrefix(s.Client.Interface, "host-")
			if !there && strings.Contains(damage.command, "PORT") {
				t.Skip("the workload has a tap")
			}
			workload.Kill()
			command := strings.NewReplacer("ENDPOINT", s.Endpoint.Interface, "CLIENT", s.Client.Interface, "PORT", port).Replace(damage.command)
			if out := v.CLI(command); strings.TrimSpace(out) != "" {
				t.Fatalf("%s: %s", command, out)
			}
			if damage.silent {
				restart()
			} else {
				defer func() {
					for name, n := range scrape(a) {
						if strings.HasPrefix(name, "patchbay_dataplane_calls_total{call=\"") && strings.Contains(name, " hostif\"") {
							t.Logf("%s %v", name, n)
						}
					}
				}()
			}
			mended()
			if out := v.CLI("show interface"); strings.Count(out, "memif") != 1 || strings.Count(out, "host-")+strings.Count(out, "tap") != 1 {
				t.Errorf("VPP has\n%s", out)
			}
		})
	}
	calls := scrape(a)
	if n := calls[`patchbay_dataplane_calls_total{call="create hostif",result="ok"}`]; n > 4 {
		t.Errorf("the host interface was made %v times", n)
	}
	a.Etcdctl("del", "/patchbay/v1/nodes/n1/crossconnects/c1")
	emptied(t, a, v)
}

// The socket of a workload that somebody removes is there again after the next look.
func TestSocketIsRemoved(t *testing.T) {
	a, _ := lab.StartOnVPP(t)
	s := connectEnds(t, a, "c1", "ETHERNET", 0, end{mechanism: "VHOST_USER"}, end{mechanism: "MEMIF"})
	for network, socket := range map[string]string{"unixpacket": s.Endpoint.Parameters["socketfile"], "unix": s.Client.Parameters["socketfile"]} {
		if err := os.Remove(socket); err != nil {
			t.Fatal(err)
		}
		a.Kill()
		a.Start()
		a.WaitReady()
		lab.Eventually(t, 10*time.Second, "the socket", func() error {
			c, err := net.Dial(network, socket)
			if err != nil {
				return err
			}
			return c.Close()
		})
	}
}
