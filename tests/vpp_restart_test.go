package tests

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.patchbay.dev/tests/lab"
	"go.patchbay.dev/vppapi/vpptest"
)

// vppSetup is a kernel interface joined to a DPDK workload that answers pings.
func vppSetup(t *testing.T) (a *lab.Agent, v *vpptest.VPP, client end, workload *lab.Testpmd) {
	t.Helper()
	a, v = lab.StartOnVPP(t)
	client = kernelEnd(t, "nsm0", "10.60.0.1/24")
	s := connectEnds(t, a, "c1", "ETHERNET", 0, client, end{mechanism: "MEMIF"})
	workload = lab.StartTestpmd(t, lab.MemifDevice(s.Endpoint.Parameters["socketfile"]), "icmpecho")
	awaitState(t, a, "c1", func(s linkStatus) bool { return s.State == "UP" })
	client.ns.Ping(t, "10.60.0.2")
	return a, v, client, workload
}

func TestVPPIsKilled(t *testing.T) {
	a, v, client, workload := vppSetup(t)
	v.Kill()
	awaitState(t, a, "c1", func(s linkStatus) bool { return s.State == "DOWN" })
	if got := scrape(a)[`patchbay_dataplane_up{dataplane="vpp"}`]; got != 0 {
		t.Errorf("dataplane_up = %v while VPP is dead", got)
	}
	v.Restart()
	awaitState(t, a, "c1", func(s linkStatus) bool { return s.Endpoint.Interface != "" })
	workload.Reconnect()
	awaitState(t, a, "c1", func(s linkStatus) bool { return s.State == "UP" })
	client.ns.Ping(t, "10.60.0.2")
	if got := scrape(a)[`patchbay_dataplane_restarts_total`]; got != 1 {
		t.Errorf("dataplane_restarts_total = %v", got)
	}
}

// What there is is taken over: nothing in VPP changes, and no packet is lost.
func TestAgentRestartOnVPP(t *testing.T) {
	a, v, client, _ := vppSetup(t)
	for i := range 4 {
		connectEnds(t, a, fmt.Sprintf("more-%d", i), []string{"ETHERNET", "IP"}[i%2], 1400, end{mechanism: "MEMIF"},
			end{mechanism: "MEMIF", parameters: map[string]string{"secret": "s3cret", "owner": "1000:1000", "mode": "0660", "socket": fmt.Sprintf("fw%d", i)}})
	}
	before := dumpVPP(v)
	ping := client.ns.Start(t, "ping", "-i", "0.01", "-c", "200", "-q", "10.60.0.2")
	a.Kill()
	a.Start()
	a.WaitReady()
	if line := ping.Await(t, "packets transmitted"); !strings.Contains(line, "200 received") {
		t.Errorf("packets were lost: %s", line)
	}
	if n := a.Operations(t); n != 0 {
		t.Errorf("%d operations changed the dataplane after the restart: %v", n, a.Log())
	}
	if after := dumpVPP(v); after != before {
		t.Errorf("VPP has changed:\n%s\nand before:\n%s", after, before)
	}
}

// dumpVPP is what VPP is configured to do, without counters.
func dumpVPP(v *vpptest.VPP) string {
	var b strings.Builder
	for _, c := range []string{"show interface addr", "show memif", "show mode", "show l3xc", "show ip neighbors", "show interface rx-placement"} {
		for _, line := range strings.Split(v.CLI(c), "\n") {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "head ") { // of a ring, which turns
				b.WriteString(line + "\n")
			}
		}
	}
	return b.String()
}

// What somebody else made in VPP stays as it is, also when it looks like ours.
func TestForeignConfigurationInVPP(t *testing.T) {
	v := vpptest.Start(t)
	a := lab.NewAgent(t, lab.OnVPP(v))
	for _, c := range []string{
		"create memif socket id 7 filename " + v.Dir + "/memif.sock",
		"create interface memif id 0 socket-id 7 master",
		"create interface memif id 1 socket-id 7 master",
		"create loopback interface",
		"set interface tag loop0 patchbay",
		"set interface l2 xconnect memif7/0 memif7/1",
		"set interface l2 xconnect memif7/1 memif7/0",
		"set interface state memif7/0 up",
	} {
		if out := v.CLI(c); strings.Contains(out, "error") || strings.Contains(out, "unknown") {
			t.Fatalf("%s: %s", c, out)
		}
	}
	foreign := dumpVPP(v)
	a.Start()
	a.WaitReady()
	connectEnds(t, a, "c1", "ETHERNET", 0, end{mechanism: "MEMIF"}, end{mechanism: "MEMIF"})
	a.Kill()
	a.Start()
	a.WaitReady()
	a.Etcdctl("del", "/patchbay/v1/nodes/n1/crossconnects/c1")
	lab.Eventually(t, 10*time.Second, "VPP as it was", func() error {
		if now := dumpVPP(v); now != foreign {
			return fmt.Errorf("it is:\n%s\nand was:\n%s", now, foreign)
		}
		return nil
	})
}

