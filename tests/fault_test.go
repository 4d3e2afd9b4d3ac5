package tests

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.patchbay.dev/plugins/fdpass"
	"go.patchbay.dev/tests/lab"
)

// refused sends a request that must fail with a code and a text that says what is wrong,
// and checks that nothing is left of it.
func refused(t *testing.T, s *setup, in *networkservice.NetworkServiceRequest, code codes.Code, says ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err := s.client.Pass(ctx, in, s.ns)
	for _, text := range says {
		if !strings.Contains(fmt.Sprint(err), text) {
			t.Errorf("the error does not say %q: %v", text, err)
		}
	}
	if status.Code(err) != code {
		t.Errorf("the error's code is %v, want %v: %v", status.Code(err), code, err)
	}
	if left := s.ns.Interfaces(t); len(left) > 0 {
		t.Errorf("left over in the client's namespace: %v", left)
	}
	if left := strings.TrimSpace(s.agent.Etcdctl("get", "--prefix", "--keys-only", "/patchbay/v1/nodes/")); left != "" {
		t.Errorf("left over in etcd: %s", left)
	}
}

func TestUnknownServiceNamesTheKnownOnes(t *testing.T) {
	s := newSetup(t)
	refused(t, s, lab.NewRequest(t, "c1", "nope", s.ns, "nsm0"), codes.NotFound, `"nope" is not known`, "fw")
}

func TestServiceWithoutEndpoint(t *testing.T) {
	s := newSetup(t)
	s.agent.Etcdctl("put", "/patchbay/v1/services/empty", `{"name":"empty"}`)
	lab.Eventually(t, 5*time.Second, "the agent to know the service", func() error {
		out := s.agent.Patchbay("get", "services")
		if !strings.Contains(out, "empty") {
			return fmt.Errorf("services: %s", out)
		}
		return nil
	})
	refused(t, s, lab.NewRequest(t, "c1", "empty", s.ns, "nsm0"), codes.Unavailable, "no endpoint", "none is registered")
}

func TestEndpointThatRefusesPassesToTheNext(t *testing.T) {
	s := newSetup(t)
	s.endpoint.Intercept(func(context.Context, *networkservice.NetworkServiceRequest) (*networkservice.Connection, error) {
		return nil, status.Error(codes.ResourceExhausted, "I am full")
	})
	refused(t, s, lab.NewRequest(t, "c1", "fw", s.ns, "nsm0"), codes.ResourceExhausted, "fw-1", "I am full")
	second := lab.NewEndpoint(t, s.agent, "fw-2")
	second.Register(s.agent.Dial(), "fw")
	for i := range 4 { // whichever is asked first
		conn := s.client.Connect(fmt.Sprintf("c%d", i), "fw", s.ns, "nsm0")
		if conn.NetworkServiceEndpointName != "fw-2" {
			t.Errorf("served by %s", conn.NetworkServiceEndpointName)
		}
		s.client.Disconnect(conn)
	}
}

