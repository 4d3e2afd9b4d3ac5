package main

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"github.com/networkservicemesh/api/pkg/api/registry"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"go.patchbay.dev/agent/cmd/patchbay/endpoint"
	"go.patchbay.dev/plugins/fdpass"
)

// anAgent answers connect: an endpoint speaks the same API as the agent. closed tells of
// connections that end.
func anAgent(t *testing.T) (url string, closed chan string) {
	t.Helper()
	netns, err := os.Open("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { netns.Close() })
	closed = make(chan string, 10)
	s, err := endpoint.New(endpoint.Options{
		Name: "fw-1", Service: "firewall", Netns: netns, Mechanisms: []string{"KERNEL"}, Interface: "nsm%d",
		Prefixes: []netip.Prefix{netip.MustParsePrefix("10.60.0.0/24"), netip.MustParsePrefix("fd60::/64")},
		Changed: func(e endpoint.Event) {
			if !e.Up {
				closed <- e.Reason
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	url = serveOn(t, s.Register)
	t.Cleanup(s.Stop)
	return url, closed
}

func TestConnectRunsACommandForAsLongAsTheConnectionLives(t *testing.T) {
	url, closed := anAgent(t)
	got := patchbay(t, "in", "--agent", url, "connect", "firewall", "--id", "c1", "--interface", "lan0", "--",
		"sh", "-c", "env | grep ^PATCHBAY_ | sort; cat; exit 7")
	const want = `PATCHBAY_ADDRESSES=10.60.0.1/32 fd60::1/128
PATCHBAY_ENDPOINT=fw-1
PATCHBAY_ID=c1
PATCHBAY_INTERFACE=nsm0
PATCHBAY_MECHANISM=KERNEL
PATCHBAY_PEER_ADDRESSES=10.60.0.2/32 fd60::2/128
PATCHBAY_SERVICE=firewall
in`
	if got.out != want || got.status != 7 {
		t.Errorf("status %d, output:\n%s\nwant 7 and:\n%s", got.status, got.out, want)
	}
	if !strings.HasPrefix(got.err, "connected c1: firewall by endpoint fw-1, KERNEL, interface nsm0, 10.60.0.1/32 fd60::1/128 to ") {
		t.Errorf("said %q", got.err)
	}
	select {
	case <-closed:
	default:
		t.Error("the connection is still there")
	}
}

func TestACommandsEndIsPassedOn(t *testing.T) {
	url, _ := anAgent(t)
	for _, c := range []struct {
		command []string
		status  int
		err     string
	}{
		{[]string{"true"}, 0, ""},
		{[]string{"sh", "-c", "kill -KILL $$"}, 128 + 9, ""},
		{[]string{"sh", "-c", "trap 'exit 5' TERM; kill -TERM $PPID; while :; do sleep 0.01; done"}, 5, ""},
		{[]string{"does-not-exist"}, 1, "command does-not-exist: "},
	} {
		got := patchbay(t, "", append([]string{"--agent", url, "connect", "firewall", "--"}, c.command...)...)
		if got.status != c.status || !strings.Contains(got.err, c.err) {
			t.Errorf("%v: %+v, want status %d", c.command, got, c.status)
		}
	}
}

// start runs a command line until it is interrupted; its output can be read meanwhile.
func start(t *testing.T, args ...string) (out *buffer, stop func() int) {
	t.Helper()
	in, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	out = newBuffer()
	ended := make(chan int, 1)
	go func() { ended <- execute(args, in, out, out) }()
	var status = -1
	stop = func() int {
		if status < 0 {
			if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			status = <-ended
			in.Close()
		}
		return status
	}
	return out, stop
}

func says(what string) func(string) bool {
	return func(s string) bool { return strings.Contains(s, what) }
}

func TestConnectStaysUntilItIsInterrupted(t *testing.T) {
	url, closed := anAgent(t)
	out, stop := start(t, "--agent", url, "connect", "firewall", "-o", "json")
	out.await(t, "the connection", says(`"networkServiceEndpointName": "fw-1"`))
	if status := stop(); status != 0 {
		t.Errorf("status %d: %s", status, out)
	}
	if why := <-closed; why != "closed" {
		t.Errorf("the connection was %s", why)
	}
}

// registries is the agent's side of serve.
type registries struct {
	registry.UnimplementedNetworkServiceEndpointRegistryServer
	endpoints chan *registry.NetworkServiceEndpoint
	gone      chan string
}

func (r *registries) Register(_ context.Context, in *registry.NetworkServiceEndpoint) (*registry.NetworkServiceEndpoint, error) {
	r.endpoints <- in
	return in, nil
}

func (r *registries) Unregister(_ context.Context, in *registry.NetworkServiceEndpoint) (*emptypb.Empty, error) {
	r.gone <- in.Name
	return &emptypb.Empty{}, nil
}

type services struct {
	registry.UnimplementedNetworkServiceRegistryServer
}

func (*services) Register(_ context.Context, in *registry.NetworkService) (*registry.NetworkService, error) {
	return in, nil
}

func (*services) Find(*registry.NetworkServiceQuery, registry.NetworkServiceRegistry_FindServer) error {
	return nil
}

func TestServeAcceptsConnectionsUntilItIsInterrupted(t *testing.T) {
	r := &registries{endpoints: make(chan *registry.NetworkServiceEndpoint, 10), gone: make(chan string, 10)}
	url := serveOn(t, func(g *grpc.Server) {
		registry.RegisterNetworkServiceEndpointRegistryServer(g, r)
		registry.RegisterNetworkServiceRegistryServer(g, &services{})
	})
	out, stop := start(t, "--agent", url, "serve", "firewall", "--cidr", "10.60.0.0/24", "--label", "zone=a", "--name", "fw-9")
	out.await(t, "the registration", says("serving firewall as endpoint fw-9\n"))
	e := <-r.endpoints
	if e.Name != "fw-9" || !slices.Equal(e.NetworkServiceNames, []string{"firewall"}) || e.NetworkServiceLabels["firewall"].Labels["zone"] != "a" {
		t.Errorf("registered as %v", e)
	}
	cc, err := grpc.NewClient(e.Url, grpc.WithTransportCredentials(fdpass.Credentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	conn, err := networkservice.NewNetworkServiceClient(cc).Request(t.Context(), &networkservice.NetworkServiceRequest{
		Connection: &networkservice.Connection{Id: "n", NetworkService: "firewall",
			Path: &networkservice.Path{PathSegments: []*networkservice.PathSegment{{Name: "node", Id: "n"}}}},
		MechanismPreferences: []*networkservice.Mechanism{{Type: "KERNEL"}},
	})
	if err != nil || conn.Context.IpContext.SrcIpAddrs[0] != "10.60.0.1/32" {
		t.Fatal(conn, err)
	}
	out.await(t, "word of the connection", says("accepted "))
	if status := stop(); status != 0 {
		t.Errorf("status %d: %s", status, out)
	}
	if name := <-r.gone; name != "fw-9" {
		t.Errorf("unregistered %s", name)
	}
	if _, err := os.Stat(strings.TrimPrefix(e.Url, "unix://")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its socket is still there: %v", err)
	}
}

func TestPrinterKeepsItsOutputWhole(t *testing.T) {
	// A table of nothing has no stray line; a cell that is empty shows as a dash.
	var b strings.Builder
	w := newTable(&b)
	row(w, "A", "", "C")
	if err := w.Flush(); err != nil || b.String() != "A   -   C\n" {
		t.Errorf("%q, %v", b.String(), err)
	}
	if err := printValue(io.Discard, asJSON, make(chan int)); err == nil {
		t.Error("what cannot be printed was")
	}
}