// An id may be longer than what VPP keeps of a tag: its connections come up, are adopted
// and go like any other.
func TestLongIDsInVPP(t *testing.T) {
	a, v := lab.StartOnVPP(t)
	empty := dumpVPP(v)
	long := func(name string) string { return (name + strings.Repeat("-x2x4z", 11))[:63] }
	client := kernelEnd(t, "nsm0", "10.60.0.1/24")
	s := connectEnds(t, a, long("web"), "ETHERNET", 0, client, end{mechanism: "MEMIF"})
	lab.StartTestpmd(t, lab.MemifDevice(s.Endpoint.Parameters["socketfile"]), "icmpecho")
	connectEnds(t, a, long("vm"), "ETHERNET", 0, end{mechanism: "VHOST_USER"}, end{mechanism: "MEMIF"})
	up := func() {
		t.Helper()
		awaitState(t, a, long("web"), func(s linkStatus) bool { return s.State == "UP" })
		awaitState(t, a, long("vm"), func(s linkStatus) bool {
			return s.State == "DOWN" && s.Client.Interface != "" && s.Endpoint.Interface != ""
		})
		client.ns.Ping(t, "10.60.0.2")
	}
	up()
	made := dumpVPP(v)
	a.Kill()
	a.Start()
	a.WaitReady()
	up()
	if now := dumpVPP(v); now != made {
		t.Errorf("VPP is:\n%s\nand was:\n%s", now, made)
	}
	for _, name := range []string{"web", "vm"} {
		a.Etcdctl("del", "/patchbay/v1/nodes/n1/crossconnects/"+long(name))
	}
	lab.Eventually(t, 10*time.Second, "VPP as it was", func() error {
		if now := dumpVPP(v); now != empty {
			return fmt.Errorf("it is:\n%s\nand was:\n%s", now, empty)
		}
		return nil
	})
}

// A connection that is deleted while VPP is away is not there when it is back, and one
// that was written then is.
func TestRecordsChangeWhileVPPIsAway(t *testing.T) {
	a, v := lab.StartOnVPP(t)
	connectEnds(t, a, "old", "ETHERNET", 0, end{mechanism: "MEMIF"}, end{mechanism: "MEMIF"})
	v.Kill()
	awaitState(t, a, "old", func(s linkStatus) bool { return s.Client.Interface == "" })
	a.Etcdctl("del", "/patchbay/v1/nodes/n1/crossconnects/old")
	put(a, "new", `{"id":"new","client":{"mechanism":{"type":"MEMIF"}},"endpoint":{"mechanism":{"type":"MEMIF"}}}`)
	awaitState(t, a, "new", func(s linkStatus) bool { return s.State == "FAILED" && strings.Contains(s.Reason, "VPP is away") })
	v.Restart()
	awaitState(t, a, "new", func(s linkStatus) bool { return s.State == "DOWN" && s.Client.Interface != "" })
	if out := v.CLI("show interface"); strings.Count(out, "memif") != 2 {
		t.Errorf("VPP has\n%s", out)
	}
}

// A VPP that is stopped makes requests fail at their deadline or at once, and nothing is
// half made when it goes on.
func TestVPPHangs(t *testing.T) {
	a, v := lab.StartOnVPP(t)
	client := lab.NewClient(t, a.Dial())
	endpoint := lab.NewEndpoint(t, a, "fw-1")
	endpoint.Accept("MEMIF")
	endpoint.Register(a.Dial(), "fw")
	empty := dumpVPP(v)
	v.Stop()
	for i := range 3 {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		began := time.Now()
		_, err := client.Request(ctx, lab.MemifRequest(fmt.Sprintf("c%d", i), "fw"))
		cancel()
		if err == nil {
			t.Fatal("a request succeeded without VPP")
		}
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("request %d failed after %s", i, took)
		}
	}
	// By now it is known, and who asks is told, without waiting until all is undone.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := client.Request(ctx, lab.MemifRequest("told", "fw")); err == nil || !strings.Contains(err.Error(), "has not answered for") {
		t.Errorf("the answer does not say that VPP hangs: %v", err)
	}
	v.Cont()
	lab.Eventually(t, 15*time.Second, "VPP as it was", func() error {
		if now := dumpVPP(v); now != empty {
			return fmt.Errorf("it is:\n%s", now)
		}
		return nil
	})
	if strings.Contains(a.Log(), "healed") {
		t.Errorf("what was refused was asked for again:\n%s", a.Log())
	}
	conn, err := client.Request(context.Background(), lab.MemifRequest("c9", "fw"))
	if err != nil {
		t.Fatal(err)
	}
	if conn.GetMechanism().GetParameters()["socketfile"] == "" {
		t.Errorf("no socket in %v", conn.Mechanism)
	}
}
