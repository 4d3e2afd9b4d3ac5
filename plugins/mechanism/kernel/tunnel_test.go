package kernel

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/linux/nstest"
	"go.patchbay.dev/plugins/reconcile"
)

// story tells of VXLAN on the client's node, in a process in its namespace.
func story(t *testing.T, tell func(t *testing.T, x tunnelTest)) {
	t.Helper()
	var x tunnelTest
	switch nstest.Role(t, &x) {
	case "far":
		x.serve(t, x.vxlan)
	case "near":
		tell(t, x)
	default:
		x = newTunnelTest(t, false, models.Ethernet)
		nstest.Start(t, x.Underlay.Nodes[1], "far", x.at(1)).Ready()
		nstest.Start(t, x.Underlay.Nodes[0], "near", x.at(0)).End()
	}
}

// answers tells whether the other workload does.
func (x tunnelTest) answers() bool {
	_, err := nstest.Try(x.Work[0], "ping", "-c1", "-W1", "10.60.0.2")
	return err == nil
}

// node runs a command in the node's namespace.
func (x tunnelTest) node(t *testing.T, command string) {
	t.Helper()
	in(t, x.Underlay.Nodes[x.End], command)
}

func TestTunnelThatAWorkloadBreaksIsMended(t *testing.T) {
	story(t, func(t *testing.T, x tunnelTest) {
		n, _ := startTunnels(t, x.vxlan)
		n.want(x.record())
		mac := linux.Tag{ID: "c1", Side: linux.Client}.MAC().String()
		other := nstest.New(t)
		for _, damage := range []string{
			"ip link delete nsm0", "ip link set nsm0 down", "ip link set nsm0 mtu 1300", "ip link set nsm0 name eth9",
			"ip link set nsm0 address 02:00:00:00:00:01", "ip link set nsm0 alias nonsense",
			"ip link set nsm0 type vxlan id 7 remote 192.0.2.77", "ip link set nsm0 netns " + other,
		} {
			in(t, x.Work[0], damage)
			n.wait("the end of "+damage, func() bool {
				out, err := nstest.Try(x.Work[0], "ip", "-d", "link", "show", "nsm0")
				for _, part := range []string{"mtu 1450", mac, "patchbay:c1:client", "remote 192.0.2.2"} {
					if err != nil || !strings.Contains(out, part) {
						return false
					}
				}
				return x.answers()
			})
		}
		nothing(t, other)
		n.settle()
		n.is("c1", reconcile.Applied, "")
	})
}

func TestTunnelWhoseNamespaceGoesAndComesBack(t *testing.T) {
	story(t, func(t *testing.T, x tunnelTest) {
		n, _ := startTunnels(t, x.vxlan)
		n.want(x.record())
		for range 3 {
			nstest.Delete(t, x.Work[0])
			n.is("c1", reconcile.Pending, x.Work[0])
			nstest.At(t, x.Work[0])
			n.is("c1", reconcile.Applied, "")
			n.wait("an answer", x.answers)
		}
		nstest.Delete(t, x.Work[0])
		n.is("c1", reconcile.Pending, x.Work[0])
		n.remove("c1")
	})
}

// The end of a namespace that came as a descriptor is told by the kernel, by numbers of the
// agent's namespace, which itself has one as soon as there is a tunnel.
func TestTunnelOfAWorkloadThatEnds(t *testing.T) {
	story(t, func(t *testing.T, x tunnelTest) {
		n, _ := startTunnels(t, x.vxlan)
		n.want(x.record())
		for range 3 {
			pid, endIt := nstest.Process(t)
			fd, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
			check(t, err)
			ref, err := n.ns.FromDescriptor(fd, pid)
			check(t, errors.Join(err, fd.Close()))
			second := x.record()
			second.Id, second.Client.Mechanism.Parameters[NetNS], second.Endpoint.Mechanism.Parameters["vni"] = "c2", ref, "8"
			n.want(second)
			if s := n.m.Status(second, models.ClientSide); !s.LinkUp {
				t.Errorf("status %+v", s)
			}
			endIt()
			n.is("c2", reconcile.Pending, "waits for the network namespace")
			n.remove("c2")
		}
		n.wait("an answer", x.answers)
	})
}

