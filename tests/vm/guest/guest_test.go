// Package guest tests what needs /dev/vhost-net: workloads attached to VPP by its taps.
// Where the machine has none, tests/vm runs it in one that has.
package guest

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.patchbay.dev/plugins/mechanism/kernel"
	"go.patchbay.dev/tests/lab"
	"go.patchbay.dev/tests/report"
	"go.patchbay.dev/vppapi/vpptest"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && strings.HasPrefix(os.Args[1], "tcp-") {
		if err := tcp(os.Args[1], os.Args[2]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	if _, err := os.Stat(kernel.VhostNet); err == nil { // else nothing was built
		lab.Cleanup()
	}
	os.Exit(code)
}

// transfer is how much is sent over TCP, bytes: an emulated machine is slow.
const transfer = 8 << 20

// tcp is one end of a transfer in a process of its own, which is in a namespace.
func tcp(role, address string) error {
	if role == "tcp-serve" {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		fmt.Println("listening")
		c, err := l.Accept()
		if err != nil {
			return err
		}
		n, err := io.Copy(io.Discard, c)
		fmt.Println("received", n)
		return err
	}
	c, err := net.DialTimeout("tcp", address, 30*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = io.CopyN(c, zeros{}, transfer)
	return err
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// link is one cross-connect of two namespaces.
type link struct {
	id, payload    string
	client, server *lab.Namespace
}

func newLink(t *testing.T, id, payload string) link {
	return link{id, payload, lab.NewNamespace(t), lab.NewNamespace(t)}
}

// apply wants it on the way through VPP.
func (l link) apply(t *testing.T, a *lab.Agent) {
	t.Helper()
	end := func(ns *lab.Namespace, host int) map[string]any {
		return map[string]any{
			"mechanism": map[string]any{"type": "KERNEL", "parameters": map[string]string{"netns": ns.Path, "name": "nsm0"}},
			"addresses": []string{fmt.Sprintf("10.60.0.%d/24", host), fmt.Sprintf("fd60::%d/64", host)},
		}
	}
	record := map[string]any{"kind": "CrossConnect", "id": l.id, "payload": l.payload, "path": "forwarder", "client": end(l.client, 1), "endpoint": end(l.server, 2)}
	data, err := json.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "record.json")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	a.Patchbay("apply", "-f", file)
}

type status struct {
	State, Reason    string
	Client, Endpoint struct {
		Interface  string
		LinkUp     bool
		Parameters map[string]string
	}
}

// await waits until the connection is up and gives its status.
func (l link) await(t *testing.T, a *lab.Agent) (s status) {
	t.Helper()
	lab.Eventually(t, time.Minute, l.id+" to be up", func() error {
		time.Sleep(200 * time.Millisecond)
		out, err := a.TryPatchbay("get", "crossconnects", l.id, "-o", "json")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		var got struct{ Status status }
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		if s = got.Status; s.State != "UP" {
			return fmt.Errorf("it is %+v in %s", s, out)
		}
		return nil
	})
	return s
}

// carries sees packets go both ways.
func (l link) carries(t *testing.T) {
	t.Helper()
	for _, p := range []struct {
		from *lab.Namespace
		to   string
	}{{l.client, "10.60.0.2"}, {l.server, "10.60.0.1"}, {l.client, "fd60::2"}, {l.server, "fd60::1"}} {
		// Duplicate address detection takes a second or two, at both ends.
		t.Logf("%s: %s", l.id, lastLine(p.from.Run(t, "ping", "-c", "3", "-i", "0.2", "-w", "20", p.to)))
	}
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// transfers sends over TCP and sees that it arrives, in full frames.
func (l link) transfers(t *testing.T) {
	t.Helper()
	if _, size := l.transfer(t); size < 1400 || size > 1600 {
		t.Errorf("frames of %d bytes on average, want full ones", size)
	}
}

// transfer sends over TCP and tells how long it took, in frames of what size.
func (l link) transfer(t *testing.T) (took time.Duration, size int64) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	server := l.server.Start(t, self, "tcp-serve", "10.60.0.2:5001")
	server.Await(t, "listening")
	packets, bytes := l.sent(t)
	began := time.Now()
	l.client.Run(t, self, "tcp-send", "10.60.0.2:5001")
	server.Await(t, fmt.Sprintf("received %d", transfer))
	took = time.Since(began)
	morePackets, moreBytes := l.sent(t)
	size = (moreBytes - bytes) / (morePackets - packets)
	t.Logf("%s: %d bytes over TCP in %v, in frames of %d bytes", l.id, transfer, took.Round(time.Millisecond), size)
	return took, size
}

// sent is what the client's interface has sent.
func (l link) sent(t *testing.T) (packets, bytes int64) {
	t.Helper()
	for file, n := range map[string]*int64{"tx_packets": &packets, "tx_bytes": &bytes} {
		if _, err := fmt.Sscan(l.client.Run(t, "cat", "/sys/class/net/nsm0/statistics/"+file), n); err != nil {
			t.Fatal(err)
		}
	}
	return packets, bytes
}

// index is the kernel's number of the client's interface: another one has another.
func (l link) index(t *testing.T) string {
	t.Helper()
	return strings.TrimSpace(l.client.Run(t, "cat", "/sys/class/net/nsm0/ifindex"))
}

// tapsOf are VPP's taps with what is new in a new one.
func tapsOf(v *vpptest.VPP) (all string) {
	for line := range strings.Lines(v.CLI("show tap")) {
		for _, what := range []string{"Interface:", "host-ns", "tap-fds", "host-mac-addr"} {
			if strings.Contains(line, what) {
				all += line
			}
		}
	}
	return all
}

func TestTheWayThroughVPPOverTaps(t *testing.T) {
	if _, err := os.Stat(kernel.VhostNet); err != nil {
		report.Skip(t, "vhost-net", "VPP's taps need "+kernel.VhostNet+"; make test-vm has it")
	}
	v := vpptest.Start(t)
	a := lab.StartAgent(t, lab.OnVPP(v))
	ethernet, ip := newLink(t, "c1", "ETHERNET"), newLink(t, "c2", "IP")
	for _, s := range []struct {
		link
		port string
	}{{ethernet, kernel.PortTap}, {ip, kernel.PortTUN}} {
		s.apply(t, a)
		got := s.await(t, a)
		for _, end := range []string{got.Client.Interface, got.Endpoint.Interface} {
			if !strings.HasPrefix(end, s.port) {
				t.Errorf("%s ends in %q", s.id, end)
			}
		}
		if got.Client.Parameters[kernel.PortKind] != s.port || got.Endpoint.Parameters[kernel.PortKind] != s.port {
			t.Errorf("%s: %+v", s.id, got)
		}
		s.carries(t)
		s.transfers(t)
	}
	t.Log(v.CLI("show interface rx-placement"))

	t.Run("the agent is killed and started again", func(t *testing.T) {
		taps, were := tapsOf(v), []string{ethernet.index(t), ip.index(t)}
		a.Kill()
		a.Start()
		a.WaitReady()
		ethernet.await(t, a)
		ip.await(t, a)
		if now := tapsOf(v); now != taps {
			t.Errorf("VPP has other taps now:\n%s\nthan before:\n%s", now, taps)
		}
		if is := []string{ethernet.index(t), ip.index(t)}; is[0] != were[0] || is[1] != were[1] {
			t.Errorf("interfaces %v, before %v", is, were)
		}
		ethernet.carries(t)
		ip.carries(t)
	})
	t.Run("VPP is killed and started again", func(t *testing.T) {
		was := ethernet.index(t)
		v.Restart()
		lab.Eventually(t, time.Minute, "another interface", func() error {
			if now, err := ethernet.client.Try("cat", "/sys/class/net/nsm0/ifindex"); err != nil || strings.TrimSpace(now) == was {
				return fmt.Errorf("%q, %v", now, err)
			}
			return nil
		})
		ethernet.await(t, a)
		ip.await(t, a)
		ethernet.carries(t)
		ip.carries(t)
	})
	t.Run("a namespace goes", func(t *testing.T) {
		ip.client.Delete(t)
		lab.Eventually(t, 30*time.Second, "VPP to have one TUN", func() error {
			if n := strings.Count(v.CLI("show interface"), "tun"); n != 1 {
				return fmt.Errorf("it has %d", n)
			}
			return nil
		})
	})
	t.Run("the connections end", func(t *testing.T) {
		a.Patchbay("delete", "crossconnect", "c1")
		a.Patchbay("delete", "crossconnect", "c2")
		lab.Eventually(t, 30*time.Second, "nothing in VPP", func() error {
			if out := v.CLI("show interface"); strings.Contains(out, "tap") || strings.Contains(out, "tun") {
				return fmt.Errorf("it has\n%s", out)
			}
			return nil
		})
		if left := ethernet.client.Interfaces(t); len(left) != 0 {
			t.Errorf("left in the client's namespace: %v", left)
		}
	})
}
