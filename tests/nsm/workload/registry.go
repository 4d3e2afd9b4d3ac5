package workload

import (
	"context"
	"fmt"
	"net/url"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"github.com/networkservicemesh/api/pkg/api/registry"
	registryclient "github.com/networkservicemesh/sdk/pkg/registry/chains/client"
)

// registryRole is NSM's client of both registries. It registers by another chain than it
// watches with: one chain has one connection for all that it does about a name.
type registryRole struct {
	ctx       context.Context // of the process
	endpoints registry.NetworkServiceEndpointRegistryClient
	services  registry.NetworkServiceRegistryClient
	watched   registry.NetworkServiceRegistryClient
	out       *output
}

func newRegistry(ctx context.Context, config Config, out *output) (*registryRole, error) {
	agent, err := url.Parse(config.Agent)
	if err != nil {
		return nil, err
	}
	options := []registryclient.Option{registryclient.WithClientURL(agent), registryclient.WithDialOptions(dialOptions(config.Lifetime)...)}
	return &registryRole{ctx: ctx, out: out,
		endpoints: registryclient.NewNetworkServiceEndpointRegistryClient(ctx, options...),
		services:  registryclient.NewNetworkServiceRegistryClient(ctx, options...),
		watched:   registryclient.NewNetworkServiceRegistryClient(ctx, options...),
	}, nil
}

func (r *registryRole) do(ctx context.Context, cmd Command) (*networkservice.Connection, error) {
	switch cmd.Do {
	case Register:
		_, err := r.services.Register(ctx, &registry.NetworkService{Name: cmd.Service, Payload: "ETHERNET"})
		return nil, err
	case Unregister:
		_, err := r.services.Unregister(ctx, &registry.NetworkService{Name: cmd.Service})
		return nil, err
	case FindService:
		stream, err := r.watched.Find(r.ctx, &registry.NetworkServiceQuery{Watch: true,
			NetworkService: &registry.NetworkService{Name: cmd.Service}})
		if err == nil {
			go r.hearServices(stream)
		}
		return nil, err
	case FindEndpoints:
		stream, err := r.endpoints.Find(r.ctx, &registry.NetworkServiceEndpointQuery{Watch: true,
			NetworkServiceEndpoint: &registry.NetworkServiceEndpoint{NetworkServiceNames: []string{cmd.Service}}})
		if err == nil {
			go r.hearEndpoints(stream)
		}
		return nil, err
	}
	return nil, fmt.Errorf("a registry's client cannot %q", cmd.Do)
}

func (r *registryRole) hearServices(stream registry.NetworkServiceRegistry_FindClient) {
	for {
		in, err := stream.Recv()
		if r.hear(in.GetNetworkService().GetName(), in.GetDeleted(), err) {
			return
		}
	}
}

func (r *registryRole) hearEndpoints(stream registry.NetworkServiceEndpointRegistry_FindClient) {
	for {
		in, err := stream.Recv()
		if r.hear(in.GetNetworkServiceEndpoint().GetName(), in.GetDeleted(), err) {
			return
		}
	}
}

// hear tells what came and reports whether it was the end.
func (r *registryRole) hear(name string, gone bool, err error) (end bool) {
	e := Event{What: Heard, Name: name, Type: Found}
	if gone {
		e.Type = Gone
	}
	r.out.tell(e.with(nil, err))
	return err != nil
}
