package tests

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.patchbay.dev/tests/lab"
)

// flow is a ping that runs until it is stopped and must lose nothing.
type flow struct {
	cmd *exec.Cmd
	out *strings.Builder
}

func startFlow(t *testing.T, ns *lab.Namespace, address string) *flow {
	t.Helper()
	ns.Ping(t, address) // the way is there
	f := &flow{cmd: exec.Command("ip", "netns", "exec", ns.Name, "ping", "-D", "-i", "0.01", address), out: &strings.Builder{}}
	f.cmd.Stdout = f.out
	if err := f.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.cmd.Process.Kill() })
	return f
}

// underWay is how many of the last packets may be under way when a ping is stopped, 50 ms of them.
const underWay = 5

// end stops the ping and checks that every packet was answered, however late, but the last ones.
func (f *flow) end(t *testing.T) {
	t.Helper()
	f.cmd.Process.Signal(syscall.SIGINT)
	f.cmd.Wait()
	out := f.out.String()
	var sent int
	_, counts, _ := strings.Cut(out, "ping statistics ---\n")
	n, _ := fmt.Sscanf(counts, "%d packets transmitted", &sent)
	if n != 1 {
		t.Errorf("ping has not said how it went:\n%s", out[max(0, len(out)-2000):])
	}
	if lost := unanswered(out, sent-underWay); len(lost) > 0 {
		t.Errorf("the flow of %d packets lost %v; around the first of them:\n%s", sent, lost, around(out, lost[0]))
	}
}

// around is what ping has said about the packets before and after one, with the time.
func around(out string, lost int) string {
	var lines strings.Builder
	for line := range strings.Lines(out) {
		_, rest, ok := strings.Cut(line, "icmp_seq=")
		var seq int
		fmt.Sscan(rest, &seq)
		if ok && seq >= lost-3 && seq <= lost+3 {
			lines.WriteString(line)
		}
	}
	return lines.String()
}

// unanswered are the numbers of the packets up to one that ping has had no answer to.
func unanswered(out string, until int) (all []int) {
	answered := map[string]bool{}
	for part := range strings.SplitSeq(out, "icmp_seq=") {
		number, rest, _ := strings.Cut(part, " ")
		answered[number] = strings.HasPrefix(rest, "ttl=") // else it says that the other is not reached
	}
	for seq := 1; seq <= until; seq++ {
		if !answered[strconv.Itoa(seq)] {
			all = append(all, seq)
		}
	}
	return all
}

func TestAgentRestartAdoptsWithoutTouching(t *testing.T) {
	s := newSetup(t)
	s.client.Connect("c1", "fw", s.ns, "nsm0")
	before := ifindex(t, s.ns, "nsm0")
	f := startFlow(t, s.ns, "10.0.1.2")
	for _, end := range []func(){s.agent.Stop, s.agent.Kill} {
		end()
		s.agent.Start()
		s.agent.WaitReady()
		if n := mutating(s.agent); n != 0 {
			t.Errorf("a restart made %d dataplane operations", n)
		}
	}
	conn := s.client.Connect("c1", "fw", s.ns, "nsm0") // as a client does whose monitor broke
	if ifindex(t, s.ns, "nsm0") != before || mutating(s.agent) != 0 {
		t.Error("the client's new request made another interface")
	}
	f.end(t)
	s.client.Disconnect(conn)
	if err := none(append(s.ns.Interfaces(t), s.endpoint.Net.Interfaces(t)...)); err != nil {
		t.Error(err)
	}
}

func TestWhatChangedWhileTheAgentWasAwayIsMended(t *testing.T) {
	s := newSetup(t)
	keep := s.client.Connect("keep", "fw", s.ns, "keep0")
	s.client.Connect("broken", "fw", s.ns, "broken0")
	s.agent.Kill()
	s.ns.Run(t, "ip", "link", "del", "broken0")
	s.ns.Run(t, "ip", "addr", "flush", "dev", "keep0")
	s.ns.Run(t, "ip", "link", "add", "foreign0", "type", "bridge")
	s.agent.Start()
	s.agent.WaitReady()
	lab.Eventually(t, 5*time.Second, "both to work", func() error {
		for _, addr := range []string{"10.0.1.2", "10.0.2.2"} {
			if out, err := s.ns.Try("ping", "-c", "1", "-W", "1", addr); err != nil {
				return fmt.Errorf("%s: %s", addr, out)
			}
		}
		return nil
	})
	if got := strings.Join(s.ns.Interfaces(t), " "); !strings.Contains(got, "foreign0") {
		t.Errorf("a foreign interface went: %s", got)
	}
	s.client.Disconnect(keep)
}

