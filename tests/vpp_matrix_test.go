package tests

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.patchbay.dev/tests/lab"
	"go.patchbay.dev/vppapi/vpptest"
)

// end is one end of a cross-connect in these stories: what the record says of it, and
// the workload behind it.
type end struct {
	mechanism  string
	parameters map[string]string
	addresses  []string
	ns         *lab.Namespace // of KERNEL
}

// connectEnds writes a cross-connect of two ends and waits until it is programmed.
func connectEnds(t *testing.T, a *lab.Agent, id, payload string, mtu int, client, endpoint end) linkStatus {
	t.Helper()
	side := func(e end) map[string]any {
		return map[string]any{"mechanism": map[string]any{"type": e.mechanism, "parameters": e.parameters}, "addresses": e.addresses}
	}
	record := map[string]any{"id": id, "payload": payload, "mtu": mtu, "client": side(client), "endpoint": side(endpoint)}
	data, err := json.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	a.Etcdctl("put", "/patchbay/v1/nodes/n1/crossconnects/"+id, string(data))
	return awaitState(t, a, id, func(s linkStatus) bool { return s.State == "UP" || s.State == "DOWN" })
}

// linkStatus is what is read of status/<node>/crossconnects/<id>.
type linkStatus struct {
	State, Reason    string
	Client, Endpoint struct {
		Interface  string
		LinkUp     bool
		Parameters map[string]string
	}
}

func readStatus(a *lab.Agent, id string) (s linkStatus, err error) {
	text := a.Etcdctl("get", "--print-value-only", "/patchbay/v1/status/n1/crossconnects/"+id)
	if strings.TrimSpace(text) == "" {
		return s, fmt.Errorf("no status of %s yet", id)
	}
	return s, json.Unmarshal([]byte(text), &s)
}

func awaitState(t *testing.T, a *lab.Agent, id string, ok func(linkStatus) bool) (s linkStatus) {
	t.Helper()
	a.Eventually(10*time.Second, "the status of "+id, func() (err error) {
		if s, err = readStatus(a, id); err == nil && !ok(s) {
			err = fmt.Errorf("it is %+v", s)
		}
		return err
	})
	return s
}

func kernelEnd(t *testing.T, name string, addresses ...string) end {
	ns := lab.NewNamespace(t)
	return end{mechanism: "KERNEL", parameters: map[string]string{"netns": ns.Path, "name": name}, addresses: addresses, ns: ns}
}

func TestKernelToMemif(t *testing.T) {
	a, _ := lab.StartOnVPP(t)
	client := kernelEnd(t, "nsm0", "10.60.0.1/24", "fd60::1/64")
	s := connectEnds(t, a, "c1", "ETHERNET", 0, client, end{mechanism: "MEMIF"})
	socket := s.Endpoint.Parameters["socketfile"]
	lab.StartTestpmd(t, lab.MemifDevice(socket), "icmpecho")
	up := awaitState(t, a, "c1", func(s linkStatus) bool { return s.State == "UP" })
	if !strings.HasPrefix(up.Client.Interface, "host-pb") || up.Endpoint.Interface != "memif1/0" {
		t.Errorf("interfaces %q and %q", up.Client.Interface, up.Endpoint.Interface)
	}
	client.ns.Ping(t, "10.60.0.2")
}

// peerVPP is a workload that is a VPP itself: a memif client in IP mode.
func peerVPP(t *testing.T, socket string, addresses []string, routes ...string) *vpptest.VPP {
	v := vpptest.Start(t)
	for _, c := range []string{
		"create memif socket id 1 filename " + socket,
		"create interface memif id 0 socket-id 1 slave mode ip",
		"set interface state memif1/0 up",
	} {
		v.CLI(c)
	}
	for _, a := range addresses {
		v.CLI("set interface ip address memif1/0 " + a)
	}
	for _, r := range routes {
		v.CLI("ip route add " + r + " via memif1/0")
	}
	return v
}

func TestKernelToMemifIP(t *testing.T) {
	a, _ := lab.StartOnVPP(t)
	client := kernelEnd(t, "nsm0", "10.60.0.1/32", "fd60::1/128")
	s := connectEnds(t, a, "c1", "IP", 0, client, end{mechanism: "MEMIF", addresses: []string{"10.60.0.2/32", "fd60::2/128"}})
	peerVPP(t, s.Endpoint.Parameters["socketfile"], []string{"10.60.0.2/32", "fd60::2/128"}, "10.60.0.1/32", "fd60::1/128")
	awaitState(t, a, "c1", func(s linkStatus) bool { return s.State == "UP" })
	client.ns.Ping(t, "10.60.0.2")
	client.ns.Ping(t, "fd60::2")
}

