package linux

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.patchbay.dev/plugins/linux/nstest"
)

// Two nodes have a bridge each and a tunnel between them: what a workload on one sends, that
// on the other receives. What was made is found as it was wanted, changed in place, and goes.
func TestBridgesOfTwoNodes(t *testing.T) {
	var x tunnelTest
	switch nstest.Role(t, &x) {
	case "make":
		x.makeBridge(t)
		return
	case "change":
		x.changeBridge(t)
		return
	}
	nstest.NeedDevices(t, kindBridge, newNamespaces(t).Supports(kindBridge))
	nstest.NeedDevices(t, kindVXLAN, newNamespaces(t).Supports(kindVXLAN))
	for _, ipv6 := range []bool{false, true} {
		u := nstest.NewUnderlay(t, ipv6)
		var ends [2]tunnelTest
		for i := range ends {
			ends[i] = tunnelTest{End: i, Underlay: u, Workload: nstest.New(t), Instance: instance(t)}
			nstest.Start(t, u.Nodes[i], "make", ends[i]).End()
		}
		nstest.Run(t, ends[0].Workload, "ping", "-c", "1", "-w", "10", "-M", "do", "-s", "1350", "10.60.0.2")
		nstest.Start(t, u.Nodes[0], "change", ends[0]).End()
	}
}

const bridgeName, meshName, outerName = "pbbridge0", "pbmesh0", "outer0"

func (x tunnelTest) bridge() Bridge {
	return Bridge{Name: bridgeName, Alias: "patchbay:lan:bridge", MAC: MAC{2, 0, 0, 0, 9, 9}, MTU: 1430, Age: 5 * time.Minute}
}

func (x tunnelTest) addresses() (local, peer netip.Addr) {
	return netip.MustParseAddr(x.Underlay.Addresses[x.End]), netip.MustParseAddr(x.Underlay.Addresses[1-x.End])
}

func (x tunnelTest) open(t *testing.T) *Namespaces {
	n, err := New(Options{Instance: x.Instance})
	check(t, err)
	t.Cleanup(func() { check(t, n.Close()) })
	return n
}

var everything4 = BridgePort{Learn: true, Flood: true, UnknownUnicast: true}

func (x tunnelTest) makeBridge(t *testing.T) {
	n := x.open(t)
	var b Link
	for range 2 {
		var err error
		b, err = n.MakeBridge(x.bridge())
		check(t, err)
	}
	want := Link{Place: Place{Own, b.Index}, Name: bridgeName, Alias: x.bridge().Alias, MAC: x.bridge().MAC, MTU: 1430, Up: true, Ours: true, NoARP: true,
		Kind: kindBridge, Age: 5 * time.Minute}
	b.Running, b.group, b.Peer, b.PeerKnown, b.Counters = false, 0, Place{}, false, Counters{}
	if b != want {
		t.Errorf("%+v; want %+v", b, want)
	}
	guard := func(host string) {
		t.Helper()
		for setting, want := range map[string]string{"ipv6/conf/" + bridgeName + "/accept_ra": "0", "ipv4/conf/" + bridgeName + "/forwarding": host} {
			if got, err := os.ReadFile("/proc/sys/net/" + setting); err != nil || strings.TrimSpace(string(got)) != want {
				t.Errorf("%s is %s, %v; want %s", setting, got, err, want)
			}
		}
	}
	nstest.Run(t, "/proc/self/ns/net", "sysctl", "-qw", "net.ipv4.ip_forward=1")
	for host, want := range map[bool]string{true: "1", false: "0"} {
		other := x.bridge()
		other.Host = host
		_, err := n.MakeBridge(other)
		check(t, err)
		guard(want)
	}
	_, err := n.MakeBridge(x.bridge())
	check(t, err)
	local, peer := x.addresses()
	tunnel := VXLAN{Local: local, VNI: 0x800001, Port: 4789, Learn: true, Age: 300}
	check(t, n.CreateMesh(b.Index, meshName, MAC{2, 0, 0, 0, 9, byte(x.End)}, 1430, tunnel))
	own := open(t, n, OwnRef)
	mesh, err := own.LinkByName(meshName)
	check(t, err)
	if mesh.Device != tunnel || mesh.Master != b.Index || !mesh.Mesh() || mesh.Up {
		t.Errorf("the tunnel: %+v", mesh)
	}
	_, err = own.SetLink(mesh.Index, Change{Alias: MeshAlias("lan"), MTU: 1430, Quiet: true})
	check(t, err)
	rival := tunnel
	rival.Remote = peer
	err = n.CreateDevice(End{own, "rival0", MAC{2, 0, 0, 0, 6, byte(x.End)}, 1400}, rival)
	if want := `the mesh of bridge "lan"; give one of the two another number`; !errors.Is(err, ErrTunnelTaken) || !strings.Contains(err.Error(), want) {
		t.Errorf("a tunnel of that number: %v, want %s", err, want)
	}
	mesh, err = n.SetBridgePort(mesh.Index, b.Index, everything4)
	check(t, err)
	for range 2 {
		check(t, n.AddPeer(mesh.Index, peer))
	}
	workload := open(t, n, x.Workload)
	_, err = workload.NSID()
	check(t, err)
	check(t, n.CreatePair(End{NS: workload, Name: "nsm0", MAC: MAC{2, 0, 0, 0, 8, byte(x.End)}, MTU: 1430}, End{NS: own, Name: outerName, MAC: MAC{2, 0, 0, 0, 7, byte(x.End)}, MTU: 1430}))
	outer, err := own.LinkByName(outerName)
	check(t, err)
	for _, p := range []BridgePort{{}, {Suppress: true, Learn: true}, {Flood: true}, everything4} {
		outer, err = n.SetBridgePort(outer.Index, b.Index, p)
		check(t, err)
		if outer.Port != p || outer.Master != b.Index || !outer.Up {
			t.Errorf("a port %+v; want %+v", outer, p)
		}
	}
	inner, err := workload.LinkByName("nsm0")
	check(t, err)
	_, err = workload.SetLink(inner.Index, Change{Up: true})
	check(t, err)
	check(t, workload.ConfigureNew(inner.Index, Config{Addresses: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 60, 0, byte(x.End + 1)}), 24)}}))
	ours, err := n.BridgeLinks()
	check(t, err)
	if len(ours) != 3 {
		t.Errorf("ours are %+v", ours)
	}
	links, err := n.Links(none)
	check(t, err)
	if slices.ContainsFunc(links, func(l Link) bool { return l.Bridge() || l.Mesh() }) {
		t.Errorf("among the workloads' interfaces: %+v", links)
	}
}