func TestTunnelThatIsTaken(t *testing.T) {
	story(t, func(t *testing.T, x tunnelTest) {
		n, _ := startTunnels(t, x.vxlan)
		x.node(t, "ip link add foreign7 type vxlan id 7 remote 192.0.2.9 dstport 4789")
		n.apply(x.record())
		n.is("c1", reconcile.Failed, `VNI 7 at UDP port 4789 is that of interface "foreign7" in the agent's network namespace, which is not Patchbay's`)
		has(t, x.Underlay.Nodes[0], "ip link", "foreign7")
		in(t, x.Work[0], "ip link add nsm0 type veth peer name other")
		x.node(t, "ip link delete foreign7")
		n.is("c1", reconcile.Failed, "interface name is taken")
		in(t, x.Work[0], "ip link delete nsm0")
		n.is("c1", reconcile.Applied, "")
		n.wait("an answer", x.answers)

		second := x.record()
		second.Id, second.Client.Mechanism.Parameters["name"] = "c2", "nsm2"
		n.apply(second)
		n.is("c2", reconcile.Failed, `at the client of connection "c1"`)
		n.remove("c2")
		n.remove("c1")

		udp, err := net.ListenUDP("udp", &net.UDPAddr{Port: 4789})
		check(t, err)
		n.apply(x.record())
		n.is("c1", reconcile.Failed, "another program of this node has the tunnel's UDP port")
		nothing(t, x.Work[0])
		check(t, udp.Close())
		n.is("c1", reconcile.Applied, "")
		n.wait("an answer", x.answers)
	})
}

func TestTunnelsThatLookAlikeAreLeftAlone(t *testing.T) {
	story(t, func(t *testing.T, x tunnelTest) {
		first, stop := startTunnels(t, x.vxlan)
		first.want(x.record())
		stop()
		in(t, x.Work[0], "ip link add foreign8 type vxlan id 8 remote 192.0.2.2 dstport 4789")
		in(t, x.Work[0], "ip link set foreign8 alias patchbay:c1:client")
		x.node(t, "ip link add foreign9 type vxlan id 9 remote 192.0.2.2 dstport 4789")
		x.node(t, "ip link set foreign9 alias patchbay:c9:client")
		n, _ := startTunnels(t, x.vxlan)
		n.settle()
		has(t, x.Work[0], "ip link", "!nsm0")
		has(t, x.Work[0], "ip link", "foreign8")
		has(t, x.Underlay.Nodes[0], "ip link", "foreign9")
		n.want(x.record())
		n.remove("c1")
		has(t, x.Work[0], "ip link", "foreign8")
	})
}

func TestTunnelsChangeInPlaceOrAreMadeAnew(t *testing.T) {
	story(t, func(t *testing.T, x tunnelTest) {
		n, _ := startTunnels(t, x.vxlan)
		c := x.record()
		n.want(c)
		index := func() string { return strings.Fields(in(t, x.Work[0], "ip -o link show type vxlan"))[0] }
		was := index()
		other := nstest.New(t)
		for _, s := range []struct {
			what  string
			edit  func(c *models.CrossConnect)
			fresh bool
			text  string
		}{
			{"MTU", func(c *models.CrossConnect) { c.Mtu = 1300 }, false, "mtu 1300"},
			{"name", func(c *models.CrossConnect) { c.Client.Mechanism.Parameters["name"] = "eth7" }, false, "eth7"},
			{"MAC", func(c *models.CrossConnect) { c.Client.Mac = "02:00:00:00:00:09" }, false, "02:00:00:00:00:09"},
			{"VNI", func(c *models.CrossConnect) { c.Endpoint.Mechanism.Parameters["vni"] = "8" }, true, "vxlan id 8"},
			{"another end", func(c *models.CrossConnect) { c.Endpoint.Mechanism.Parameters["remote"] = "192.0.2.77" }, false, "remote 192.0.2.77"},
			{"this end again", func(c *models.CrossConnect) { delete(c.Endpoint.Mechanism.Parameters, "remote") }, false, "vxlan id 8"},
			{"and back", func(c *models.CrossConnect) { c.Endpoint.Mechanism.Parameters["vni"] = "7" }, true, "vxlan id 7"},
		} {
			c = proto.Clone(c).(*models.CrossConnect)
			s.edit(c)
			n.want(c)
			n.settle()
			has(t, x.Work[0], "ip -d link show type vxlan", s.text)
			now := index()
			if (now != was) != s.fresh {
				t.Errorf("%s: index %s after %s", s.what, now, was)
			}
			was = now
		}
		n.wait("an answer", x.answers)
		c = proto.Clone(c).(*models.CrossConnect)
		c.Client.Mechanism.Parameters["netns"] = other
		n.want(c)
		nothing(t, x.Work[0])
		in(t, other, "ping -c1 -w10 10.60.0.2")
		n.remove("c1")
		nothing(t, other)
	})
}