func TestMemifToMemif(t *testing.T) {
	a, _ := lab.StartOnVPP(t)
	s := connectEnds(t, a, "c1", "ETHERNET", 0, end{mechanism: "MEMIF"}, end{mechanism: "MEMIF"})
	reflects(t, a, lab.MemifDevice(s.Client.Parameters["socketfile"]), lab.MemifDevice(s.Endpoint.Parameters["socketfile"]))
}

// pings counts answers to a workload that is a VPP.
func pings(t *testing.T, from *vpptest.VPP, address string) {
	t.Helper()
	if out := from.CLI("ping " + address + " repeat 20 interval 0.05"); !strings.Contains(out, "20 sent, 20 received") {
		t.Errorf("ping %s:\n%s", address, out)
	}
}

func TestMemifToMemifIP(t *testing.T) {
	a, _ := lab.StartOnVPP(t)
	one, two := []string{"10.60.0.1/32", "fd60::1/128"}, []string{"10.60.0.2/32", "fd60::2/128"}
	s := connectEnds(t, a, "c1", "IP", 0, end{mechanism: "MEMIF", addresses: one}, end{mechanism: "MEMIF", addresses: two})
	client := peerVPP(t, s.Client.Parameters["socketfile"], one, two...)
	peerVPP(t, s.Endpoint.Parameters["socketfile"], two, one...)
	awaitState(t, a, "c1", func(s linkStatus) bool { return s.State == "UP" })
	pings(t, client, "10.60.0.2")
	pings(t, client, "fd60::2")
}

func TestVhostUserToMemifIP(t *testing.T) {
	a, _ := lab.StartOnVPP(t)
	guest := end{mechanism: "VHOST_USER", addresses: []string{"10.60.0.2/32"}}
	s := connectEnds(t, a, "c1", "IP", 0, end{mechanism: "MEMIF", addresses: []string{"10.60.0.1/32"}}, guest)
	client := peerVPP(t, s.Client.Parameters["socketfile"], []string{"10.60.0.1/32"}, "10.60.0.2/32")
	lab.StartTestpmd(t, lab.VirtioDevice(s.Endpoint.Parameters["socketfile"], "mac="+s.Endpoint.Parameters["mac"]), "icmpecho")
	awaitState(t, a, "c1", func(s linkStatus) bool { return s.State == "UP" })
	pings(t, client, "10.60.0.2")
}

func TestVhostUserToMemif(t *testing.T) {
	a, _ := lab.StartOnVPP(t)
	s := connectEnds(t, a, "c1", "ETHERNET", 0, end{mechanism: "VHOST_USER"}, end{mechanism: "MEMIF"})
	reflects(t, a, lab.VirtioDevice(s.Client.Parameters["socketfile"]), lab.MemifDevice(s.Endpoint.Parameters["socketfile"]))
}

// burst is how many packets are on the way.
const burst = 32

// reflects has one workload send 32 packets and both send back what they receive: no
// more are ever on the way than the machine carries, and one that is lost is missed.
func reflects(t *testing.T, a *lab.Agent, client, endpoint string) {
	far := lab.StartTestpmd(t, endpoint, "io")
	near := lab.StartTestpmd(t, client, "io")
	awaitState(t, a, "c1", func(s linkStatus) bool { return s.State == "UP" })
	near.Stop()
	near.Forward("start tx_first")
	lab.Eventually(t, 20*time.Second, "10000 packets each way", func() error {
		if rx, tx := near.Packets(); rx < 10000 || tx < 10000 {
			return fmt.Errorf("%d received and %d sent", rx, tx)
		}
		return nil
	})
	far.Stop() // what is on the way ends here, or in the ring to it
	lab.Eventually(t, 5*time.Second, "all packets accounted for", func() error {
		_, sent := near.Packets()
		received, back := far.Packets()
		got, _ := near.Packets()
		if lost := sent - received; lost != 0 && lost != burst || got != back {
			return fmt.Errorf("%d sent and %d received there, %d sent back and %d received", sent, received, back, got)
		}
		return nil
	})
}

