// Package manager speaks Network Service Mesh's gRPC API on a node: it takes requests for
// network services, finds and asks the endpoint, negotiates, writes the record that moves
// the dataplane, and keeps registries, refresh, expiry and monitoring.
package manager

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"github.com/networkservicemesh/api/pkg/api/registry"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/store"
)

// Records is the way down: what becomes of the records that this room writes.
type Records interface {
	// Begin gives the JSON of a record to put, or says why the node would refuse it; a
	// *models.FieldError names the field. The dataplane begins with it; Abandon takes that
	// back when it was not put. The record must not change any more.
	Begin(x *models.CrossConnect) ([]byte, error)
	Abandon(id string)
	// BeginEnd has the dataplane take down a record that is about to be deleted; Abandon
	// takes that back when it was not.
	BeginEnd(id string)
	// CheckMechanism says why the node would refuse a mechanism at one end of a record.
	CheckMechanism(side models.Side, m *models.Mechanism) error
	// Hint gives the parameters of a mechanism that the node settles before the workload
	// answers, nil if there are none. It asks for the path where that matters.
	Hint(mechanism, id string, side models.Side, path func() string) map[string]string
	// Lookup gives a record that is in etcd, and its status; desired is nil when it is not valid.
	Lookup(id string) (desired *models.CrossConnect, status *models.CrossConnectStatus, ok bool)
	// Await waits until the record at revision is programmed or has failed.
	Await(ctx context.Context, id string, revision int64) (*models.CrossConnectStatus, error)
	// AwaitGone waits until nothing is left of a record deleted at revision.
	AwaitGone(ctx context.Context, id string, revision int64) error
	// Note has the status say why a connection that is programmed carries nothing; empty:
	// as far as is known, it does. A new record begins without.
	Note(id, why string)
}

// Store is what this room needs of plugins/store.
type Store interface {
	Up() error
	Put(ctx context.Context, key string, value []byte) (int64, error)
	PutLeased(ctx context.Context, key string, value []byte, ttl time.Duration) (int64, error)
	Delete(ctx context.Context, key string) (int64, error)
	List(ctx context.Context, prefix string) ([]store.KV, int64, error)
	Write(ctx context.Context, puts []store.KV, deletes []string) (int64, error)
	Watch(ctx context.Context, prefix string, fn func(store.Batch)) error
}

// Namespaces turns what a peer passes into a lasting reference to a network namespace,
// and back.
type Namespaces interface {
	FromDescriptor(f *os.File, pid int) (ref string, err error)
	FromPath(path string) (ref string, err error)
	File(ref string) (*os.File, error)
}

// Observer counts what this room does.
type Observer interface {
	Request(method string, code codes.Code, took time.Duration)
	Negotiation(mechanism, outcome string)
}

// Options of a Manager.
type Options struct {
	Keys       models.Keys // Node is also the name of this agent's path segments
	Store      Store
	Records    Records
	Namespaces Namespaces
	Observer   Observer
	Agent      func() *models.Agent // what this node offers now
	Prefer     []string             // mechanism types that override the order of preference
	Path       string               // of connections whose network service names none, see models.CrossConnect
	OwnNetns   uint64               // inode of the agent's network namespace
	Tunnels    Tunnels              // nil: this node ends no tunnels
	Paths      Paths                // of the tunnels; nil: none is watched
	Bridges    Bridges              // nil: none answers network services
	Devices    Devices              // nil: this node has no devices to give away
	Identity   Identity             // nil: agents of other nodes do not know this one
	Log        *slog.Logger
}

// Defaults of what a client leaves open, and bounds.
const (
	// MaxMessage bounds a message in bytes; a record must fit into one etcd request.
	MaxMessage = 1 << 20
	// Window of gRPC's flow control in bytes, of a connection and of each stream: a message fits
	// into it. As long as it is fixed, gRPC does not look for one by a ping for every message.
	Window = MaxMessage
	// DefaultTimeout of a request that comes without a deadline: NSM clients use 15 s.
	DefaultTimeout = 15 * time.Second
	// DefaultLifetime of a connection whose client names no expiry.
	DefaultLifetime = 10 * time.Minute
	// DefaultRegistration is how long an endpoint stays registered that names no expiry.
	DefaultRegistration = time.Minute
	// grace is what a connection on record is given to be refreshed after the agent or
	// etcd was away.
	grace = 30 * time.Second
)