func TestEndpointThatHangsIsNamedWithinTheDeadline(t *testing.T) {
	s := newSetup(t)
	s.endpoint.Intercept(func(ctx context.Context, _ *networkservice.NetworkServiceRequest) (*networkservice.Connection, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	refused(t, s, lab.NewRequest(t, "c1", "fw", s.ns, "nsm0"), codes.DeadlineExceeded, "fw-1")
}

func TestEndpointThatDiesInTheMiddle(t *testing.T) {
	s := newSetup(t)
	s.endpoint.Intercept(func(ctx context.Context, _ *networkservice.NetworkServiceRequest) (*networkservice.Connection, error) {
		go s.endpoint.Kill()
		<-ctx.Done()
		return nil, ctx.Err()
	})
	refused(t, s, lab.NewRequest(t, "c1", "fw", s.ns, "nsm0"), codes.Unavailable, "fw-1")
}

func TestNoMechanismInCommonListsBothSidesAndWhy(t *testing.T) {
	s := newSetup(t)
	in := lab.NewRequest(t, "c1", "fw", s.ns, "nsm0")
	in.MechanismPreferences = []*networkservice.Mechanism{{Cls: "LOCAL", Type: "MEMIF"}, {Cls: "REMOTE", Type: "VXLAN"}}
	refused(t, s, in, codes.FailedPrecondition, "client", "MEMIF", "VXLAN", "endpoint", "KERNEL", "n1")
}

func TestEndpointThatAnswersWithWhatNobodyAskedFor(t *testing.T) {
	s := newSetup(t)
	s.endpoint.Intercept(func(ctx context.Context, in *networkservice.NetworkServiceRequest) (*networkservice.Connection, error) {
		out, err := s.endpoint.Answer(ctx, in)
		if err == nil {
			out.Mechanism.Type = "MEMIF"
		}
		return out, err
	})
	refused(t, s, lab.NewRequest(t, "c1", "fw", s.ns, "nsm0"), codes.FailedPrecondition, "MEMIF", "KERNEL")
}

func TestNamespacesThatAreRefused(t *testing.T) {
	s := newSetup(t)
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(s.ns.Path, link); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		url  string
		says string
	}{
		"absent":          {"file:///run/netns/not-there", "not-there"},
		"not a namespace": {"file://" + plain, "namespace"},
		"a symlink":       {"file://" + link, "symbolic link"},
		"the agent's own": {fmt.Sprintf("file:///proc/%d/ns/net", s.agent.Pid()), "agent's own"},
		"not a url":       {"what?", "inode://"},
		"never passed":    {"inode://4/1", "not passed"},
	} {
		t.Run(name, func(t *testing.T) {
			in := lab.NewRequest(t, "c1", "fw", s.ns, "nsm0")
			in.MechanismPreferences[0].Parameters["inodeURL"] = c.url
			refused(t, s, in, codes.InvalidArgument, "inodeURL", c.says)
		})
	}
	t.Run("the agent's own by descriptor", func(t *testing.T) {
		f, err := os.Open("/proc/self/ns/net")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		in := lab.NewRequest(t, "c1", "fw", s.ns, "nsm0")
		if in.MechanismPreferences[0].Parameters["inodeURL"], err = fdpass.URL(f); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if _, err := s.client.Request(ctx, in, fdpass.Send(f)); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "agent's own") {
			t.Errorf("answer %v", err)
		}
	})
	t.Run("a record's parameter over the wire", func(t *testing.T) {
		in := lab.NewRequest(t, "c1", "fw", s.ns, "nsm0")
		in.MechanismPreferences[0].Parameters["netns"] = s.ns.Path
		refused(t, s, in, codes.InvalidArgument, "netns")
	})
}

func TestInterfaceNamesThatAreRefused(t *testing.T) {
	s := newSetup(t)
	for _, name := range []string{"a/b", "sixteen-bytes-xx", "a b", "..", "lo"} {
		refused(t, s, lab.NewRequest(t, "c1", "fw", s.ns, name), codes.InvalidArgument, "name", name)
	}
	s.ns.Run(t, "ip", "link", "add", "nsm0", "type", "bridge")
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err := s.client.Pass(ctx, lab.NewRequest(t, "c1", "fw", s.ns, "nsm0"), s.ns)
	if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "nsm0") || !strings.Contains(err.Error(), "taken") {
		t.Errorf("a name that is taken: %v", err)
	}
	if out := s.ns.Run(t, "ip", "-d", "link", "show", "nsm0"); !strings.Contains(out, "bridge") {
		t.Errorf("the foreign interface was touched: %s", out)
	}
	if left := s.endpoint.Net.Interfaces(t); len(left) > 0 {
		t.Errorf("left over at the endpoint: %v", left)
	}
	// The other one's name is free again once it is gone.
	s.ns.Run(t, "ip", "link", "del", "nsm0")
	s.client.Connect("c1", "fw", s.ns, "nsm0")
}

