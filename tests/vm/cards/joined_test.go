package cards

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.patchbay.dev/tests/lab"
	"go.patchbay.dev/vppapi/vpptest"
)

// memif is the interface of a workload that is a VPP itself.
const memif = "memif1/0"

// peer starts such a workload, at the other end of a memif.
func peer(t *testing.T, s side, address, mac string) *vpptest.VPP {
	t.Helper()
	v := vpptest.Start(t)
	for _, c := range []string{
		"create memif socket id 1 filename " + s.Parameters["socketfile"],
		"create interface memif id " + s.Parameters["id"] + " socket-id 1 slave hw-addr " + mac,
		"set interface state " + memif + " up",
		"set interface ip address " + memif + " " + address,
	} {
		v.CLI(c)
	}
	return v
}

// pings from a VPP, patiently.
func pings(t *testing.T, from *vpptest.VPP, to ...string) {
	t.Helper()
	for _, address := range to {
		lab.Eventually(t, 20*time.Second, address+" to answer", func() error {
			if out := from.CLI("ping " + address + " repeat 3 interval 0.2"); !strings.Contains(out, "3 received") {
				return fmt.Errorf("%s", out)
			}
			return nil
		})
	}
}

var counter = regexp.MustCompile(`([rt]x) packets +([0-9]+)`)

// counted is how many packets an interface of a VPP has received and sent.
func counted(t *testing.T, v *vpptest.VPP, name string) (rx, tx int) {
	t.Helper()
	for _, m := range counter.FindAllStringSubmatch(v.CLI("show interface "+name), -1) {
		n, err := strconv.Atoi(m[2])
		if err != nil {
			t.Fatal(err)
		}
		if m[1] == "rx" {
			rx = n
		} else {
			tx = n
		}
	}
	return rx, tx
}

func (p port) withMemif(t *testing.T) {
	const mac = "02:00:00:00:60:21"
	p.apply(t, "p2", by("MEMIF", mac, nil), function(vf(t, 0)))
	workload := peer(t, p.await(t, "p2", "DOWN").Client, "10.60.0.21/24", mac)
	s := p.await(t, "p2", "UP")
	pings(t, workload, "10.60.0.10", "10.60.0.100")
	reaches(t, p.wire, "10.60.0.21")
	lab.Eventually(t, 10*time.Second, "both ends to count the same", func() error {
		rx, tx := counted(t, workload, memif)
		in, out := counted(t, p.vpp, s.Client.Interface)
		received, sent := counted(t, p.vpp, s.Endpoint.Interface)
		// What the wire floods before the workload is there is received, too.
		if rx < 9 || tx < 9 || tx != in || tx != sent || rx != out || rx > received {
			return fmt.Errorf("the workload has sent %d, VPP received %d of it and sent %d to the wire; it received %d from there, sent %d, and the workload received %d", tx, in, sent, received, out, rx)
		}
		t.Logf("the workload has sent %d and received %d packets", tx, rx)
		return nil
	})
	p.restarts(t, "p2", func(t *testing.T) { pings(t, workload, "10.60.0.100") })
	p.Patchbay("delete", "crossconnect", "p2")
}

// The tunnel's addresses: VPP's, and that of the other node.
const near, remote = "10.77.0.1", "10.77.0.2"

