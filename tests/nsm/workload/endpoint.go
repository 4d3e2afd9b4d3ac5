package workload

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	kernelmech "github.com/networkservicemesh/api/pkg/api/networkservice/mechanisms/kernel"
	"github.com/networkservicemesh/api/pkg/api/registry"
	"github.com/networkservicemesh/sdk/pkg/networkservice/chains/endpoint"
	"github.com/networkservicemesh/sdk/pkg/networkservice/common/mechanisms"
	"github.com/networkservicemesh/sdk/pkg/networkservice/common/mechanisms/kernel"
	"github.com/networkservicemesh/sdk/pkg/networkservice/common/mechanisms/recvfd"
	"github.com/networkservicemesh/sdk/pkg/networkservice/common/mechanisms/sendfd"
	"github.com/networkservicemesh/sdk/pkg/networkservice/ipam/groupipam"
	registryclient "github.com/networkservicemesh/sdk/pkg/registry/chains/client"
	registrysendfd "github.com/networkservicemesh/sdk/pkg/registry/common/sendfd"
	"github.com/networkservicemesh/sdk/pkg/tools/grpcutils"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// endpointRole is NSM's endpoint as cmd-nse-icmp-responder puts it together.
type endpointRole struct {
	config     Config
	url        string
	byPath     registry.NetworkServiceEndpointRegistryClient
	passed     registry.NetworkServiceEndpointRegistryClient
	used       registry.NetworkServiceEndpointRegistryClient
	registered *registry.NetworkServiceEndpoint
}

func newEndpoint(ctx context.Context, config Config, out *output) (*endpointRole, error) {
	agent, err := url.Parse(config.Agent)
	if err != nil {
		return nil, err
	}
	e := &endpointRole{config: config, url: (&url.URL{Scheme: "unix", Path: config.Socket}).String()}
	if err := e.serve(ctx, out); err != nil {
		return nil, err
	}
	options := []registryclient.Option{registryclient.WithClientURL(agent), registryclient.WithDialOptions(dialOptions(config.Lifetime)...)}
	e.byPath = registryclient.NewNetworkServiceEndpointRegistryClient(ctx, options...)
	e.passed = registryclient.NewNetworkServiceEndpointRegistryClient(ctx, append(options,
		registryclient.WithNSEAdditionalFunctionality(registrysendfd.NewNetworkServiceEndpointRegistryClient()))...)
	return e, nil
}

// serve listens on the endpoint's socket.
func (e *endpointRole) serve(ctx context.Context, out *output) error {
	var groups [][]*net.IPNet
	for _, p := range e.config.Prefixes {
		_, prefix, err := net.ParseCIDR(p)
		if err != nil {
			return err
		}
		groups = append(groups, []*net.IPNet{prefix})
	}
	nse := endpoint.NewServer(ctx, tokens(e.config.Lifetime),
		endpoint.WithName(e.config.Name),
		endpoint.WithAdditionalFunctionality(
			&serverWitness{out},
			recvfd.NewServer(),
			groupipam.NewServer(groups), // point2pointipam for each prefix
			mechanisms.NewServer(map[string]networkservice.NetworkServiceServer{
				kernelmech.MECHANISM: kernel.NewServer(),
			}),
			sendfd.NewServer(),
		),
	)
	server := grpc.NewServer(grpc.Creds(transport()))
	nse.Register(server)
	failed := grpcutils.ListenAndServe(ctx, &url.URL{Scheme: "unix", Path: e.config.Socket}, server)
	select {
	case err := <-failed:
		return err
	default: // it listens
		return nil
	}
}

func (e *endpointRole) do(ctx context.Context, cmd Command) (*networkservice.Connection, error) {
	switch cmd.Do {
	case Register:
		return nil, e.register(ctx, cmd)
	case Unregister:
		_, err := e.used.Unregister(ctx, e.registered)
		return nil, err
	}
	return nil, fmt.Errorf("an endpoint cannot %q", cmd.Do)
}

func (e *endpointRole) register(ctx context.Context, cmd Command) error {
	e.used = e.byPath
	if cmd.Passed {
		e.used = e.passed
	}
	in := &registry.NetworkServiceEndpoint{Name: e.config.Name, NetworkServiceNames: e.config.Services, Url: e.url}
	if cmd.Expires != 0 {
		in.ExpirationTime = timestamppb.New(time.Now().Add(cmd.Expires))
	}
	out, err := e.used.Register(ctx, in)
	if err != nil {
		return err
	}
	if out.Name != e.config.Name || out.Url != e.url || time.Until(out.ExpirationTime.AsTime()) <= 0 {
		return fmt.Errorf("registered as %v, want the name %q, the url %s and an expiry in the future", out, e.config.Name, e.url)
	}
	e.registered = out
	return nil
}