func TestAddressesAndRoutesThatContradict(t *testing.T) {
	s := newSetup(t)
	for says, ip := range map[string]*networkservice.IPContext{
		`"10.0.0.1" is not an address with a prefix length`: {SrcIpAddrs: []string{"10.0.0.1"}},
		`is not a prefix`:          {SrcIpAddrs: []string{"10.0.0.1/24"}, SrcRoutes: []*networkservice.Route{{Prefix: "x"}}},
		`different families`:       {SrcIpAddrs: []string{"10.0.0.1/24"}, SrcRoutes: []*networkservice.Route{{Prefix: "10.1.0.0/16", NextHop: "fd00::1"}}},
		`this end's own address`:   {SrcIpAddrs: []string{"10.0.0.1/24"}, SrcRoutes: []*networkservice.Route{{Prefix: "10.1.0.0/16", NextHop: "10.0.0.1"}}},
		`is the client's too`:      {SrcIpAddrs: []string{"10.0.0.1/24"}, DstIpAddrs: []string{"10.0.0.1/24"}},
		`is on no prefix`:          {SrcIpAddrs: []string{"10.0.0.1/24"}, SrcRoutes: []*networkservice.Route{{Prefix: "10.1.0.0/16", NextHop: "10.7.0.1"}}},
		`one destination`:          {SrcIpAddrs: []string{"10.0.0.1/24"}, SrcRoutes: []*networkservice.Route{{Prefix: "10.1.0.0/16"}, {Prefix: "10.1.0.0/16", NextHop: "10.0.0.2"}}},
		`is not an Ethernet addre`: {SrcIpAddrs: []string{"10.0.0.1/24"}, IpNeighbors: []*networkservice.IpNeighbor{{Ip: "10.0.0.2", HardwareAddress: "zz"}}},
		`is not a port`:            {SrcIpAddrs: []string{"10.0.0.1/24"}, Policies: []*networkservice.PolicyRoute{{Proto: "6", DstPort: "9-1"}}},
	} {
		in := lab.NewRequest(t, "c1", "fw", s.ns, "nsm0")
		in.Connection.Context = &networkservice.ConnectionContext{IpContext: ip}
		refused(t, s, in, codes.InvalidArgument, says, "connection.context")
	}
}

func TestMessageOf10MB(t *testing.T) {
	s := newSetup(t)
	in := lab.NewRequest(t, "c1", "fw", s.ns, "nsm0")
	in.Connection.Labels = map[string]string{"big": strings.Repeat("x", 10<<20)}
	refused(t, s, in, codes.ResourceExhausted, "larger than max")
	s.client.Connect("c1", "fw", s.ns, "nsm0") // and the agent lives
}

func TestClientThatGoesAwayLeavesNothing(t *testing.T) {
	s := newSetup(t)
	asked := make(chan struct{})
	s.endpoint.Intercept(func(ctx context.Context, in *networkservice.NetworkServiceRequest) (*networkservice.Connection, error) {
		close(asked)
		<-ctx.Done() // the client's leaving must reach the endpoint, too
		return nil, ctx.Err()
	})
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-asked; cancel() }()
	if _, err := s.client.Pass(ctx, lab.NewRequest(t, "c1", "fw", s.ns, "nsm0"), s.ns); status.Code(err) != codes.Canceled {
		t.Fatalf("answer %v", err)
	}
	s.endpoint.Intercept(nil)
	// Many more that leave at some point of the way.
	for i := range 30 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i)*time.Millisecond/2)
		s.client.Pass(ctx, lab.NewRequest(t, "c1", "fw", s.ns, "nsm0"), s.ns)
		cancel()
	}
	// One that was answered just before its client left is closed by the client's next word.
	s.client.Disconnect(lab.NewRequest(t, "c1", "fw", s.ns, "nsm0").Connection)
	lab.Eventually(t, 10*time.Second, "everything to be undone", func() error {
		return none(append(s.ns.Interfaces(t), s.endpoint.Net.Interfaces(t)...))
	})
	if left := strings.TrimSpace(s.agent.Etcdctl("get", "--prefix", "--keys-only", "/patchbay/v1/nodes/")); left != "" {
		t.Errorf("left over in etcd: %s", left)
	}
	lab.Eventually(t, 10*time.Second, "the endpoint to forget", func() error {
		if n := s.endpoint.Live(); n > 0 {
			return fmt.Errorf("%d connections", n)
		}
		return nil
	})
}
