package manager

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/identity"
)

// Paths find out whether what tunnels go through carries packets: plugins/bfd.
type Paths interface {
	// Watch has a path watched until stop; changed is called when Broken may have changed. It
	// must be quick.
	Watch(p models.TunnelPath, changed func()) (stop func())
	// Broken tells whether a path that has carried packets does not any more, as far as this
	// node can tell: the other end may have been restarted.
	Broken(p models.TunnelPath) bool
	// Asked is what the other node is told of this end of a path: ready says that it has had
	// the time to come up. The path is watched for its sake; not ok: it cannot be.
	Asked(p models.TunnelPath) (ready, ok bool)
}

// through has a link know what path a connection's tunnel takes to the node there: the two
// are lost together.
func (m *Manager) through(x *models.CrossConnect) {
	if m.Paths == nil {
		return
	}
	for _, side := range []models.Side{models.ClientSide, models.EndpointSide} {
		p, ok := m.Tunnels.Path(x, side)
		if !ok {
			continue
		}
		for _, node := range nodesOf(x.Request) {
			m.links.through(nodeURL(node), p)
		}
	}
}

func (l *links) through(url string, p models.TunnelPath) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.by[url]
	if k == nil || k.paths[p] != nil {
		return
	}
	if k.paths == nil {
		k.paths = map[models.TunnelPath]func(){}
	}
	k.paths[p] = l.m.Paths.Watch(p, func() {
		select {
		case k.changed <- struct{}{}:
		default:
		}
	})
}

// broken are the paths to the node of a link that do not carry any more.
func (l *links) broken(k *link) (all []models.TunnelPath) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p := range k.paths {
		if l.m.Paths.Broken(p) {
			all = append(all, p)
		}
	}
	return all
}

// broken says why the node is lost although its agent answers: a path to it carries nothing,
// while the other end of that is there and has had the time to come up. If it has not, or
// does not answer this time, what was thought of the path before counts.
func (p *pulse) broken(ctx context.Context, before bool) string {
	for _, path := range p.m.links.broken(p.link) {
		ctx, cancel := context.WithTimeout(ctx, pulseTimeout)
		r, err := p.health.Check(ctx, &healthpb.HealthCheckRequest{Service: pathService(path.Remote, path.Local)})
		cancel()
		watched := status.Code(err) != codes.NotFound
		if (before && watched || r.GetStatus() == healthpb.HealthCheckResponse_SERVING) && p.m.Paths.Broken(path) {
			return fmt.Sprintf("the path to node %s (%s) carries nothing, though its agent answers: the BFD session from %s is down", p.node, path.Remote, path.Local)
		}
	}
	return ""
}

// pathPrefix begins the name of the health service that stands for an agent's end of a path;
// its own address and the caller's follow. Where it is not known, no path is watched.
const pathPrefix = "patchbay.TunnelPath/"

func pathService(own, callers netip.Addr) string {
	return pathPrefix + own.String() + "/" + callers.String()
}

// peerHealth is health as agents of other nodes see it: that of paths between them, too.
type peerHealth struct {
	*health.Server
	m *Manager
}

// Check answers for a path to an address of the caller's only.
func (h peerHealth) Check(ctx context.Context, in *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	ends, ok := strings.CutPrefix(in.Service, pathPrefix)
	if !ok || h.m.Paths == nil {
		return h.Server.Check(ctx, in)
	}
	own, callers, _ := strings.Cut(ends, "/")
	local, err1 := netip.ParseAddr(own)
	remote, err2 := netip.ParseAddr(callers)
	if err1 != nil || err2 != nil || !h.m.isOf(ctx, callers) {
		return nil, status.Errorf(codes.InvalidArgument, "service %q does not name an address of this node and one of the caller's", in.Service)
	}
	ready, ok := h.m.Paths.Asked(models.TunnelPath{Local: local, Remote: remote})
	switch {
	case !ok:
		return nil, status.Errorf(codes.NotFound, "the path from %s is not watched", local)
	case !ready:
		return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_NOT_SERVING}, nil
	}
	return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}, nil
}

// isOf tells whether the agent that calls is of a node that has a tunnel address.
func (m *Manager) isOf(ctx context.Context, address string) bool {
	p, _ := identity.FromContext(ctx)
	return slices.ContainsFunc(p.Names, func(node string) bool {
		return slices.Contains(m.nodes.get(node).GetAddresses(), address)
	})
}
