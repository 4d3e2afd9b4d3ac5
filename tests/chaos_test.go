package tests

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"

	"go.patchbay.dev/tests/lab"
)

// kills is how often the agent is killed: 30, or what PATCHBAY_TEST_KILLS says.
func kills(t *testing.T) int {
	n, err := strconv.Atoi(os.Getenv("PATCHBAY_TEST_KILLS"))
	if err != nil && os.Getenv("PATCHBAY_TEST_KILLS") != "" {
		t.Fatalf("PATCHBAY_TEST_KILLS: %v", err)
	}
	if n == 0 {
		n = 30
	}
	return n
}

// churner is a client that connects and closes all the time. It knows which connections
// were acknowledged, and it repeats what was not, as NSM's clients do.
type churner struct {
	*setup
	name string
	live map[string]*networkservice.Connection
	rand *rand.Rand
}

func (c *churner) run(t *testing.T, ctx context.Context) {
	for i := 0; ctx.Err() == nil; i++ {
		switch ids := slices.Sorted(maps.Keys(c.live)); {
		case len(ids) < 4 || c.rand.IntN(2) == 0 && len(ids) < 10:
			c.connect(t, fmt.Sprintf("%s-%d", c.name, i))
		case c.rand.IntN(3) == 0: // a refresh
			c.connect(t, ids[c.rand.IntN(len(ids))])
		default:
			c.close(t, ids[c.rand.IntN(len(ids))])
		}
	}
}

// insist repeats what fails while the agent is away, until it succeeds.
func insist(t *testing.T, what string, do func(ctx context.Context) error) {
	deadline := time.Now().Add(30 * time.Second)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		err := do(ctx)
		cancel()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("%s: %v", what, err)
			return
		}
	}
}

func (c *churner) connect(t *testing.T, id string) {
	insist(t, "connect "+id, func(ctx context.Context) error {
		conn, err := c.client.Pass(ctx, lab.NewRequest(t, id, "fw", c.ns, id), c.ns)
		if err == nil {
			c.live[id] = conn
		}
		return err
	})
}

func (c *churner) close(t *testing.T, id string) {
	insist(t, "close "+id, func(ctx context.Context) error {
		_, err := c.client.Close(ctx, c.live[id])
		return err
	})
	delete(c.live, id)
}

// TestKillsUnderChurn kills the agent at random moments while clients come and go. After
// each restart, and at the end, what was acknowledged is there and nothing else is.
func TestKillsUnderChurn(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	s := newSetup(t)
	s.endpoint.Intercept(s.withPolicy)
	steady := s.client.Connect("steady", "fw", s.ns, "steady0")
	f := startFlow(t, s.ns, strings.TrimSuffix(steady.Context.IpContext.DstIpAddrs[0], "/32"))

	churners := make([]*churner, 4)
	for i := range churners {
		own := *s
		own.ns = lab.NewNamespace(t)
		own.client = lab.NewClient(t, s.agent.Dial())
		churners[i] = &churner{setup: &own, name: fmt.Sprintf("w%d", i), live: map[string]*networkservice.Connection{}, rand: rand.New(rand.NewPCG(seed, uint64(i+2)))}
	}
	n := kills(t)
	for done := 0; done < n; {
		// A round of several kills, then a look with the churn at rest.
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		for _, c := range churners {
			wg.Go(func() { c.run(t, ctx) })
		}
		for range min(10, n-done) {
			<-time.After(time.Duration(random.IntN(150)) * time.Millisecond) // the random moment itself
			s.agent.Kill()
			s.agent.Start()
			if random.IntN(3) > 0 { // else killed again while it starts
				s.agent.WaitReady()
			}
			done++
		}
		s.agent.WaitReady()
		cancel()
		wg.Wait()
		if t.Failed() {
			t.FailNow()
		}
		checkWorld(t, s, churners)
	}
	f.end(t)
	for _, c := range churners {
		for id := range c.live {
			c.close(t, id)
		}
	}
	s.client.Disconnect(steady)
	checkEmpty(t, s, churners)
}

// withPolicy answers with a policy rule, which does not go with its interface as addresses and
// routes do.
func (s *setup) withPolicy(ctx context.Context, in *networkservice.NetworkServiceRequest) (*networkservice.Connection, error) {
	out, err := s.endpoint.Answer(ctx, in)
	if err == nil {
		out.Context.IpContext.Policies = []*networkservice.PolicyRoute{{From: source(out), Proto: "6", DstPort: "8080"}}
	}
	return out, err
}

// source is the client's IPv4 address.
func source(c *networkservice.Connection) string {
	return strings.TrimSuffix(c.Context.IpContext.SrcIpAddrs[0], "/32")
}

// rules are the addresses from which there are policy rules in a namespace.
func rules(t *testing.T, ns *lab.Namespace) (from []string) {
	for line := range strings.Lines(ns.Run(t, "ip", "rule")) {
		if f := strings.Fields(line); f[2] != "all" {
			from = append(from, f[2])
		}
	}
	slices.Sort(from)
	return from
}

// checkWorld compares what was acknowledged with the interfaces, the rules and the records.
func checkWorld(t *testing.T, s *setup, churners []*churner) {
	t.Helper()
	want := []string{"steady"}
	for _, c := range churners {
		ids := slices.Sorted(maps.Keys(c.live))
		want = append(want, ids...)
		lab.Eventually(t, 10*time.Second, c.name+"'s interfaces to be those acknowledged", func() error {
			got := c.ns.Interfaces(t)
			slices.Sort(got)
			if !slices.Equal(got, ids) {
				return fmt.Errorf("there are %v, acknowledged are %v", got, ids)
			}
			return nil
		})
		var from []string
		for _, conn := range c.live {
			c.ns.Ping(t, strings.TrimSuffix(conn.Context.IpContext.DstIpAddrs[0], "/32"))
			from = append(from, source(conn))
		}
		slices.Sort(from)
		if got := rules(t, c.ns); !slices.Equal(got, from) {
			t.Errorf("%s has rules from %v, its connections are from %v", c.name, got, from)
		}
	}
	slices.Sort(want)
	var got []string
	for _, key := range strings.Fields(s.agent.Etcdctl("get", "--prefix", "--keys-only", "/patchbay/v1/nodes/n1/crossconnects/")) {
		got = append(got, key[strings.LastIndexByte(key, '/')+1:])
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("records are %v, acknowledged are %v", got, want)
	}
	lab.Eventually(t, 10*time.Second, "the endpoint's interfaces to be as many", func() error {
		if n := len(s.endpoint.Net.Interfaces(t)); n != len(want) {
			return fmt.Errorf("%d, want %d", n, len(want))
		}
		return nil
	})
}

func checkEmpty(t *testing.T, s *setup, churners []*churner) {
	t.Helper()
	left := append(s.ns.Interfaces(t), s.endpoint.Net.Interfaces(t)...)
	for _, c := range churners {
		left = append(append(left, c.ns.Interfaces(t)...), rules(t, c.ns)...)
	}
	left = append(left, strings.Fields(s.agent.Etcdctl("get", "--prefix", "--keys-only", "/patchbay/v1/nodes/"))...)
	if err := none(left); err != nil {
		t.Error(err)
	}
	lab.Eventually(t, 10*time.Second, "the statuses to go", func() error {
		return none(strings.Fields(s.agent.Etcdctl("get", "--prefix", "--keys-only", "/patchbay/v1/status/")))
	})
}
