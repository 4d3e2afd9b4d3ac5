package vm

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.patchbay.dev/tests/lab"
	"go.patchbay.dev/tests/report"
	"go.patchbay.dev/vppapi/vpptest"
)

// machine is a guest that runs beside the test and tells what its cards count.
type machine struct {
	end  context.CancelFunc
	done chan error
	mu   sync.Mutex
	said strings.Builder
}

// Write takes in what the guest says.
func (m *machine) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.said.Write(p)
}

func (m *machine) text() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.said.String()
}

func start(t *testing.T, g Guest) *machine {
	t.Helper()
	ctx, end := context.WithCancel(context.Background())
	m := &machine{end: end, done: make(chan error, 1)}
	g.Output, g.Tree = m, NewTree()
	go func() {
		_, err := g.Run(ctx)
		m.done <- err
	}()
	t.Cleanup(func() {
		m.kill()
		if t.Failed() {
			t.Logf("the guest said:\n%s", m.text())
		}
	})
	return m
}

// kill ends the guest at once.
func (m *machine) kill() {
	m.end()
	if m.done != nil {
		<-m.done
		m.done = nil
	}
}

var counted = regexp.MustCompile(`COUNTED ([0-9]+) ([0-9]+) ([0-9]+) ([0-9]+) END`)

// counters are what the guest's cards have received and sent, by its last word.
func (m *machine) counters() (n [4]int, known bool) {
	all := counted.FindAllStringSubmatch(m.text(), -1)
	if len(all) == 0 {
		return n, false
	}
	for i := range n {
		fmt.Sscan(all[len(all)-1][i+1], &n[i])
	}
	return n, true
}

// inside is what the guest does: it has two addresses, and counts.
const inside = `
for c in 0 1; do busybox ip link set eth$c up; done
busybox ip addr add 10.60.0.2/24 dev eth0
busybox ip addr add 10.61.0.2/24 dev eth1; busybox arp -s 10.61.0.1 %s
at() { cat /sys/class/net/$1/statistics/$2; }
while :; do
  busybox ping -q -c 1 -W 1 10.60.0.1 | busybox grep received; busybox ping -q -c 1 -W 1 10.61.0.1 | busybox grep received
  echo COUNTED $(at eth0 rx_packets) $(at eth0 tx_packets) $(at eth1 rx_packets) $(at eth1 tx_packets) END
  sleep 0.2
done
`

