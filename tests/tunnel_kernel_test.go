package tests

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/tests/lab"
	"go.patchbay.dev/tests/report"
	"go.patchbay.dev/vppapi/vpptest"
)

// vppAndKernel are a node with VPP and one with the kernel's dataplane only, linked by a veth
// pair, which carries 1500 bytes.
func vppAndKernel(t *testing.T) (a, b *tunnelNode) {
	t.Helper()
	own, far, n := wire(t)
	four, six := fmt.Sprintf("10.78.%d.", 100+n%100), fmt.Sprintf("fd78:%d::", 100+n%100)
	lab.Run(t, "ip", "addr", "add", four+"2/24", "dev", own)
	lab.Run(t, "ip", "addr", "add", six+"2/64", "dev", own, "nodad")
	noOffload(t, own) // VPP takes packets as they are on the wire
	addresses := [2]string{four + "1", six + "1"}
	a = tunnelNodeOn(t, vpptest.Start(t), addresses, onWire(far, addresses)...)
	b = &tunnelNode{Agent: lab.StartAgent(t, lab.With("node.address", four+"2")), addresses: [2]string{four + "2", six + "2"}}
	return a, b
}

// noOffload has the kernel finish what leaves an interface.
func noOffload(t *testing.T, name string) {
	t.Helper()
	namespaces, err := linux.New(linux.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer namespaces.Close()
	ns, err := namespaces.Open(linux.OwnRef)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if err := ns.NoOffload(name); err != nil {
		t.Fatal(err)
	}
}

// devices of the kernel, by the kind of tunnel and payload, over IPv4 and IPv6.
var devices = map[string][2]string{
	"VXLAN ETHERNET": {"vxlan", "vxlan"}, "VXLAN IP": {"vxlan", "vxlan"}, "GENEVE ETHERNET": {"geneve", "geneve"}, "GENEVE IP": {"geneve", "geneve"},
	"GRE ETHERNET": {"gretap", "ip6gretap"}, "GRE IP": {"gre", "ip6gre"}, "IPIP IP": {"sit", "ip6tnl"}, "WIREGUARD IP": {"wireguard", "wireguard"},
}

// needDevice skips a test of what this kernel has no devices for.
func needDevice(t *testing.T, c tunnelCase) {
	t.Helper()
	kind := devices[c.kind+" "+c.payload][c.family]
	out, err := exec.Command("ip", "link", "add", "name", "pbneeds", "address", "02:00:00:00", "type", kind).CombinedOutput()
	if err == nil {
		lab.Run(t, "ip", "link", "del", "pbneeds")
	}
	if strings.Contains(string(out), "Unknown device type") {
		report.Skip(t, "the kernel's "+kind, "its tunnels are devices of that kind")
	}
}

// A tunnel with VPP at one end and the kernel at the other, either of them the client's.
func TestTunnelsBetweenVPPAndTheKernel(t *testing.T) {
	a, b := vppAndKernel(t)
	for i, c := range tunnelCases() {
		t.Run(c.String(), func(t *testing.T) {
			needDevice(t, c)
			from, to := a, b
			if i%2 == 1 {
				from, to = b, a
			}
			client, endpoint := kernelEnd(t, "nsm0", "10.60.0.1/24", "fd60::1/64"), kernelEnd(t, "nsm0", "10.60.0.2/24", "fd60::2/64")
			c.connect(t, "c1", from, to, client, endpoint)
			carries(t, c, client, endpoint)
			disconnect(t, "c1", from, to)
		})
	}
}