func TestASecondAgentOnTheSameDataIsRefused(t *testing.T) {
	s := newSetup(t)
	second := exec.Command(lab.Binary(t), "run", "--config", s.agent.Dir+"/patchbay.yaml")
	start := time.Now()
	out, err := second.CombinedOutput()
	if err == nil || time.Since(start) > 10*time.Second {
		t.Errorf("a second agent started, or took %v: %s", time.Since(start), out)
	}
	s.client.Connect("c1", "fw", s.ns, "nsm0") // the first is well
}

func TestDiskFullUnderTheEmbeddedEtcd(t *testing.T) {
	lab.NeedRoot(t)
	dir, err := os.MkdirTemp("", "pb-small-")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", dir).CombinedOutput(); err != nil {
		os.Remove(dir)
		t.Skipf("needs to mount a tmpfs: %s", out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %s", out)
		}
		os.Remove(dir)
	})
	s := newSetup(t, lab.With("etcd.data_dir", dir+"/etcd"))
	s.client.Connect("c1", "fw", s.ns, "nsm0")
	f := startFlow(t, s.ns, "10.0.1.2")
	if out, err := exec.Command("dd", "if=/dev/zero", "of="+dir+"/ballast", "bs=1M").CombinedOutput(); err == nil {
		t.Fatalf("the disk did not fill: %s", out)
	}
	lab.Eventually(t, 10*time.Second, "a request to be refused", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		start := time.Now()
		_, err := s.client.Pass(ctx, lab.NewRequest(t, "c2", "fw", s.ns, "nsm1"), s.ns)
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "space") || time.Since(start) > 2*time.Second {
			return fmt.Errorf("answer after %v: %v", time.Since(start), err)
		}
		return nil
	})
	if err := os.Remove(dir + "/ballast"); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, 20*time.Second, "requests to be served again", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_, err := s.client.Pass(ctx, lab.NewRequest(t, "c2", "fw", s.ns, "nsm1"), s.ns)
		return err
	})
	f.end(t)
}

func TestExternalEtcdGoneAtStartAndAtRun(t *testing.T) {
	// The etcd of one agent is the external etcd of another, with a prefix of its own.
	host := lab.StartAgent(t, lab.With("node.name", "host"))
	host.Kill()
	a := lab.NewAgent(t, lab.With("etcd.endpoints", "[unix://"+host.Etcd+"]"), lab.With("etcd.prefix", "/other"))
	a.Start()
	ns := lab.NewNamespace(t)
	unavailable := func() {
		t.Helper()
		c := lab.NewClient(t, a.Dial())
		lab.Eventually(t, 10*time.Second, "a request to be refused", func() error {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			start := time.Now()
			_, err := c.Pass(ctx, lab.NewRequest(t, "c9", "fw", ns, "nsm9"), ns)
			if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "etcd") || time.Since(start) > 2*time.Second {
				return fmt.Errorf("answer after %v: %v", time.Since(start), err)
			}
			return nil
		})
		for path, want := range map[string]string{"/readyz": "503 etcd is unavailable", "/healthz": "200 ok"} {
			// A request may have been the first to find out.
			lab.Eventually(t, 10*time.Second, path+" to say "+want, func() error {
				r, err := a.Get(path)
				if err != nil {
					return err
				}
				defer r.Body.Close()
				body, err := io.ReadAll(r.Body)
				if got := fmt.Sprintf("%d %s", r.StatusCode, body); err != nil || !strings.HasPrefix(got, want) {
					return fmt.Errorf("%s, %v", got, err)
				}
				return nil
			})
		}
	}
	unavailable()
	host.Start()
	a.WaitReady()

	c := a.Dial()
	e := lab.NewEndpoint(t, a, "fw-1")
	e.Register(c, "fw")
	client := lab.NewClient(t, c)
	conn := client.Connect("c1", "fw", ns, "nsm0")
	f := startFlow(t, ns, "10.0.1.2")
	host.Kill()
	unavailable()
	host.Start()
	host.WaitReady()
	a.WaitReady()
	lab.Eventually(t, 20*time.Second, "requests to be served again", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_, err := client.Pass(ctx, lab.NewRequest(t, "c2", "fw", ns, "nsm2"), ns)
		return err
	})
	f.end(t)
	if n := strings.Count(host.Etcdctl("get", "--prefix", "--keys-only", "/other/nodes/n1/"), "crossconnects"); n != 2 {
		t.Errorf("%d records in the external etcd, want 2", n)
	}
	client.Disconnect(conn)
}
