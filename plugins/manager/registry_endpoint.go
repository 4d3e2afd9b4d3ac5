package manager

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/networkservicemesh/api/pkg/api/registry"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/fdpass"
)

// endpointRegistry is NSM's NetworkServiceEndpointRegistry over endpoints/ in etcd.
type endpointRegistry struct {
	registry.UnimplementedNetworkServiceEndpointRegistryServer
	m *Manager
}

// Bounds of how long a registration lasts; leases count in seconds.
const (
	minRegistration = 2 * time.Second
	maxRegistration = 24 * time.Hour
)

// Register writes an endpoint on a lease. The reply's expiration time is when it has to
// be registered again.
func (r *endpointRegistry) Register(ctx context.Context, in *registry.NetworkServiceEndpoint) (*registry.NetworkServiceEndpoint, error) {
	p, err := peerOf(ctx)
	if err != nil {
		return nil, err
	}
	e := endpointFromNSM(in)
	e.Node, e.Owner = r.m.Keys.Node, p.owner()
	if e.Name == "" && len(e.Services) > 0 {
		e.Name = e.Services[0] + "-" + uuid.NewString()[:8]
	}
	if err := models.ValidateEndpoint(e); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if strings.HasPrefix(e.Name, bridgePrefix) {
		return nil, status.Errorf(codes.InvalidArgument, "name: %q begins as a bridge's does; choose another", e.Name)
	}
	e.Registered = timestamppb.Now()
	known := r.m.registry.endpoint(e.Name)
	if known != nil {
		if !r.m.may(p, known.Owner) {
			return nil, status.Errorf(codes.PermissionDenied, "endpoint %q is registered by another client; choose another name", e.Name)
		}
		e.Registered = known.Registered
	}
	if e.Url, err = r.m.endpointURL(ctx, p, e.Url); err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "url: %v", err)
	}
	ttl, err := registration(ctx, in)
	if err != nil {
		return nil, err
	}
	e.Expires = timestamppb.New(time.Now().Add(ttl))
	data, err := models.Marshal(e)
	if err != nil {
		return nil, coded(err, codes.Internal)
	}
	revision, err := r.m.Store.PutLeased(ctx, r.m.Keys.Endpoint(e.Name), data, ttl)
	if err != nil {
		return nil, coded(err, codes.Internal)
	}
	if err := r.m.registry.await(ctx, r.m.Keys.Endpoints(), revision); err != nil {
		return nil, coded(err, codes.Internal)
	}
	level := slog.LevelInfo
	if known != nil {
		level = slog.LevelDebug // it only goes on
	}
	r.m.Log.Log(ctx, level, "endpoint registered", "endpoint", e.Name, "services", e.Services, "url", e.Url, "ttl", ttl, "peer", p.owner())
	out := endpointToNSM(e)
	out.Url = in.Url // the client's own view of it
	out.PathIds = in.PathIds
	return out, nil
}

// registration is how long an endpoint stays registered: as it asks, but no longer than
// its token is valid, as NSM's registries have it.
func registration(ctx context.Context, in *registry.NetworkServiceEndpoint) (time.Duration, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	token, err := tokenExpiry(md)
	if err != nil {
		return 0, err
	}
	ttl := DefaultRegistration
	if in.ExpirationTime != nil {
		ttl = time.Until(in.ExpirationTime.AsTime())
	}
	if token != nil {
		ttl = min(ttl, time.Until(token.AsTime()))
	}
	return min(max(ttl, minRegistration), maxRegistration), nil
}

// endpointURL turns the URL that an endpoint registers into one that this agent can dial
// at any time. A unix socket must belong to the one who registers it.
func (m *Manager) endpointURL(ctx context.Context, p peer, url string) (string, error) {
	if path, ok := strings.CutPrefix(url, "unix://"); ok {
		return url, m.checkSocket(p, path)
	}
	if !strings.HasPrefix(url, "inode://") {
		return "", fmt.Errorf("%q cannot be reached from this node: endpoints answer on a unix socket here, as unix:///path or inode://dev/ino with the descriptor passed", url)
	}
	dev, ino, err := fdpass.ParseURL(url)
	if err != nil {
		return "", err
	}
	f, err := p.conn.Receive(ctx, dev, ino)
	if err != nil {
		return "", fmt.Errorf("%s: %w", url, err)
	}
	defer f.Close()
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err != nil {
		return "", err
	}
	// The path is as the endpoint sees it, in its own file system if it is in a pod.
	for _, at := range []string{path, fmt.Sprintf("/proc/%d/root%s", p.PID, path)} {
		var st syscall.Stat_t
		if syscall.Stat(at, &st) == nil && st.Dev == dev && st.Ino == ino {
			return "unix://" + at, m.checkSocket(p, at)
		}
	}
	return "", fmt.Errorf("%s (%s): the agent cannot see this socket; share its folder with the agent", url, path)
}

