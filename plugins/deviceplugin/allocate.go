package deviceplugin

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"go.patchbay.dev/plugins/sriov"
)

// Allocate gives devices to containers: each gets a token for each of its devices. A device
// that a connection of a container that has ended still holds is taken from it. What has
// been given stays given until kubelet gives it anew: it tells nobody when a pod ends.
func (s *server) Allocate(ctx context.Context, in *api.AllocateRequest) (*api.AllocateResponse, error) {
	var ids []string
	for _, c := range in.ContainerRequests {
		ids = append(ids, c.DevicesIds...)
	}
	if err := s.free(ctx, ids); err != nil {
		return nil, err
	}
	tokens, err := s.Tokens.issue(s.pool, ids)
	if err != nil {
		return nil, status.Errorf(codes.Internal, "devices of %s cannot be given away: %v", s.pool, err)
	}
	pool, _ := s.Devices.Pool(s.pool)
	out := &api.AllocateResponse{}
	for _, c := range in.ContainerRequests {
		n := len(c.DevicesIds)
		out.ContainerResponses = append(out.ContainerResponses, &api.ContainerAllocateResponse{Envs: environment(s.pool, pool.Capability, c.DevicesIds, tokens[:n])})
		tokens = tokens[n:]
	}
	s.Log.Info("kubelet gives devices to a pod", "pool", s.pool, "devices", strings.Join(ids, ","))
	return out, nil
}

// free makes sure that devices can be given away.
func (s *server) free(ctx context.Context, ids []string) error {
	devices := s.devices()
	for i, id := range ids {
		at := slices.IndexFunc(devices, func(d sriov.Device) bool { return d.ID == id })
		switch {
		case at < 0:
			return status.Errorf(codes.NotFound, "device %q is not in pool %s", id, s.pool)
		case slices.Contains(ids[:i], id):
			return status.Errorf(codes.InvalidArgument, "device %s is asked for twice", id)
		case !devices[at].Healthy:
			return status.Errorf(codes.FailedPrecondition, "device %s is not healthy: %s", id, devices[at].Why)
		case devices[at].Owner != "":
			if err := s.evict(ctx, devices[at]); err != nil {
				return status.Errorf(codes.FailedPrecondition, "device %s is in use by connection %s: %v", id, devices[at].Owner, err)
			}
		}
	}
	return nil
}

// evictTimeout bounds the wait for a device to come home.
const evictTimeout = 10 * time.Second

// evict takes a device from a connection whose container has ended.
func (s *server) evict(ctx context.Context, d sriov.Device) error {
	ctx, cancel := context.WithTimeout(ctx, evictTimeout)
	defer cancel()
	if err := s.Evict(ctx, d.Owner); err != nil {
		return err
	}
	for {
		changed := s.Devices.Changed()
		held := func(now sriov.Device) bool { return now.ID == d.ID && now.Owner == d.Owner }
		if !slices.ContainsFunc(s.devices(), held) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("it is closed, but the device has not come back: %w", ctx.Err())
		}
	}
}
