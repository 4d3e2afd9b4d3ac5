package kernel

import (
	"crypto/ecdh"
	"crypto/rand"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/linux/nstest"
	"go.patchbay.dev/plugins/reconcile"
)

// tunnelled is the type of a mechanism that describes tunnels.
const tunnelled = "TUNNEL"

// A tunnelTest is what a copy of a test needs to know of its end of a tunnel.
type tunnelTest struct {
	End      int // 0 is the client's node, 1 the endpoint's
	Underlay nstest.Underlay
	Work     [2]string // namespaces of the workloads
	Payload  string
	Keys     [2][2][32]byte // WireGuard's, private and public
}

func newTunnelTest(t *testing.T, ipv6 bool, payload string) (x tunnelTest) {
	t.Helper()
	x = tunnelTest{Underlay: nstest.NewUnderlay(t, ipv6), Payload: payload}
	for i := range x.Work {
		k, err := ecdh.X25519().GenerateKey(rand.Reader)
		check(t, err)
		x.Work[i] = nstest.New(t)
		x.Keys[i] = [2][32]byte{[32]byte(k.Bytes()), [32]byte(k.PublicKey().Bytes())}
	}
	return x
}

// at is what the copy on that node needs to know.
func (x tunnelTest) at(end int) tunnelTest {
	x.End = end
	return x
}

func (x tunnelTest) addresses() (local, remote netip.Addr) {
	return adr(x.Underlay.Addresses[x.End]), adr(x.Underlay.Addresses[1-x.End])
}

// record is that of this node: the workload here, the tunnel to the other.
func (x tunnelTest) record() *models.CrossConnect {
	all := []*models.Attachment{
		end(x.Work[0], "nsm0", "10.60.0.1/24", "fd60::1/64"), end(x.Work[1], "nsm0", "10.60.0.2/24", "fd60::2/64"),
	}
	all[1-x.End].Mechanism = &models.Mechanism{Type: tunnelled, Parameters: map[string]string{"vni": "7"}}
	c := cross("c1", all[0], all[1])
	c.Payload = x.Payload
	return c
}

// vxlan describes this node's end, with the VNI of the record.
func (x tunnelTest) vxlan(c *models.CrossConnect) models.Device {
	local, remote := x.addresses()
	if r := c.Endpoint.Mechanism.Parameters["remote"]; r != "" {
		remote = adr(r)
	}
	d := linux.VXLAN{Local: local, Remote: remote, Port: 4789}
	fmt.Sscan(c.Client.Mechanism.Parameters["vni"]+c.Endpoint.Mechanism.Parameters["vni"], &d.VNI)
	if c.Payload == models.IP {
		d.MAC = linux.MAC(models.DerivedMAC(fmt.Sprint("vxlan", d.VNI, local)))
		d.PeerMAC = linux.MAC(models.DerivedMAC(fmt.Sprint("vxlan", d.VNI, remote)))
	}
	return d
}

// serve is the other node, until the test ends it.
func (x tunnelTest) serve(t *testing.T, device func(*models.CrossConnect) models.Device) {
	n, _ := startTunnels(t, device)
	n.want(x.record())
	nstest.Hold()
}

// carries sends full packets both ways.
func (x tunnelTest) carries(t *testing.T, mtu int) {
	t.Helper()
	for i, to := range []string{"10.60.0.2", "10.60.0.1", "fd60::2", "fd60::1"} {
		header := 28 + i/2*20
		in(t, x.Work[i%2], fmt.Sprintf("ping -c1 -w10 -M do -s %d %s", mtu-header, to))
	}
}

// kinds of tunnels, as other mechanisms describe them.
var kinds = map[string]func(x tunnelTest) linux.Device{
	"VXLAN": func(x tunnelTest) linux.Device { return x.vxlan(x.record()).(linux.Device) },
	"GENEVE": func(x tunnelTest) linux.Device {
		v := x.vxlan(x.record()).(linux.VXLAN)
		return linux.GENEVE{Local: v.Local, Remote: v.Remote, VNI: v.VNI, Port: v.Port, MAC: v.MAC, PeerMAC: v.PeerMAC}
	},
	"GRE": func(x tunnelTest) linux.Device {
		local, remote := x.addresses()
		return linux.GRE{Local: local, Remote: remote, Ethernet: x.Payload == models.Ethernet}
	},
	"IPIP": func(x tunnelTest) linux.Device {
		local, remote := x.addresses()
		return linux.IPIP{Local: local, Remote: remote}
	},
	"WIREGUARD": func(x tunnelTest) linux.Device {
		_, remote := x.addresses()
		return linux.WireGuard{PrivateKey: x.Keys[x.End][0], Port: 51820, PeerKey: x.Keys[1-x.End][1], Peer: netip.AddrPortFrom(remote, 51820)}
	},
}

