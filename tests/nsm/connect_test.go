package nsm

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"

	"go.patchbay.dev/tests/nsm/workload"
)

func TestConnectionCarriesPacketsBothWays(t *testing.T) {
	for _, c := range []struct {
		name   string
		passed bool
	}{
		{"endpoint whose socket was passed as a descriptor", true},
		{"endpoint whose socket was named by its path", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			start(t)
			a := startAgent(t)
			e := a.endpoint("nse", 1, nil)
			e.do(workload.Command{Do: workload.Register, Passed: c.passed})
			n := newNetns(t)
			conn := a.client(n, nil).connect("nsc-0", "nsm-1")
			checkReply(t, conn, n)
			pingBoth(t, n, e.net, conn)
			if got := n.only().name; got != "nsm-1" {
				t.Errorf("the client's interface is called %q", got)
			}
		})
	}
}

// checkReply checks what NSM's clients rely on in a reply to the client "nsc" for the
// connection "nsc-0".
func checkReply(t *testing.T, conn *networkservice.Connection, n *netns) {
	t.Helper()
	path := conn.GetPath()
	if conn.Id != "nsc-0" || path.GetIndex() != 0 || len(path.GetPathSegments()) < 3 {
		t.Fatalf("not the caller's view of its connection: id %q, path %v", conn.Id, path)
	}
	for i, want := range []string{"nsc", node, "nse"} {
		if s := path.PathSegments[i]; s.Name != want || s.Id == "" || time.Until(s.Expires.AsTime()) <= 0 {
			t.Errorf("path segment %d is %v, want the name %q, an id and an expiry in the future", i, s, want)
		}
	}
	if path.PathSegments[0].Id != conn.Id {
		t.Errorf("the client's path segment has the id %q", path.PathSegments[0].Id)
	}
	// NSM's sendfd gives the url back that it replaced, if the reply has the one it sent.
	m := conn.GetMechanism()
	if m.GetType() != "KERNEL" || m.GetParameters()["name"] != "nsm-1" || m.GetParameters()["inodeURL"] != "file:///proc/thread-self/ns/net" {
		t.Errorf("mechanism %v", m)
	}
	if conn.NetworkServiceEndpointName != "nse" || conn.NetworkService != "fw" || conn.State != networkservice.State_UP {
		t.Errorf("network service %q, endpoint %q, state %v", conn.NetworkService, conn.NetworkServiceEndpointName, conn.State)
	}
}

// pingBoth pings every address of a connection from the other end.
func pingBoth(t *testing.T, client, endpoint *netns, conn *networkservice.Connection) {
	t.Helper()
	ip := conn.GetContext().GetIpContext()
	if len(ip.SrcIpAddrs) != 2 || len(ip.DstIpAddrs) != 2 {
		t.Fatalf("addresses %v and %v, want IPv4 and IPv6 each", ip.SrcIpAddrs, ip.DstIpAddrs)
	}
	for i := range ip.SrcIpAddrs {
		client.ping(bare(t, ip.DstIpAddrs[i]))
		endpoint.ping(bare(t, ip.SrcIpAddrs[i]))
	}
}

// bare gives an address without its prefix length.
func bare(t *testing.T, address string) string {
	t.Helper()
	p, err := netip.ParsePrefix(address)
	if err != nil {
		t.Fatal(err)
	}
	return p.Addr().String()
}

// first gives a connection's address on the side of the endpoint that begins with prefix.
func first(t *testing.T, conn *networkservice.Connection, prefix string) string {
	t.Helper()
	for _, address := range conn.GetContext().GetIpContext().GetDstIpAddrs() {
		if strings.HasPrefix(address, prefix) {
			return bare(t, address)
		}
	}
	t.Fatalf("no address in %s: %v", prefix, conn.GetContext().GetIpContext())
	return ""
}

func TestWireHoldsTheNamespaceThatWasPassed(t *testing.T) {
	start(t)
	a := startAgent(t)
	e := a.endpoint("nse", 1, nil).register()
	n := newNetns(t)
	w := a.client(n, nil)
	w.connect("nsc-0", "nsm-1")
	if got := w.await(workload.Answered, nil).Connection().GetMechanism().GetParameters()["inodeURL"]; got != n.inodeURL() {
		t.Errorf("the client's mechanism came back with inodeURL %q, it sent %q", got, n.inodeURL())
	}
	asked := e.await(workload.Answered, nil).Connection()
	if asked.GetPath().GetIndex() != 2 || asked.GetId() != asked.GetPath().GetPathSegments()[2].GetId() {
		t.Errorf("the endpoint sees itself at %d of the path %v", asked.GetPath().GetIndex(), asked.GetPath())
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	start(t)
	a := startAgent(t)
	e := a.endpoint("nse", 1, nil).register()
	n := newNetns(t)
	w := a.client(n, nil)
	conn := w.connect("nsc-0", "nsm-1")
	asked := e.await(workload.Answered, nil).Connection()
	if got := append(n.interfaces(), e.net.interfaces()...); len(got) != 2 {
		t.Fatalf("interfaces of both ends: %v", got)
	}

	w.do(workload.Command{Do: workload.Close, ID: conn.Id})
	if got := append(n.interfaces(), e.net.interfaces()...); len(got) != 0 {
		t.Errorf("left over after the close was answered: %v", got)
	}
	if closed := e.await(workload.Closed, nil); closed.Error != "" || closed.Connection().GetId() != asked.GetId() {
		t.Errorf("the endpoint was asked for %q and closed %v", asked.GetId(), closed)
	}

	// The same id again is a new connection.
	again := w.connect("nsc-0", "nsm-1")
	pingBoth(t, n, e.net, again)
}