// A virtual machine has two cards: VPP listens for one of them, Ethernet, and connects to
// the other, IP. Both find their way again when the machine, or VPP, has gone and come back.
func TestVirtualMachineOverVhostUser(t *testing.T) {
	if os.Getenv(want) == "" {
		report.Skip(t, want, "a machine in QEMU takes minutes; make test-vm sets it")
	}
	packages, err := Fetch()
	if err != nil {
		report.Skip(t, "QEMU and a kernel from Debian's packages", err.Error())
	}
	report.Part(t, "Linux in QEMU", packages.Kernel)
	v := vpptest.Start(t)
	a := lab.StartAgent(t, lab.OnVPP(v))
	near, far := lab.NewNamespace(t), lab.NewNamespace(t)
	a.Etcdctl("put", "/patchbay/v1/nodes/n1/crossconnects/c1", fmt.Sprintf(`{"id":"c1","payload":"ETHERNET",
		"client":{"mechanism":{"type":"KERNEL","parameters":{"netns":%q,"name":"nsm0"}},"addresses":["10.60.0.1/24"]},
		"endpoint":{"mechanism":{"type":"VHOST_USER"}}}`, near.Path))
	a.Etcdctl("put", "/patchbay/v1/nodes/n1/crossconnects/c2", fmt.Sprintf(`{"id":"c2","payload":"IP",
		"client":{"mechanism":{"type":"KERNEL","parameters":{"netns":%q,"name":"nsm0"}},"addresses":["10.61.0.1/24"]},
		"endpoint":{"mechanism":{"type":"VHOST_USER","parameters":{"server":"true"}},"addresses":["10.61.0.2/24"]}}`, far.Path))
	one, two := await(t, a, "c1", "DOWN"), await(t, a, "c2", "DOWN")
	g := Guest{Packages: packages, MemoryMB: 256, Limit: 3 * limit, Modules: []string{"virtio_net"}, Command: fmt.Sprintf(inside, two["peerMac"]),
		Ports: []Port{{Socket: one["socketfile"]}, {Socket: two["socketfile"], Listens: true, MAC: two["mac"]}}}

	passes := func(t *testing.T, m *machine, what string) {
		t.Helper()
		began := time.Now()
		await(t, a, "c1", "UP")
		await(t, a, "c2", "UP")
		for i, p := range []struct {
			ns *lab.Namespace
			to string
		}{{near, "10.60.0.2"}, {far, "10.61.0.2"}} {
			lab.Eventually(t, time.Minute, "the guest to answer", func() error {
				out, err := p.ns.Try("ping", "-c", "1", "-W", "1", p.to)
				if err != nil {
					return fmt.Errorf("%w: %s", err, out)
				}
				return nil
			})
			t.Logf("%s: answers %s after %v", what, p.to, time.Since(began).Round(time.Millisecond))
			before, _ := m.counters()
			had := replies(t, p.ns)
			_, _ = p.ns.Try("ping", "-q", "-c", "200", "-i", "0.02", p.to) // an emulated guest may answer after its end
			lab.Eventually(t, time.Minute, "200 packets each way", func() error {
				now, _ := m.counters()
				rx, tx, got := now[2*i]-before[2*i], now[2*i+1]-before[2*i+1], replies(t, p.ns)-had
				if rx < 200 || tx < 200 || got != 200 {
					return fmt.Errorf("the guest has received %d and sent %d, %d answers have come", rx, tx, got)
				}
				return nil
			})
		}
		said := len(m.text())
		lab.Eventually(t, time.Minute, "the guest to be answered", func() error {
			if n := strings.Count(m.text()[said:], "1 packets received"); n < 2 {
				return fmt.Errorf("%d times", n)
			}
			return nil
		})
	}
	m := start(t, g)
	passes(t, m, "the guest has come")
	m.kill()
	await(t, a, "c1", "DOWN")
	await(t, a, "c2", "DOWN")
	m = start(t, g)
	passes(t, m, "another guest has come")
	v.Restart()
	passes(t, m, "VPP has come again")
	a.Kill()
	a.Start()
	a.WaitReady()
	passes(t, m, "the agent has come again")
	if n := a.Operations(t); n != 0 {
		t.Errorf("%d operations changed the dataplane after the agent's restart", n)
	}
}

// replies are the answers to pings that a namespace has received (/proc/net/snmp, Icmp
// InEchoReps).
func replies(t *testing.T, ns *lab.Namespace) (n int) {
	t.Helper()
	var names, values []string
	for line := range strings.Lines(ns.Run(t, "cat", "/proc/net/snmp")) {
		if rest, ok := strings.CutPrefix(line, "Icmp: "); ok {
			names, values = values, strings.Fields(rest)
		}
	}
	at := slices.Index(names, "InEchoReps")
	if at < 0 {
		t.Fatal("the kernel does not count answers to pings")
	}
	fmt.Sscan(values[at], &n)
	return n
}

// await waits for a state and gives the endpoint's parameters.
func await(t *testing.T, a *lab.Agent, id, state string) map[string]string {
	t.Helper()
	var s struct {
		State, Reason string
		Endpoint      struct{ Parameters map[string]string }
	}
	lab.Eventually(t, 2*time.Minute, id+" to be "+state, func() error {
		text := a.Etcdctl("get", "--print-value-only", "/patchbay/v1/status/n1/crossconnects/"+id)
		if strings.TrimSpace(text) == "" {
			return fmt.Errorf("it has no status")
		}
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			return err
		}
		if s.State != state {
			return fmt.Errorf("it is %s: %s", s.State, s.Reason)
		}
		return nil
	})
	return s.Endpoint.Parameters
}