// checkSocket refuses a path through which a workload would reach what is not its own.
func (m *Manager) checkSocket(p peer, path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case info.Mode().Type() != os.ModeSocket:
		return fmt.Errorf("%s is no socket", path)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != p.UID && p.UID != 0 {
		return fmt.Errorf("%s belongs to user %d; an endpoint registers a socket of its own user (%d)", path, st.Uid, p.UID)
	}
	return nil
}

// Find sends the endpoints that match the query and, if asked to watch, every change.
func (r *endpointRegistry) Find(q *registry.NetworkServiceEndpointQuery, out registry.NetworkServiceEndpointRegistry_FindServer) error {
	_, endpoints, changes := r.m.registry.watch()
	defer r.m.registry.unwatch(changes)
	send := func(e *models.Endpoint, deleted bool) error {
		if e == nil || !matchesEndpoint(q.GetNetworkServiceEndpoint(), e) {
			return nil
		}
		return out.Send(&registry.NetworkServiceEndpointResponse{NetworkServiceEndpoint: endpointToNSM(e), Deleted: deleted})
	}
	for _, e := range endpoints {
		if err := send(e, false); err != nil {
			return err
		}
	}
	if !q.GetWatch() {
		return nil
	}
	return r.m.follow(out.Context(), changes, func(c Change) error { return send(c.Endpoint, c.Deleted) })
}

// Unregister removes an endpoint; its connections stay until they are closed.
func (r *endpointRegistry) Unregister(ctx context.Context, in *registry.NetworkServiceEndpoint) (*emptypb.Empty, error) {
	p, err := peerOf(ctx)
	if err != nil {
		return nil, err
	}
	known := r.m.registry.endpoint(in.GetName())
	if known == nil {
		return &emptypb.Empty{}, nil
	}
	if !r.m.may(p, known.Owner) {
		return nil, status.Errorf(codes.PermissionDenied, "endpoint %q is registered by another client", in.GetName())
	}
	if _, err := r.m.Store.Delete(ctx, r.m.Keys.Endpoint(in.GetName())); err != nil {
		return nil, coded(err, codes.Internal)
	}
	r.m.Log.Info("endpoint unregistered", "endpoint", in.GetName(), "peer", p.owner())
	return &emptypb.Empty{}, nil
}

// matchesEndpoint follows NSM's registries: what the query leaves empty matches.
func matchesEndpoint(q *registry.NetworkServiceEndpoint, e *models.Endpoint) bool {
	if q.GetName() != "" && q.Name != e.Name || !strings.Contains(e.Url, q.GetUrl()) {
		return false
	}
	for _, s := range q.GetNetworkServiceNames() {
		if !slices.Contains(e.Services, s) {
			return false
		}
	}
	for service, labels := range q.GetNetworkServiceLabels() {
		if !subset(e.GetLabels()[service].GetLabels(), labels.GetLabels(), nil) {
			return false
		}
	}
	return true
}

func endpointFromNSM(in *registry.NetworkServiceEndpoint) *models.Endpoint {
	e := &models.Endpoint{Name: in.GetName(), Url: in.GetUrl()}
	for _, s := range in.GetNetworkServiceNames() {
		if !slices.Contains(e.Services, s) {
			e.Services = append(e.Services, s)
		}
	}
	for service, l := range in.GetNetworkServiceLabels() {
		if e.Labels == nil {
			e.Labels = map[string]*models.Labels{}
		}
		e.Labels[service] = &models.Labels{Labels: l.GetLabels()}
	}
	return e
}

func endpointToNSM(e *models.Endpoint) *registry.NetworkServiceEndpoint {
	out := &registry.NetworkServiceEndpoint{Name: e.Name, NetworkServiceNames: e.Services, Url: e.Url,
		ExpirationTime:          proto.CloneOf(e.Expires),
		InitialRegistrationTime: proto.CloneOf(e.Registered)}
	for service, l := range e.Labels {
		if out.NetworkServiceLabels == nil {
			out.NetworkServiceLabels = map[string]*registry.NetworkServiceLabels{}
		}
		out.NetworkServiceLabels[service] = &registry.NetworkServiceLabels{Labels: l.Labels}
	}
	return out
}