// Manager is the room at work.
type Manager struct {
	Options
	networkservice.UnimplementedNetworkServiceServer
	networkservice.UnimplementedMonitorConnectionServer

	registry *directory
	nodes    *nodes
	loaded   chan struct{} // closed once registries and nodes have been read
	ids      keyedMutex
	links    links
	durables *durables
	health   *health.Server

	farewells farewells

	mu          sync.Mutex
	connections map[string]*connection // by the id of the record
	composed    map[string]composed    // by the id of the record, see remember
	segments    map[string]string      // id of the record by the id of our own path segment
	asking      map[asking]int         // requests to other nodes under way
	monitors    map[*monitor]struct{}
	notes       sync.Mutex       // held while a status is told why it is so
	heals       chan struct{}    // bounds what is healed at the same time
	turn        map[string]int   // round robin by network service
	undoing     map[string]*mark // by id: the failed request that is still to be undone

	begin sync.Once
	ready chan struct{} // closed once the records on etcd are known

	run  context.Context // ends when the manager stops
	stop context.CancelFunc
	done sync.WaitGroup
}

// New makes a Manager; Start begins its watches.
func New(o Options) *Manager {
	m := &Manager{
		Options:     o,
		registry:    newDirectory(o.Keys),
		nodes:       newNodes(o.Keys),
		loaded:      make(chan struct{}),
		ids:         keyedMutex{held: map[string]*holder{}},
		health:      health.NewServer(),
		farewells:   farewells{under: map[farewell]chan struct{}{}},
		connections: map[string]*connection{},
		composed:    map[string]composed{},
		segments:    map[string]string{},
		asking:      map[asking]int{},
		monitors:    map[*monitor]struct{}{},
		turn:        map[string]int{},
		undoing:     map[string]*mark{},
		ready:       make(chan struct{}),
		heals:       make(chan struct{}, maxHealing),
	}
	m.durables = newDurables(m)
	m.run, m.stop = context.WithCancel(context.Background())
	m.links.init(m)
	return m
}

// Start watches the registries and the agents of all nodes.
func (m *Manager) Start(context.Context) error {
	for _, prefix := range []string{m.Keys.Services(), m.Keys.Endpoints()} {
		m.done.Go(func() {
			err := m.Store.Watch(m.run, prefix, func(b store.Batch) { m.registry.batch(prefix, b, m.Log) })
			if err != nil && m.run.Err() == nil {
				m.Log.Error("watch of the registry ended", "key", prefix, "err", err)
			}
		})
	}
	m.done.Go(m.followNodes)
	m.done.Go(m.followEndpoints)
	m.done.Go(m.durables.run)
	m.done.Go(func() { m.durables.statuses.Run(m.run) })
	m.done.Go(func() {
		for _, c := range []chan struct{}{m.registry.loaded, m.nodes.loaded} {
			select {
			case <-c:
			case <-m.run.Done():
				return
			}
		}
		close(m.loaded)
	})
	return nil
}

// Loaded is closed once both registries have been read, and who is there of the nodes.
func (m *Manager) Loaded() <-chan struct{} { return m.loaded }

// Quit ends the streams of monitors and watchers, so that the server can stop.
func (m *Manager) Quit() {
	m.health.Shutdown()
	m.stop()
}

// Stop ends expiry, monitoring and watches. Connections stay as they are.
func (m *Manager) Stop() {
	m.Quit()
	m.mu.Lock()
	for _, c := range m.connections {
		c.timer.Stop()
		c.healing.stop()
		m.claimed(c)
	}
	m.mu.Unlock()
	m.links.close()
	m.done.Wait()
}

// Register adds the services of this room to a gRPC server.
func (m *Manager) Register(s *grpc.Server) {
	networkservice.RegisterNetworkServiceServer(s, m)
	networkservice.RegisterMonitorConnectionServer(s, m)
	registry.RegisterNetworkServiceRegistryServer(s, &serviceRegistry{m: m})
	registry.RegisterNetworkServiceEndpointRegistryServer(s, &endpointRegistry{m: m})
	healthpb.RegisterHealthServer(s, m.health)
}

// Ready says whether requests are served: to health checks, under each service's name,
// and the first time to the requests that wait for it.
func (m *Manager) Ready(ready bool) {
	m.begin.Do(func() { close(m.ready) })
	state := healthpb.HealthCheckResponse_NOT_SERVING
	if ready {
		state = healthpb.HealthCheckResponse_SERVING
	}
	for _, name := range []string{"", "networkservice.NetworkService", "connection.MonitorConnection",
		"networkservice.MonitorConnection", "registry.NetworkServiceRegistry", "registry.NetworkServiceEndpointRegistry"} {
		m.health.SetServingStatus(name, state)
	}
}
