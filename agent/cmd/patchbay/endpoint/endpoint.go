// Package endpoint serves a network service as an endpoint of Network Service Mesh: it
// accepts connections into one network namespace, gives each an interface name and
// addresses, tells monitors what becomes of them, and keeps itself registered.
package endpoint

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// Options of a Server.
type Options struct {
	Name       string         // of the endpoint, on the path of connections
	Service    string         // the network service
	Netns      *os.File       // where interfaces are made
	Mechanisms []string       // types that are accepted
	Pool       string         // of virtual functions, one of which each connection gets; empty: none
	Token      string         // the device plugin's, for the one that it has
	Interface  string         // name of interfaces; %d stands for the lowest number that is free
	Prefixes   []netip.Prefix // a pair of addresses of each for every connection
	Shared     bool           // connections share one link: only their clients have addresses, of the whole prefix
	Changed    func(Event)    // called for each change, one at a time; it must not block
}

// Event is what became of a connection.
type Event struct {
	Up         bool // false: closed or expired
	Reason     string
	Connection *networkservice.Connection
}

// lifetime of a connection whose client names no expiry.
const lifetime = 10 * time.Minute

// Server is the endpoint. It is a NetworkServiceServer and a MonitorConnectionServer.
type Server struct {
	networkservice.UnimplementedNetworkServiceServer
	networkservice.UnimplementedMonitorConnectionServer
	Options

	mu          sync.Mutex
	pools       []*pool
	connections map[string]*connection // by the id of the caller's path segment
	monitors    map[*monitor]struct{}
	stopped     chan struct{}
}

var nameTemplate = regexp.MustCompile(`^[^%/\s]*(%d)?[^%/\s]*$`)

// New makes a Server; it refuses options that no connection could be made with.
func New(o Options) (*Server, error) {
	s := &Server{Options: o, connections: map[string]*connection{}, monitors: map[*monitor]struct{}{}, stopped: make(chan struct{})}
	if !nameTemplate.MatchString(o.Interface) || o.Interface == "" {
		return nil, fmt.Errorf("interface %q: use a name with at most one %%d in it, like nsm%%d", o.Interface)
	}
	if len(o.Mechanisms) == 0 {
		return nil, errors.New("mechanism: name at least one, for instance KERNEL")
	}
	for i, p := range o.Prefixes {
		if j := slices.IndexFunc(o.Prefixes[:i], p.Overlaps); j >= 0 {
			return nil, fmt.Errorf("cidr %s overlaps %s; leave one out", p, o.Prefixes[j])
		}
		pool, err := newPool(p, o.Shared)
		if err != nil {
			return nil, fmt.Errorf("cidr: %w", err)
		}
		s.pools = append(s.pools, pool)
	}
	return s, nil
}

// Register adds the endpoint's services and their health to a gRPC server.
func (s *Server) Register(g *grpc.Server) {
	networkservice.RegisterNetworkServiceServer(g, s)
	networkservice.RegisterMonitorConnectionServer(g, s)
	h := health.NewServer()
	h.SetServingStatus("networkservice.NetworkService", healthpb.HealthCheckResponse_SERVING)
	healthpb.RegisterHealthServer(g, h)
}

// Stop ends monitors and expiry. Connections stay as they are; their clients learn from
// the monitor that the endpoint is gone.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.stopped)
	for _, c := range s.connections {
		c.expiry.Stop()
	}
}

// connection is one that is live.
type connection struct {
	id     string // of the endpoint's own path segment
	name   string // of the interface
	number int    // in the name, -1 if it has none
	pairs  []pair // of each pool
	expiry *time.Timer
	until  time.Time
	last   *networkservice.Connection // as the endpoint's own path segment sees it
}

// nameFor chooses an interface name: the one that a connection had, if it can be, else
// with the lowest number that is free. s.mu is held.
func (s *Server) nameFor(had string) (string, int, error) {
	taken := map[int]bool{}
	for _, c := range s.connections {
		taken[c.number] = true
	}
	before, after, numbered := strings.Cut(s.Interface, "%d")
	if !numbered {
		if taken[-1] {
			return "", 0, fmt.Errorf("interface %s is in use by another connection, and this endpoint has no second name (--interface %s%%d)", s.Interface, s.Interface)
		}
		return s.Interface, -1, nil
	}
	if digits, ok := strings.CutPrefix(had, before); ok {
		digits, ok = strings.CutSuffix(digits, after)
		if n, err := strconv.Atoi(digits); ok && err == nil && n >= 0 && !taken[n] && strconv.Itoa(n) == digits {
			return had, n, nil
		}
	}
	n := 0
	for taken[n] {
		n++
	}
	return before + strconv.Itoa(n) + after, n, nil
}

// pairsFor chooses addresses: those that a connection had, where they can be, else new
// ones. s.mu is held.
func (s *Server) pairsFor(had, excluded []netip.Prefix) ([]pair, error) {
	var out []pair
	for _, p := range s.pools {
		var old pair
		for i := 0; i+1 < len(had); i += 2 {
			if p.prefix.Contains(had[i].Addr()) {
				old = pair{had[i].Addr(), had[i+1].Addr()}
			}
		}
		if s.Shared {
			old.endpoint = netip.Addr{}
		}
		if p.retake(old) {
			out = append(out, old)
			continue
		}
		x, err := p.take(excluded)
		if err != nil {
			s.giveBack(out)
			return nil, err
		}
		out = append(out, x)
	}
	return out, nil
}

// giveBack frees addresses, the first of which are the first pool's. s.mu is held.
func (s *Server) giveBack(pairs []pair) {
	for i, x := range pairs {
		s.pools[i].giveBack(x)
	}
}