func TestTwoWorkloadsOnTwoNodes(t *testing.T) {
	for name, kind := range kinds {
		for _, payload := range []string{models.Ethernet, models.IP} {
			for _, ipv6 := range []bool{false, true} {
				if payload == models.Ethernet && !kind(tunnelTest{Underlay: nstest.Underlay{Addresses: [2]string{"192.0.2.1", "192.0.2.2"}}, Payload: payload}).Frames() {
					continue
				}
				t.Run(fmt.Sprintf("%s, %s, IPv6 %v", name, payload, ipv6), func(t *testing.T) {
					var x tunnelTest
					device := func(*models.CrossConnect) models.Device { return kind(x) }
					switch nstest.Role(t, &x) {
					case "far":
						x.serve(t, device)
					case "near":
						x.comesStaysAndGoes(t, kind(x), device)
					default:
						x = newTunnelTest(t, ipv6, payload)
						d := kind(x)
						ns, err := linux.New(linux.Options{})
						check(t, err)
						missing := ns.Supports(d.DeviceKind())
						check(t, ns.Close())
						nstest.NeedDevices(t, d.DeviceKind(), missing)
						nstest.Start(t, x.Underlay.Nodes[1], "far", x.at(1)).Ready()
						nstest.Start(t, x.Underlay.Nodes[0], "near", x.at(0)).End()
					}
				})
			}
		}
	}
}

// comesStaysAndGoes is the whole life of a tunnel, whatever its kind.
func (x tunnelTest) comesStaysAndGoes(t *testing.T, d linux.Device, device func(*models.CrossConnect) models.Device) {
	first, stop := startTunnels(t, device)
	c := x.record()
	first.want(c)
	mtu := 1500 - d.Overhead()
	x.carries(t, mtu)
	if _, fixed := d.MACs(); fixed != (linux.MAC{}) {
		has(t, x.Work[0], "ip neighbour show 10.60.0.2", fixed.String()+" PERMANENT")
		has(t, x.Work[0], "ip neighbour show fd60::2", fixed.String()+" PERMANENT")
	}
	has(t, x.Work[0], "ip link show nsm0", fmt.Sprintf("mtu %d", mtu))
	has(t, x.Work[0], "ip link show nsm0", "alias patchbay:c1:client")
	if s := first.m.Status(c, models.ClientSide); s.Mechanism != Type || s.Interface != "nsm0" || !s.LinkUp {
		t.Errorf("status %+v", s)
	}
	if n, err := first.m.Counters(c, models.ClientSide); err != nil || n.RxPackets < 4 || n.TxBytes < uint64(4*mtu) {
		t.Errorf("counters %+v, %v", n, err)
	}
	first.untouched("applied again", func() { first.want(c) })
	stop()
	n, _ := startTunnels(t, device, c)
	n.is("c1", reconcile.Applied, "")
	if calls := n.ns.Mutations(); calls != 0 {
		t.Errorf("adopted with %d changing calls to the kernel, want none", calls)
	}
	x.carries(t, mtu)
	for _, damage := range []string{"ip link delete nsm0", "ip link set nsm0 down"} {
		in(t, x.Work[0], damage)
		n.wait("the end of "+damage, func() bool {
			_, err := nstest.Try(x.Work[0], "ping", "-c1", "-W1", "10.60.0.2")
			return err == nil
		})
	}
	n.remove("c1")
	nothing(t, x.Work[0])
	if out := in(t, x.Work[0], "ip -o link"); strings.Contains(out, "nsm0") || strings.Contains(out, "pbt") {
		t.Errorf("left over: %s", out)
	}
}
