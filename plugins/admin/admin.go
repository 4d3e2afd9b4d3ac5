// Package admin answers the patchbay commands: get, describe, explain, apply, delete and
// version, over the agent's own socket.
package admin

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/admin/adminpb"
	"go.patchbay.dev/plugins/bridge"
	"go.patchbay.dev/plugins/crossconnect"
	"go.patchbay.dev/plugins/fdpass"
	"go.patchbay.dev/plugins/manager"
	"go.patchbay.dev/plugins/sriov"
	"go.patchbay.dev/plugins/store"
)

// CrossConnects is what this room needs of plugins/crossconnect.
type CrossConnects interface {
	List() []crossconnect.Event
	Lookup(id string) (*models.CrossConnect, *models.CrossConnectStatus, bool)
	Check(x *models.CrossConnect) error
	Subscribe(fn func(crossconnect.Event))
}

// Registry is what this room needs of plugins/manager.
type Registry interface {
	WatchRegistry() (services []*models.Service, endpoints []*models.Endpoint, changes <-chan manager.Change, stop func())
	Candidates(service string, labels map[string]string) ([]*models.Endpoint, error)
	CheckConnection(c *models.Connection) error
	// Node gives the agent of a node, nil if none is alive.
	Node(name string) *models.Agent
	// Reach says what keeps this agent from asking that of another node.
	Reach(other *models.Agent) error
}

// Bridges is what this room needs of plugins/bridge.
type Bridges interface {
	// Check says why a bridge would be refused.
	Check(ctx context.Context, b *models.Bridge) error
	// Refused says why the record of a bridge does not count on this node; empty: it does.
	Refused(name string) string
	// Look tells what this node's dataplane has of a bridge.
	Look(ctx context.Context, name string) (bridge.State, error)
	// Await waits until the bridges are known as of a revision.
	Await(ctx context.Context, revision int64) error
	// Free gives back what a bridge that is deleted has left in etcd.
	Free(ctx context.Context, name string) error
}

// Store is what this room needs of plugins/store.
type Store interface {
	Get(ctx context.Context, key string) (store.KV, error)
	List(ctx context.Context, prefix string) ([]store.KV, int64, error)
	Put(ctx context.Context, key string, value []byte) (int64, error)
	Delete(ctx context.Context, key string) (int64, error)
	Watch(ctx context.Context, prefix string, fn func(store.Batch)) error
}

// Devices is what this room needs of plugins/sriov.
type Devices interface {
	Devices() []sriov.Device
	// Explain says, a line each, which device of a pool a client would get now, and why not each of the others.
	Explain(pool string) (lines []string, free bool, err error)
	Changed() <-chan struct{}
}

// Counters reads the counters of one side as its workload sees them; nil: unknown.
type Counters func(x *models.CrossConnect, side models.Side) *adminpb.Counters

// Options of a Server.
type Options struct {
	Keys          models.Keys
	Version       string
	VPP           func() string        // VPP's version, empty without VPP
	Agent         func() *models.Agent // what this node offers now
	Path          string               // of connections whose network service names none
	Prefer        []string             // as configured for negotiations
	Store         Store
	CrossConnects CrossConnects
	Registry      Registry
	Bridges       Bridges
	Devices       Devices                   // nil: the node has no pools of devices
	Given         func(id string) time.Time // when kubelet last gave a device away; nil: it gives none
	Counters      Counters
	OwnNetns      uint64 // inode of the agent's network namespace
}

// Server is the room at work.
type Server struct {
	adminpb.UnimplementedAdminServer
	Options
	crossconnects hub
}

// New makes a Server; it subscribes to the cross-connects.
func New(o Options) *Server {
	s := &Server{Options: o}
	s.crossconnects.watchers = map[chan crossconnect.Event]struct{}{}
	o.CrossConnects.Subscribe(s.crossconnects.tell)
	return s
}

// Register adds the service to a gRPC server.
func (s *Server) Register(g *grpc.Server) { adminpb.RegisterAdminServer(g, s) }

// Version says what runs here; anyone may ask.
func (s *Server) Version(context.Context, *adminpb.VersionRequest) (*adminpb.VersionResponse, error) {
	return &adminpb.VersionResponse{Version: s.Options.Version, Node: s.Keys.Node, Dataplane: s.Agent().GetDataplane(), Vpp: s.VPP()}, nil
}

// caller identifies who asks: root is root of the node, who sees and may do everything.
func (s *Server) caller(ctx context.Context) (owner string, root bool, err error) {
	c, ok := fdpass.FromContext(ctx)
	if !ok {
		return "", false, status.Error(codes.Unauthenticated, "the caller is not known: use the agent's unix socket")
	}
	return manager.Owner(c.Peer()), manager.IsRoot(c.Peer(), s.OwnNetns), nil
}

// rootOnly refuses everyone but root of the node.
func (s *Server) rootOnly(ctx context.Context, what string) error {
	_, root, err := s.caller(ctx)
	if err == nil && !root {
		err = status.Errorf(codes.PermissionDenied, "only root of the node may %s; a workload sees its own connections with: patchbay get connections", what)
	}
	return err
}
