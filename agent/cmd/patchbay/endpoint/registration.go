package endpoint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/networkservicemesh/api/pkg/api/registry"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Registration keeps an endpoint in its agent's registry.
type Registration struct {
	Agent    *grpc.ClientConn
	Name     string
	Service  string
	Payload  string            // of the network service, where it is not registered yet
	Labels   map[string]string // of the endpoint for the service
	URL      string            // where the endpoint answers: unix:///path
	Lifetime time.Duration     // until it is forgotten unless it registers again
	Timeout  time.Duration     // of one call
	// Problem is told why the registration could not be renewed, and nil when it is again.
	Problem func(error)
}

// Register registers the endpoint, and its network service if that is not known. It
// gives how long that lasts.
func (r *Registration) Register(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	if err := r.registerService(ctx); err != nil {
		return 0, err
	}
	out, err := registry.NewNetworkServiceEndpointRegistryClient(r.Agent).Register(ctx, &registry.NetworkServiceEndpoint{
		Name:                 r.Name,
		NetworkServiceNames:  []string{r.Service},
		NetworkServiceLabels: map[string]*registry.NetworkServiceLabels{r.Service: {Labels: r.Labels}},
		Url:                  r.URL,
		ExpirationTime:       timestamppb.New(time.Now().Add(r.Lifetime)),
	})
	if err != nil {
		return 0, fmt.Errorf("register endpoint %s: %w", r.Name, err)
	}
	if out.GetExpirationTime() == nil {
		return r.Lifetime, nil
	}
	return time.Until(out.ExpirationTime.AsTime()), nil
}

// registerService makes the network service known, and leaves it alone if it is: it may
// have been applied with matches.
func (r *Registration) registerService(ctx context.Context) error {
	services := registry.NewNetworkServiceRegistryClient(r.Agent)
	find, err := services.Find(ctx, &registry.NetworkServiceQuery{NetworkService: &registry.NetworkService{Name: r.Service}})
	if err == nil {
		_, err = find.Recv()
	}
	if errors.Is(err, io.EOF) {
		_, err = services.Register(ctx, &registry.NetworkService{Name: r.Service, Payload: r.Payload})
	}
	if err != nil {
		return fmt.Errorf("register network service %s: %w", r.Service, err)
	}
	return nil
}

// Pauses between attempts to register.
const (
	minPause = time.Second
	maxPause = 10 * time.Second
)

// Keep registers again at a third of the time that a registration lasts, and at once when
// the agent comes back, until ctx ends. lasts is what Register gave.
func (r *Registration) Keep(ctx context.Context, lasts time.Duration) {
	back := make(chan struct{}, 1)
	done := make(chan struct{})
	go func() { defer close(done); r.watch(ctx, back) }()
	defer func() { <-done }()
	wait, pause := lasts/3, minPause
	for {
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-back:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
		lasts, err := r.Register(ctx)
		if ctx.Err() != nil {
			return
		}
		r.Problem(err)
		if err != nil {
			wait, pause = pause, min(pause*2, maxPause)
			continue
		}
		wait, pause = lasts/3, minPause
	}
}

// watch tells when the connection to the agent is there again after it was lost.
func (r *Registration) watch(ctx context.Context, back chan<- struct{}) {
	lost := false
	for {
		state := r.Agent.GetState()
		switch state {
		case connectivity.Ready:
			if lost {
				select {
				case back <- struct{}{}:
				default:
				}
			}
			lost = false
		case connectivity.Idle: // that is what a lost connection becomes first
			lost = true
			r.Agent.Connect()
		default:
			lost = true
		}
		if !r.Agent.WaitForStateChange(ctx, state) {
			return
		}
	}
}

// Unregister takes the endpoint out of the registry.
func (r *Registration) Unregister(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	_, err := registry.NewNetworkServiceEndpointRegistryClient(r.Agent).Unregister(ctx, &registry.NetworkServiceEndpoint{Name: r.Name})
	if err != nil {
		return fmt.Errorf("unregister endpoint %s: %w", r.Name, err)
	}
	return nil
}