// The other end of the tunnel is that of a node without an agent, whose kernel has it.
func (p port) withTunnel(t *testing.T) {
	const mac = "02:00:00:00:60:22"
	node, a := lab.NewNamespace(t), lab.NewNamespace(t)
	lab.Run(t, "ip", "link", "add", "under0", "type", "veth", "peer", "name", "under1", "netns", node.Name)
	lab.Run(t, "ip", "link", "set", "under0", "up")
	node.Run(t, "ip", "addr", "add", remote+"/24", "dev", "under1")
	node.Run(t, "ip", "link", "set", "under1", "up")
	node.Run(t, "ip", "link", "add", "nsm0", "mtu", "1450", "address", mac, "netns", a.Name,
		"type", "vxlan", "id", "7", "local", remote, "remote", near, "dstport", "4789")
	a.Run(t, "ip", "addr", "add", "10.60.0.22/24", "dev", "nsm0")
	a.Run(t, "ip", "link", "set", "nsm0", "up")
	for _, c := range []string{
		"create host-interface name under0",
		"set interface rx-mode host-under0 polling",
		"set interface state host-under0 up",
		"set interface ip address host-under0 " + near + "/24",
	} {
		p.vpp.CLI(c)
	}
	p.apply(t, "p3", by("VXLAN", mac, map[string]string{"src_ip": remote, "dst_ip": near, "vni": "7"}), function(vf(t, 0)))
	t.Logf("%+v", p.await(t, "p3", "UP"))
	reaches(t, a, "10.60.0.10", "10.60.0.100")
	reaches(t, p.wire, "10.60.0.22")
	a.Run(t, "ping", "-q", "-c", "1", "-w", "20", "-M", "do", "-s", "1422", "10.60.0.100") // 1450 with the headers
	p.Patchbay("delete", "crossconnect", "p3")
}

// lan is a bridge whose way out is the function of cross-connect up. It is told where its members' addresses are,
// for QEMU's card sends back to a function what it floods.
const lan = `{kind: Bridge, name: lan, interconnect: external, uplink: up,
 staticMacs: [{mac: "02:00:00:00:60:31", connection: p4}, {mac: "02:00:00:00:60:32", connection: p5}]}`

func (p port) withBridge(t *testing.T) {
	const macA, macB = "02:00:00:00:60:31", "02:00:00:00:60:32"
	file := filepath.Join(t.TempDir(), "bridge.yaml")
	if err := os.WriteFile(file, []byte(lan), 0o600); err != nil {
		t.Fatal(err)
	}
	p.Patchbay("apply", "-f", file)
	a, other, pci, bridge := lab.NewNamespace(t), lab.NewNamespace(t), vf(t, 5), by("BRIDGE", "", map[string]string{"bridge": "lan"})
	p.apply(t, "up", function(pci), bridge)
	p.apply(t, "p4", attached(a, "10.60.0.31/24", macA), bridge)
	p.apply(t, "p5", by("MEMIF", macB, nil), bridge)
	p.apply(t, "other", in(other, vf(t, 1), "10.60.0.2/24"), noop())
	b := peer(t, p.await(t, "p5", "DOWN").Client, "10.60.0.32/24", macB)
	all := []string{"up", "p4", "p5", "other"}
	for _, id := range all {
		p.await(t, id, "UP")
	}
	pings(t, b, "10.60.0.31")
	reaches(t, a, "10.60.0.32")
	apart(t, p.wire, "10.60.0.31", "10.60.0.32")

	// The driver of this card's functions cannot have them take all; it can have them take more addresses.
	name := field(p.home[pci], "interface ")
	for _, mac := range []string{macA, macB} {
		lab.Run(t, "bridge", "fdb", "add", mac, "dev", name)
	}
	pings(t, b, "10.60.0.2", "10.60.0.10", "10.60.0.100")
	reaches(t, a, "10.60.0.2", "10.60.0.10", "10.60.0.100")
	reaches(t, p.wire, "10.60.0.31", "10.60.0.32")
	reaches(t, other, "10.60.0.31", "10.60.0.32")
	t.Log(p.Patchbay("describe", "bridge", "lan"))
	for _, id := range all {
		p.Patchbay("delete", "crossconnect", id)
	}
	p.Patchbay("delete", "bridge", "lan")
	p.atHome(t)
	if left := lab.Run(t, "bridge", "fdb", "show", "dev", name); strings.Contains(left, macA) || strings.Contains(left, macB) {
		t.Errorf("the function is home, and takes more:\n%s", left)
	}
}