func TestVhostUserToKernel(t *testing.T) {
	a, _ := lab.StartOnVPP(t)
	client := kernelEnd(t, "nsm0", "10.60.0.1/24", "fd60::1/64")
	s := connectEnds(t, a, "c1", "ETHERNET", 0, client, end{mechanism: "VHOST_USER"})
	lab.StartTestpmd(t, lab.VirtioDevice(s.Endpoint.Parameters["socketfile"]), "icmpecho")
	awaitState(t, a, "c1", func(s linkStatus) bool { return s.State == "UP" })
	client.ns.Ping(t, "10.60.0.2")
}

// With IP as payload the guest answers at the address that it was told to have.
func TestVhostUserToKernelIP(t *testing.T) {
	a, _ := lab.StartOnVPP(t)
	client := kernelEnd(t, "nsm0", "10.60.0.1/32")
	s := connectEnds(t, a, "c1", "IP", 0, client, end{mechanism: "VHOST_USER", addresses: []string{"10.60.0.2/32"}})
	lab.StartTestpmd(t, lab.VirtioDevice(s.Endpoint.Parameters["socketfile"], "mac="+s.Endpoint.Parameters["mac"]), "icmpecho")
	awaitState(t, a, "c1", func(s linkStatus) bool { return s.State == "UP" })
	client.ns.Ping(t, "10.60.0.2")
}

// Kernel interfaces go through VPP where the path says so.
func TestKernelToKernelThroughVPP(t *testing.T) {
	for _, payload := range []string{"ETHERNET", "IP"} {
		t.Run(payload, func(t *testing.T) {
			a, _ := lab.StartOnVPP(t)
			client, server := kernelEnd(t, "nsm0", "10.60.0.1/24", "fd60::1/64"), kernelEnd(t, "nsm0", "10.60.0.2/24", "fd60::2/64")
			put(a, "c1", fmt.Sprintf(`{"id":"c1","payload":%q,"path":"forwarder",
				"client":{"mechanism":{"type":"KERNEL","parameters":{"netns":%q,"name":"nsm0"}},"addresses":["10.60.0.1/24","fd60::1/64"]},
				"endpoint":{"mechanism":{"type":"KERNEL","parameters":{"netns":%q,"name":"nsm0"}},"addresses":["10.60.0.2/24","fd60::2/64"]}}`,
				payload, client.ns.Path, server.ns.Path))
			s := awaitState(t, a, "c1", func(s linkStatus) bool { return s.State == "UP" })
			if !strings.HasPrefix(s.Client.Interface, "host-") || !strings.HasPrefix(s.Endpoint.Interface, "host-") {
				t.Errorf("interfaces %q and %q", s.Client.Interface, s.Endpoint.Interface)
			}
			client.ns.Ping(t, "10.60.0.2")
			server.ns.Ping(t, "fd60::1")
			realTCP(t, client.ns, server.ns, "10.60.0.2")
		})
	}
}

// realTCP sends 50 MB over one TCP connection and sees that they arrive, in full frames.
// What is still on the way when iperf3 has sent all is not in its count.
func realTCP(t *testing.T, from, to *lab.Namespace, address string) {
	t.Helper()
	if _, err := exec.LookPath("iperf3"); err != nil {
		t.Skip("needs iperf3: install it with: apt-get install iperf3")
	}
	server := to.Start(t, "iperf3", "-s", "-1", "-f", "m", "--forceflush")
	server.Await(t, "Server listening")
	before := counters(t, from, "nsm0")
	out := from.Run(t, "iperf3", "-c", address, "-n", "50M", "-J")
	var result struct {
		End struct {
			SumReceived struct{ Bytes int64 } `json:"sum_received"`
		}
	}
	if err := json.Unmarshal([]byte(out), &result); err != nil {
		t.Fatalf("iperf3: %v\n%s", err, out)
	}
	if n := result.End.SumReceived.Bytes; n < 40e6 {
		t.Errorf("%d bytes arrived", n)
	}
	after := counters(t, from, "nsm0")
	if size := (after.bytes - before.bytes) / (after.packets - before.packets); size < 1400 || size > 1600 {
		t.Errorf("frames of %d bytes on average, want full ones", size)
	}
}

type sentBy struct{ packets, bytes int64 }

// counters are what an interface has sent.
func counters(t *testing.T, ns *lab.Namespace, name string) (n sentBy) {
	t.Helper()
	for file, field := range map[string]*int64{"tx_packets": &n.packets, "tx_bytes": &n.bytes} {
		out := ns.Run(t, "cat", "/sys/class/net/"+name+"/statistics/"+file)
		if _, err := fmt.Sscan(out, field); err != nil {
			t.Fatal(err)
		}
	}
	return n
}
