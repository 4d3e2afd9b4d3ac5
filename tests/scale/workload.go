package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"github.com/networkservicemesh/api/pkg/api/registry"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"go.patchbay.dev/plugins/fdpass"
)

// endpoint takes every connection to its service.
type endpoint struct {
	networkservice.UnimplementedNetworkServiceServer
	name string
	next atomic.Uint32
}

// newEndpoint serves an endpoint beside a node's agent and registers it.
func newEndpoint(ctx context.Context, n *node, service, dir string) error {
	e := &endpoint{name: service + "-at-" + n.name}
	socket := filepath.Join(dir, e.name+".sock")
	if _, err := os.Stat(socket); err != nil { // it is not served yet
		l, err := net.Listen("unix", socket)
		if err != nil {
			return err
		}
		server := grpc.NewServer(grpc.Creds(fdpass.Credentials()))
		networkservice.RegisterNetworkServiceServer(server, e)
		go server.Serve(l)
	}
	cc, err := n.dial()
	if err != nil {
		return err
	}
	defer cc.Close()
	_, err = registry.NewNetworkServiceEndpointRegistryClient(cc).Register(ctx, &registry.NetworkServiceEndpoint{
		Name: e.name, NetworkServiceNames: []string{service}, Url: "unix://" + socket, ExpirationTime: timestamppb.New(time.Now().Add(time.Hour)),
	})
	return err
}

// Request answers a connection.
func (e *endpoint) Request(_ context.Context, in *networkservice.NetworkServiceRequest) (*networkservice.Connection, error) {
	conn := in.Connection.Clone()
	if i := int(conn.Path.Index) + 1; i >= len(conn.Path.PathSegments) {
		conn.Path.PathSegments = append(conn.Path.PathSegments, &networkservice.PathSegment{Name: e.name, Id: "at-" + conn.Id})
	}
	conn.Path.PathSegments[conn.Path.Index+1].Expires = conn.Path.PathSegments[conn.Path.Index].Expires
	if conn.Mechanism == nil {
		conn.Mechanism = in.MechanismPreferences[0].Clone()
		conn.Mechanism.Parameters = map[string]string{"name": "e" + conn.Id[:8]}
	}
	n := e.next.Add(1)
	conn.Context = &networkservice.ConnectionContext{MTU: conn.GetContext().GetMTU(), IpContext: &networkservice.IPContext{
		SrcIpAddrs: []string{fmt.Sprintf("10.%d.%d.1/32", n>>8&0xff, n&0xff)},
		DstIpAddrs: []string{fmt.Sprintf("10.%d.%d.2/32", n>>8&0xff, n&0xff)},
	}}
	return conn, nil
}

// Close forgets nothing, as nothing is remembered.
func (e *endpoint) Close(context.Context, *networkservice.Connection) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}

// connect asks a node's agent for a service.
func connect(ctx context.Context, cc *grpc.ClientConn, id, service string) error {
	in := &networkservice.NetworkServiceRequest{
		Connection: &networkservice.Connection{Id: id, NetworkService: service, Payload: "ETHERNET", Path: &networkservice.Path{
			PathSegments: []*networkservice.PathSegment{{Name: "client", Id: id, Expires: timestamppb.New(time.Now().Add(time.Hour))}}}},
		MechanismPreferences: []*networkservice.Mechanism{{Cls: "LOCAL", Type: "KERNEL", Parameters: map[string]string{"name": "nsm0"}}},
	}
	_, err := networkservice.NewNetworkServiceClient(cc).Request(ctx, in, grpc.WaitForReady(true))
	return err
}
