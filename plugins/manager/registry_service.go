package manager

import (
	"context"

	"github.com/networkservicemesh/api/pkg/api/registry"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"go.patchbay.dev/models"
)

// serviceRegistry is NSM's NetworkServiceRegistry over services/ in etcd.
type serviceRegistry struct {
	registry.UnimplementedNetworkServiceRegistryServer
	m *Manager
}

// Register writes a network service. One that exists may only be changed by root of the
// node, for its matches steer other people's clients.
func (r *serviceRegistry) Register(ctx context.Context, in *registry.NetworkService) (*registry.NetworkService, error) {
	p, err := peerOf(ctx)
	if err != nil {
		return nil, err
	}
	s := serviceFromNSM(in)
	if err := models.ValidateService(s); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	known := r.m.registry.registered(s.Name)
	if known != nil {
		if proto.Equal(known, s) {
			return in, nil
		}
		if !r.m.isRoot(p) {
			return nil, status.Errorf(codes.PermissionDenied, "network service %q exists and differs; only root of the node may change it", s.Name)
		}
	}
	data, err := models.Marshal(s)
	if err != nil {
		return nil, coded(err, codes.Internal)
	}
	revision, err := r.m.Store.Put(ctx, r.m.Keys.Service(s.Name), data)
	if err != nil {
		return nil, coded(err, codes.Internal)
	}
	if err := r.m.registry.await(ctx, r.m.Keys.Services(), revision); err != nil {
		return nil, coded(err, codes.Internal)
	}
	r.m.Log.Info("network service registered", "service", s.Name, "peer", p.owner())
	return in, nil
}

// Find sends the network services that match the query and, if asked to watch, every
// change after them until the client leaves.
func (r *serviceRegistry) Find(q *registry.NetworkServiceQuery, out registry.NetworkServiceRegistry_FindServer) error {
	services, _, changes := r.m.registry.watch()
	defer r.m.registry.unwatch(changes)
	send := func(s *models.Service, deleted bool) error {
		if s == nil || !matchesService(q.GetNetworkService(), s) {
			return nil
		}
		return out.Send(&registry.NetworkServiceResponse{NetworkService: serviceToNSM(s), Deleted: deleted})
	}
	for _, s := range services {
		if err := send(s, false); err != nil {
			return err
		}
	}
	if !q.GetWatch() {
		return nil
	}
	return r.m.follow(out.Context(), changes, func(c Change) error { return send(c.Service, c.Deleted) })
}

// Unregister removes a network service; one that endpoints still serve stays reachable.
func (r *serviceRegistry) Unregister(ctx context.Context, in *registry.NetworkService) (*emptypb.Empty, error) {
	p, err := peerOf(ctx)
	if err != nil {
		return nil, err
	}
	if r.m.registry.registered(in.GetName()) == nil {
		return &emptypb.Empty{}, nil
	}
	if !r.m.isRoot(p) {
		return nil, status.Errorf(codes.PermissionDenied, "only root of the node may remove network service %q", in.GetName())
	}
	if _, err := r.m.Store.Delete(ctx, r.m.Keys.Service(in.GetName())); err != nil {
		return nil, coded(err, codes.Internal)
	}
	return &emptypb.Empty{}, nil
}

// follow hands changes to send until the client leaves, the agent stops or the client is
// too slow to keep up.
func (m *Manager) follow(ctx context.Context, changes <-chan Change, send func(Change) error) error {
	for {
		select {
		case c, ok := <-changes:
			if !ok {
				return status.Error(codes.ResourceExhausted, "the watcher is too slow; find again")
			}
			if err := send(c); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		case <-m.run.Done():
			return status.Error(codes.Unavailable, "the agent stops")
		}
	}
}

func matchesService(q *registry.NetworkService, s *models.Service) bool {
	return (q.GetName() == "" || q.Name == s.Name) &&
		(q.GetPayload() == "" || q.Payload == s.Payload) &&
		(len(q.GetMatches()) == 0 || proto.Equal(&models.Service{Matches: serviceFromNSM(q).Matches}, &models.Service{Matches: s.Matches}))
}

func serviceFromNSM(in *registry.NetworkService) *models.Service {
	s := &models.Service{Name: in.GetName(), Payload: in.GetPayload()}
	for _, m := range in.GetMatches() {
		match := &models.Match{SourceSelector: m.GetSourceSelector(), FallThrough: m.GetFallthrough()}
		for _, r := range m.GetRoutes() {
			match.Routes = append(match.Routes, &models.Destination{DestinationSelector: r.GetDestinationSelector(), Weight: r.GetWeight()})
		}
		if m.GetMetadata() != nil {
			match.Metadata = &models.Metadata{Labels: m.Metadata.Labels}
		}
		s.Matches = append(s.Matches, match)
	}
	return s
}

func serviceToNSM(s *models.Service) *registry.NetworkService {
	out := &registry.NetworkService{Name: s.Name, Payload: s.Payload}
	for _, m := range s.Matches {
		match := &registry.Match{SourceSelector: m.SourceSelector, Fallthrough: m.FallThrough}
		for _, r := range m.Routes {
			match.Routes = append(match.Routes, &registry.Destination{DestinationSelector: r.DestinationSelector, Weight: r.Weight})
		}
		if m.Metadata != nil {
			match.Metadata = &registry.Metadata{Labels: m.Metadata.Labels}
		}
		out.Matches = append(out.Matches, match)
	}
	return out
}
