package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// start has all agents come up.
func (s *simulation) start(ctx context.Context) error {
	s.nodes = make([]*node, s.agents)
	l, err := s.etcd.during(func() error {
		return each(s.agents, s.parallel, func(i int) (err error) {
			if s.nodes[i], err = s.newNode(i + 1); err != nil {
				return err
			}
			return s.nodes[i].start(ctx)
		})
	})
	if err != nil {
		return err
	}
	n := float64(s.agents)
	s.row(fmt.Sprintf("%d agents started", s.agents), "%.1f s", l.took.Seconds())
	s.row("watches of an agent", "%.0f", l.to[watchers]/n)
	s.row("read from etcd by an agent at its start", "%.0f KB", l.of(sentBytes)/n/1e3)
	s.row("etcd: resident", "%.0f MB", l.to[residentBytes]/1e6)
	return nil
}

// idleness looks at what it costs that they are there.
func (s *simulation) idleness(ctx context.Context) error {
	l, err := s.etcd.during(func() error {
		select {
		case <-time.After(s.idle):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	if err != nil {
		return err
	}
	second, n := l.took.Seconds(), float64(s.agents)
	s.row("idle: leases renewed", "%.0f /s", l.of(keepalives)/second)
	s.row("idle: reads", "%.0f /s", l.of(ranges)/second)
	s.row("idle: writes", "%.1f /s", l.of(puts)/second)
	s.row("idle: to and from an agent", "%.0f B/s", (l.of(sentBytes)+l.of(receivedBytes))/second/n)
	s.row("idle: etcd's share of a core", "%.1f %%", 100*l.of(cpuSeconds)/second)
	return nil
}

// register has endpoints appear: everybody is told of each.
func (s *simulation) register(ctx context.Context) error {
	l, err := s.etcd.during(func() error {
		err := each(s.agents, s.parallel, func(i int) error {
			return s.again(ctx, func() error { return newEndpoint(ctx, s.nodes[i], s.service(i), s.dir) })
		})
		if err == nil {
			err = s.settled(ctx)
		}
		return err
	})
	if err != nil {
		return err
	}
	n := float64(s.agents)
	s.row(fmt.Sprintf("%d endpoints registered and known everywhere", s.agents), "%.1f s", l.took.Seconds())
	s.row("watch events of one endpoint", "%.0f", l.of(events)/n)
	s.row("bytes of them to each agent", "%.0f", l.of(sentBytes)/n/n)
	return nil
}

// settled waits until the watches have delivered all: until etcd sends nothing new for a
// while but what it sends all the time.
func (s *simulation) settled(ctx context.Context) error {
	for last := -1.0; ; {
		m, err := s.etcd.metrics()
		if err != nil {
			return err
		}
		if m[events] == last {
			return nil
		}
		last = m[events]
		select {
		case <-time.After(500 * time.Millisecond): // nothing tells when a watch has caught up
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// attempts at what is refused, before the simulation gives up, and what the pause grows by
// after each.
const (
	attempts = 10
	pause    = 200 * time.Millisecond
)

// again tries a few times what is refused because etcd has too much to do, as workloads do.
func (s *simulation) again(ctx context.Context, try func() error) error {
	for n := 1; ; n++ {
		err := try()
		switch status.Code(err) {
		case codes.Unavailable, codes.Canceled, codes.DeadlineExceeded:
		default:
			return err
		}
		if ctx.Err() != nil || n == attempts {
			return err
		}
		s.refused.Add(1)
		select {
		case <-time.After(time.Duration(n) * pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// service is that of a node's endpoint.
func (s *simulation) service(i int) string {
	return fmt.Sprintf("s%d", i%max(1, s.agents/s.endpoints))
}

// connect makes connections between nodes.
func (s *simulation) connect(ctx context.Context) error {
	conns := make([]*grpc.ClientConn, s.agents)
	for i, n := range s.nodes {
		var err error
		if conns[i], err = n.dial(); err != nil {
			return err
		}
		defer conns[i].Close()
	}
	var mu sync.Mutex
	var took []time.Duration
	l, err := s.etcd.during(func() error {
		err := each(s.connections, s.parallel, func(i int) error {
			from := i % s.agents
			start := time.Now()
			err := s.again(ctx, func() error { return connect(ctx, conns[from], fmt.Sprintf("c%d", i), s.service(from+1)) })
			d := time.Since(start)
			mu.Lock()
			took = append(took, d)
			mu.Unlock()
			return err
		})
		if err == nil {
			err = s.settled(ctx) // statuses are written a moment later
		}
		return err
	})
	if err != nil {
		return err
	}
	slices.Sort(took)
	c := float64(s.connections)
	var busy time.Duration
	for _, d := range took {
		busy += d
	}
	s.row(fmt.Sprintf("%d connections, %d at a time", s.connections, s.parallel), "%.0f /s", c*float64(s.parallel)/busy.Seconds())
	s.row("refused meanwhile and asked again", "%d", s.refused.Load())
	s.row("connect: p50", "%.1f ms", took[len(took)/2].Seconds()*1e3)
	s.row("connect: p99", "%.1f ms", took[len(took)*99/100].Seconds()*1e3)
	s.row("keys of a connection", "%.1f", l.of(keys)/c)
	s.row("writes of a connection", "%.2f", l.of(puts)/c)
	s.row("in etcd's database, of a connection", "%.0f B", l.of(dbBytes)/c)
	s.row("watch events of a connection", "%.2f", l.of(events)/c)
	s.row("sent by etcd for a connection", "%.0f B", l.of(sentBytes)/c)
	s.row("etcd's time for a connection", "%.2f ms", 1e3*l.of(cpuSeconds)/c)
	return nil
}
