package lab

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"go.patchbay.dev/plugins/fdpass"
)

// Client is a workload that requests kernel interfaces over one gRPC connection.
type Client struct {
	networkservice.NetworkServiceClient
	Monitor networkservice.MonitorConnectionClient
	t       testing.TB
}

// NewClient makes a client of an agent.
func NewClient(t testing.TB, c *grpc.ClientConn) *Client {
	return &Client{networkservice.NewNetworkServiceClient(c), networkservice.NewMonitorConnectionClient(c), t}
}

// Kernel is a KERNEL mechanism for an interface in a namespace; the namespace's
// descriptor has to be passed along: see Request.
func Kernel(t testing.TB, ns *Namespace, name string) *networkservice.Mechanism {
	t.Helper()
	f := ns.Open(t)
	defer f.Close()
	url, err := fdpass.URL(f)
	if err != nil {
		t.Fatal(err)
	}
	return &networkservice.Mechanism{Cls: "LOCAL", Type: "KERNEL", Parameters: map[string]string{"inodeURL": url, "name": name}}
}

// Open opens the namespace as NSM's clients do.
func (n *Namespace) Open(t testing.TB) *os.File {
	t.Helper()
	f, err := os.Open(n.Path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// NewRequest asks for a service with an interface in a namespace.
func NewRequest(t testing.TB, id, service string, ns *Namespace, name string) *networkservice.NetworkServiceRequest {
	t.Helper()
	return &networkservice.NetworkServiceRequest{
		Connection: &networkservice.Connection{Id: id, NetworkService: service, Path: &networkservice.Path{
			PathSegments: []*networkservice.PathSegment{{Name: "client", Id: id, Expires: timestamppb.New(time.Now().Add(time.Hour))}}}},
		MechanismPreferences: []*networkservice.Mechanism{Kernel(t, ns, name)},
	}
}

// MemifRequest asks for a service over memif, on a socket in the file system.
func MemifRequest(id, service string) *networkservice.NetworkServiceRequest {
	return &networkservice.NetworkServiceRequest{
		Connection: &networkservice.Connection{Id: id, NetworkService: service, Path: &networkservice.Path{
			PathSegments: []*networkservice.PathSegment{{Name: "client", Id: id, Expires: timestamppb.New(time.Now().Add(time.Hour))}}}},
		MechanismPreferences: []*networkservice.Mechanism{{Cls: "LOCAL", Type: "MEMIF", Parameters: map[string]string{}}},
	}
}

// Pass requests with the namespace's descriptor passed along.
func (c *Client) Pass(ctx context.Context, in *networkservice.NetworkServiceRequest, ns *Namespace) (*networkservice.Connection, error) {
	f := ns.Open(c.t)
	defer f.Close()
	return c.Request(ctx, in, fdpass.Send(f))
}

// Connect requests a service and must get it.
func (c *Client) Connect(id, service string, ns *Namespace, name string) *networkservice.Connection {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	conn, err := c.Pass(ctx, NewRequest(c.t, id, service, ns, name), ns)
	if err != nil {
		c.t.Fatalf("request %s: %v", id, err)
	}
	return conn
}

// Disconnect closes a connection, which must succeed.
func (c *Client) Disconnect(conn *networkservice.Connection) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	if _, err := c.Close(ctx, conn); err != nil {
		c.t.Fatalf("close %s: %v", conn.Id, err)
	}
}
