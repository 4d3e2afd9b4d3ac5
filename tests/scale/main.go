// Scale runs many simulated agents against one real etcd, and prints what they cost it and
// how long a connection takes: the agents' own store, records, engine and manager, over a
// dataplane in memory. docs/scale.md has its output and what follows from it.
//
//	go run ./tests/scale -agents 1000
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.patchbay.dev/agent/lab"
)

type settings struct {
	agents, endpoints, connections, parallel int
	takes, idle, ttl                         time.Duration
}

func main() {
	var s settings
	flag.IntVar(&s.agents, "agents", 1000, "simulated agents")
	flag.IntVar(&s.endpoints, "endpoints", 10, "of each network service; every node has one")
	flag.IntVar(&s.connections, "connections", 1000, "connections to be made, each between two nodes")
	flag.IntVar(&s.parallel, "parallel", 32, "of them at the same time")
	flag.DurationVar(&s.takes, "takes", time.Millisecond, "what the dataplane takes for one change")
	flag.DurationVar(&s.ttl, "ttl", 30*time.Second, "of the leases by which agents are listed: node.lease")
	flag.DurationVar(&s.idle, "idle", 15*time.Second, "how long nothing is asked for")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := simulate(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

// simulation is a run.
type simulation struct {
	settings
	dir       string
	authority *lab.Authority
	etcd      *etcd
	nodes     []*node
	refused   atomic.Int64
	table
}

func simulate(ctx context.Context, s settings) (err error) {
	if err := s.descriptors(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("/tmp", "pbs-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	l := lab.NewLauncher()
	defer l.Close()
	sim := &simulation{settings: s, dir: dir, table: table{os.Stdout}}
	if sim.authority, err = lab.NewAuthority(); err != nil {
		return err
	}
	if sim.etcd, err = startEtcd(ctx, l, dir); err != nil {
		return err
	}
	defer func() { _ = sim.etcd.process.Kill() }() // nothing of it is needed any more
	for _, step := range []func(context.Context) error{sim.start, sim.idleness, sim.register, sim.connect} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Descriptors of this process: those of an agent with its endpoint and its workload, and
// those of a connection, for which the two agents have one connection to each other each.
const (
	agentFiles      = 12
	connectionFiles = 4
)

// descriptors sees to it that there are enough.
func (s settings) descriptors() error {
	need := uint64(s.agents*agentFiles + s.connections*connectionFiles)
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return err
	}
	if l.Cur >= need {
		return nil
	}
	l.Cur, l.Max = need, max(l.Max, need)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("%d open files are needed, for which this process has no right (%w); set ulimit -n, or fewer -agents or -connections", need, err)
	}
	return nil
}

// each does something for every number below n, so many at the same time, until one fails.
func each(n, parallel int, do func(i int) error) error {
	var mu sync.Mutex
	var failed error
	next := 0
	take := func() (int, bool) {
		mu.Lock()
		defer mu.Unlock()
		next++
		return next - 1, next <= n && failed == nil
	}
	var all sync.WaitGroup
	for range parallel {
		all.Go(func() {
			for i, ok := take(); ok; i, ok = take() {
				if err := do(i); err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	return failed
}