func TestTunnelInPlaceOfAPairAndBack(t *testing.T) {
	story(t, func(t *testing.T, x tunnelTest) {
		n, _ := startTunnels(t, x.vxlan)
		here := cross("c1", x.record().Client, end(nstest.New(t), "nsm0", "10.60.0.2/24"))
		here.Payload = models.Ethernet
		for range 3 {
			n.want(here)
			n.settle()
			in(t, x.Work[0], "ping -c1 -w5 10.60.0.2")
			has(t, here.Endpoint.Mechanism.Parameters[NetNS], "ip link", "nsm0")
			n.want(x.record())
			n.settle()
			in(t, x.Work[0], "ping -c1 -w5 10.60.0.2")
			nothing(t, here.Endpoint.Mechanism.Parameters[NetNS])
		}
		n.remove("c1")
		nothing(t, x.Work[0])
	})
}

func TestTunnelThatADeadAgentBegan(t *testing.T) {
	story(t, func(t *testing.T, x tunnelTest) {
		begin := func() {
			ns, err := linux.New(options(t))
			check(t, err)
			defer func() { check(t, ns.Close()) }()
			work, err := ns.Open(x.Work[0])
			check(t, err)
			_, err = work.NSID()
			check(t, err)
			defer func() { check(t, work.Close()) }()
			tag := linux.Tag{ID: "c1", Side: linux.Client}
			check(t, ns.CreateDevice(linux.End{NS: work, Name: New(ns, nil).passing(tag), MAC: tag.MAC(), MTU: 1450}, x.vxlan(x.record()).(linux.Device)))
		}
		begin()
		n, stop := startTunnels(t, x.vxlan)
		n.settle()
		nothing(t, x.Work[0])
		stop()
		begin()
		n, _ = startTunnels(t, x.vxlan, x.record())
		n.is("c1", reconcile.Applied, "")
		n.wait("an answer", x.answers)
		has(t, x.Work[0], "ip link", "!pbt")
		n.remove("c1")
		nothing(t, x.Work[0])
	})
}

// An agent is killed while tunnels come and go; the next finds all that is left.
func TestTunnelsOfAnAgentThatIsKilled(t *testing.T) {
	var x tunnelTest
	device := func(c *models.CrossConnect) models.Device { return x.vxlan(c) }
	record := func(i int) *models.CrossConnect {
		c := x.record()
		c.Id, c.Endpoint.Mechanism.Parameters["vni"] = fmt.Sprint("c", i), fmt.Sprint(7+i)
		c.Client.Mechanism.Parameters["name"] = fmt.Sprint("nsm", i)
		c.Client.Addresses = []string{fmt.Sprintf("10.60.%d.1/24", i)}
		return c
	}
	switch nstest.Role(t, &x) {
	case "doomed":
		n, _ := startTunnels(t, device)
		go func() {
			nstest.Hold()
			os.Exit(1) // the test has ended without it
		}()
		for round := 0; ; round++ {
			for i := range 4 {
				if c := record(i); rand.IntN(2) == 0 {
					n.apply(c)
				} else {
					n.e.Apply(reconcile.Change{Group: c.Id})
				}
			}
			time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond)
		}
	case "heir":
		wanted := record(1)
		n, _ := startTunnels(t, device, wanted)
		n.is(wanted.Id, reconcile.Applied, "")
		n.settle()
		if out := strings.Fields(in(t, x.Work[0], "ip -o link show type vxlan")); len(out) == 0 || strings.Count(strings.Join(out, " "), "vxlan") > 1 || !strings.HasPrefix(out[1], "nsm1") {
			t.Errorf("there is %v", out)
		}
		n.untouched("a look", func() {
			check(t, n.e.Resync(t.Context()))
			n.settle()
		})
	default:
		x = newTunnelTest(t, false, models.Ethernet)
		for range 10 {
			doomed := nstest.Start(t, x.Underlay.Nodes[0], "doomed", x)
			doomed.Ready()
			time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond) // whatever it is doing then
			doomed.Kill()
			nstest.Start(t, x.Underlay.Nodes[0], "heir", x).End()
			left := in(t, x.Work[0], "ip -o link")
			if strings.Count(left, "nsm") != 1 || strings.Contains(left, "pbt") {
				t.Errorf("left over: %s", left)
			}
		}
	}
}
