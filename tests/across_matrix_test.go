package tests

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"

	nodes "go.patchbay.dev/agent/lab"
	"go.patchbay.dev/tests/lab"
)

// remote is one kind of tunnel with one payload, and what it takes between the outer IP
// header and the payload's packets, in bytes.
type remote struct {
	mechanism, payload string
	overhead           int
}

var remotes = []remote{
	{"VXLAN", "ETHERNET", 8 + 8 + 14}, {"VXLAN", "IP", 8 + 8 + 14},
	{"GENEVE", "ETHERNET", 8 + 8 + 14}, {"GENEVE", "IP", 8 + 8 + 14},
	{"GRE", "ETHERNET", 4 + 4 + 14}, {"GRE", "IP", 4 + 4},
	{"IPIP", "IP", 0},
	{"WIREGUARD", "IP", 8 + 16 + 16},
}

// matrix is two nodes that negotiate everything in turn.
type matrix struct {
	*lab.Nodes
	near, far *lab.Node
	client    *lab.Client
	ns        *lab.Namespace
	endpoints map[string]*lab.Endpoint // by the mechanism that they take
	n         int
	using     string // what prefer has settled
}

func newMatrix(t *testing.T, vpp func(int) bool, mechanisms ...string) *matrix {
	t.Helper()
	l := lab.StartNodes(t, nodes.Options{Nodes: 2, VPP: vpp})
	m := &matrix{Nodes: l, near: l.List[0], far: l.List[1], ns: lab.NewNamespace(t), endpoints: map[string]*lab.Endpoint{}}
	m.client = lab.NewClient(t, m.near.Dial())
	cc := m.far.Dial()
	for i, name := range mechanisms {
		e := lab.NewEndpoint(t, m.far.Agent, "e-"+strings.ToLower(strings.ReplaceAll(name, "_", "-"))).From(1000 * i)
		if name != "KERNEL" {
			e.Accept(name)
		}
		e.Register(cc, service(name))
		m.endpoints[name] = e
	}
	return m
}

// service is the one whose endpoint takes a mechanism.
func service(mechanism string) string { return strings.ToLower(mechanism) }

// prefer has the nodes use one kind of tunnel where they can, over one family.
func (m *matrix) prefer(t *testing.T, mechanism string, family int) {
	t.Helper()
	using := mechanism + " over " + families[family]
	if m.using == using {
		return
	}
	m.using = using
	for _, n := range []*lab.Node{m.far, m.near} {
		n.Restart(map[string]string{
			"mechanisms.prefer": "[" + mechanism + "]",
			"node.address":      fmt.Sprintf("%q", n.Host.Tunnel[family]),
			"node.address6":     `""`,
		})
	}
}

// connect connects two workloads. An agent that was restarted is heard of a moment later.
func (m *matrix) connect(t *testing.T, client, endpoint, payload string) (id string, conn *networkservice.Connection) {
	t.Helper()
	m.n++
	id = fmt.Sprintf("m%d", m.n)
	lab.Eventually(t, 15*time.Second, "connection "+id, func() (err error) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if client == "KERNEL" {
			in := lab.NewRequest(t, id, service(endpoint), m.ns, "nsm0")
			in.Connection.Payload = payload
			conn, err = m.client.Pass(ctx, in, m.ns)
			return err
		}
		in := lab.MemifRequest(id, service(endpoint))
		in.Connection.Payload, in.MechanismPreferences[0].Type = payload, client
		conn, err = m.client.Request(ctx, in)
		return err
	})
	return id, conn
}

// bare are addresses without their prefix lengths, IPv4 first.
func bare(t *testing.T, cidrs []string) (out []string) {
	t.Helper()
	for _, c := range cidrs {
		p, err := netip.ParsePrefix(c)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p.Addr().String())
	}
	return out
}

// check makes one connection, sends packets through it, and takes it away.
func (m *matrix) check(t *testing.T, client, endpoint string, r remote, family int) {
	t.Helper()
	m.prefer(t, r.mechanism, family)
	id, conn := m.connect(t, client, endpoint, r.payload)
	defer m.disconnect(t, conn)
	ip := conn.Context.IpContext
	src, dst := bare(t, ip.SrcIpAddrs), bare(t, ip.DstIpAddrs)
	mtu := 1500 - []int{20, 40}[family] - r.overhead
	if got := int(conn.Context.MTU); got != mtu {
		t.Errorf("MTU %d, want %d", got, mtu)
	}
	for _, n := range []*lab.Node{m.near, m.far} {
		name := map[*lab.Node]string{m.near: id, m.far: farID(conn)}[n]
		if out := n.Patchbay("describe", "crossconnect", name); !strings.Contains(out, "\n  "+r.mechanism+": ") || !strings.Contains(out, "src_ip="+m.near.Host.Tunnel[family].String()) {
			t.Errorf("node %s has not decided for %s:\n%s", n.Host.Name, r.mechanism, out)
		}
	}
	server := m.endpoints[endpoint]
	switch {
	case client == "KERNEL" && endpoint == "KERNEL":
		m.ns.Ping(t, dst[0])
		m.ns.Ping(t, dst[1])
		if got := mtuOf(t, m.ns, "nsm0"); got != mtu {
			t.Errorf("the interface's MTU is %d, want %d", got, mtu)
		}
		fullSize(t, m.ns, dst[0], mtu)
		fullSize(t, server.Net, src[1], mtu)
		manyBytes(t, m.ns, server.Net, dst[0])
	case client == "KERNEL":
		s := awaitSocket(t, m.far, farID(conn))
		m.workload(t, endpoint, r.payload, s.Endpoint.Parameters, ip.DstIpAddrs, ip.SrcIpAddrs)
		m.ns.Ping(t, dst[0])
		fullSize(t, m.ns, dst[0], mtu)
	default:
		m.workload(t, client, r.payload, conn.Mechanism.Parameters, ip.SrcIpAddrs, ip.DstIpAddrs)
		server.Net.Ping(t, src[0])
		fullSize(t, server.Net, src[0], mtu)
	}
}