func (x tunnelTest) changeBridge(t *testing.T) {
	n := x.open(t)
	own := open(t, n, OwnRef)
	b, err := own.LinkByName(bridgeName)
	check(t, err)
	mesh, err := own.LinkByName(meshName)
	check(t, err)
	outer, err := own.LinkByName(outerName)
	check(t, err)
	_, peer := x.addresses()
	table, remotes, err := n.BridgeTables(b.Index)
	check(t, err)
	for _, want := range []BridgeMAC{{MAC: MAC{2, 0, 0, 0, 8, 0}, Port: outer.Index}, {MAC: MAC{2, 0, 0, 0, 8, 1}, Port: mesh.Index}, {MAC: b.MAC, Port: b.Index, Static: true, Local: true}} {
		if !slices.Contains(table, want) {
			t.Errorf("no %+v in %+v", want, table)
		}
	}
	for _, want := range []Remote{{Peer: peer}, {MAC: MAC{2, 0, 0, 0, 8, 1}, Peer: peer}} {
		if !slices.Contains(remotes[mesh.Index], want) {
			t.Errorf("no %+v in %+v", want, remotes)
		}
	}
	fixed := BridgeMAC{MAC: MAC{2, 0, 0, 0, 6, 6}, Port: outer.Index, Static: true}
	host := Neighbor{Address: netip.MustParseAddr("10.60.0.7"), MAC: fixed.MAC}
	for range 2 {
		check(t, n.SetMAC(outer.Index, fixed.MAC))
		check(t, n.SetBridgeNeighbor(b.Index, host))
	}
	if table, _, err = n.BridgeTables(b.Index); err != nil || !slices.Contains(table, fixed) {
		t.Errorf("no %+v in %+v, %v", fixed, table, err)
	}
	if hosts, err := n.BridgeNeighbors(b.Index); err != nil || !slices.Contains(hosts, host) {
		t.Errorf("hosts %+v, %v", hosts, err)
	}
	for range 2 {
		check(t, n.DeleteMAC(outer.Index, fixed.MAC))
		check(t, n.DeleteBridgeNeighbor(b.Index, host))
		check(t, n.DeletePeer(mesh.Index, peer))
		check(t, n.LeaveBridge(outer.Index))
	}
	if table, remotes, err = n.BridgeTables(b.Index); err != nil || slices.Contains(table, fixed) || len(remotes[mesh.Index]) != 0 {
		t.Errorf("left over: %+v, %+v, %v", table, remotes, err)
	}
	changed := x.bridge()
	changed.Age, changed.Host, changed.MTU = 0, true, 1400
	if b, err = n.MakeBridge(changed); err != nil || b.Age != 0 || b.NoARP || b.MTU != 1400 {
		t.Errorf("%+v, %v", b, err)
	}
	for _, l := range []Link{mesh, b, outer} {
		check(t, n.DeleteLink(l))
	}
	nstest.Run(t, "/proc/self/ns/net", "ip", "link", "add", bridgeName, "type", "bridge")
	if _, err := n.MakeBridge(x.bridge()); !errors.Is(err, ErrBridgeTaken) {
		t.Errorf("somebody else's: %v", err)
	}
	if err := errors.Join(n.LeaveBridge(b.Index), n.DeleteMAC(outer.Index, fixed.MAC), n.DeletePeer(mesh.Index, peer), n.DeleteBridgeNeighbor(b.Index, host)); err != nil {
		t.Errorf("of what is gone: %v", err)
	}
	if _, err := n.SetBridgePort(outer.Index, b.Index, BridgePort{}); !errors.Is(err, ErrNoLink) {
		t.Errorf("a port that is gone: %v", err)
	}
}