// disconnect closes a connection and waits until the endpoint's node has nothing of it,
// either: some tunnels there can be of two nodes once only.
func (m *matrix) disconnect(t *testing.T, conn *networkservice.Connection) {
	t.Helper()
	m.client.Disconnect(conn)
	lab.Eventually(t, 10*time.Second, "the endpoint's node to be done", func() error {
		return none(strings.Fields(m.far.Etcdctl("get", "--prefix", "--keys-only", "/patchbay/v1/nodes/") +
			m.far.Etcdctl("get", "--prefix", "--keys-only", "/patchbay/v1/status/")))
	})
}

// awaitSocket waits until the endpoint's side of a record has its socket.
func awaitSocket(t *testing.T, n *lab.Node, id string) (s linkStatus) {
	t.Helper()
	lab.Eventually(t, 10*time.Second, "the endpoint's socket", func() (err error) {
		if s, err = statusAt(n, id); err == nil && s.Endpoint.Parameters["socketfile"] == "" {
			err = fmt.Errorf("status %+v", s)
		}
		return err
	})
	return s
}

// workload is one that answers pings at what an end with a socket has been given.
func (m *matrix) workload(t *testing.T, mechanism, payload string, parameters map[string]string, own, other []string) {
	t.Helper()
	socket := parameters["socketfile"]
	switch {
	case mechanism == "MEMIF" && payload == "IP":
		peerVPP(t, socket, own, other...)
	case mechanism == "MEMIF":
		lab.StartTestpmd(t, lab.MemifDevice(socket), "icmpecho")
	case payload == "IP":
		lab.StartTestpmd(t, lab.VirtioDevice(socket, "mac="+parameters["mac"]), "icmpecho")
	default:
		lab.StartTestpmd(t, lab.VirtioDevice(socket), "icmpecho")
	}
}

var families = []string{"IPv4", "IPv6"}

// Every mechanism of a workload with every tunnel, payload and family of the underlay
// between two nodes with VPP. Over IPv4 the mechanism is the endpoint's, over IPv6 the
// client's; the other end is an interface of the kernel, from which is pinged.
func TestMatrixBetweenTwoVPPs(t *testing.T) {
	t.Parallel()
	m := newMatrix(t, lab.AllVPP, "KERNEL", "MEMIF", "VHOST_USER")
	for family, name := range families {
		for _, r := range remotes {
			for _, local := range []string{"KERNEL", "MEMIF", "VHOST_USER"} {
				t.Run(strings.Join([]string{name, r.mechanism, r.payload, local}, "/"), func(t *testing.T) {
					client, endpoint := "KERNEL", local
					if family == 1 {
						client, endpoint = local, "KERNEL"
					}
					m.check(t, client, endpoint, r, family)
				})
			}
		}
	}
}

// offered skips a test of a tunnel that a node does not offer, as by its kernel.
func offered(t *testing.T, n *lab.Node, mechanism string) {
	t.Helper()
	if out := n.Patchbay("get", "agents", n.Host.Name); !strings.Contains(out, mechanism) {
		t.Skipf("needs %s of the kernel, which has no module for it", mechanism)
	}
}

// The same with the kernel's dataplane: a tunnel is itself the workload's interface.
func TestMatrixBetweenTwoKernels(t *testing.T) {
	t.Parallel()
	m := newMatrix(t, nil, "KERNEL")
	for family, name := range families {
		for _, r := range remotes {
			t.Run(strings.Join([]string{name, r.mechanism, r.payload}, "/"), func(t *testing.T) {
				offered(t, m.near, r.mechanism)
				m.check(t, "KERNEL", "KERNEL", r, family)
			})
		}
	}
}

// VPP at the client's end and the kernel at the endpoint's, and the other way round.
func TestMatrixBetweenVPPAndKernel(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"VPP", "kernel"} {
		t.Run("client on "+first, func(t *testing.T) {
			m := newMatrix(t, func(n int) bool { return (n == 1) == (first == "VPP") }, "KERNEL")
			for family, name := range families {
				for _, r := range remotes {
					t.Run(name+"/"+r.mechanism+"/"+r.payload, func(t *testing.T) {
						offered(t, m.near, r.mechanism)
						offered(t, m.far, r.mechanism)
						m.check(t, "KERNEL", "KERNEL", r, family)
					})
				}
			}
		})
	}
}
