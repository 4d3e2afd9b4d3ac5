package main

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/admin/adminpb"
)

func lan1() *adminpb.BridgeView {
	return &adminpb.BridgeView{
		Desired: &models.Bridge{Name: "lan1", Service: "lan", Subnets: []string{"10.60.0.0/24"}, Gateways: []string{"10.60.0.1/24"}, Flooding: proto.Bool(false), MemberLimit: 9,
			StaticMacs: []*models.StaticMAC{{Mac: "02:00:00:00:00:09", Connection: "c1"}}},
		Nodes: []*adminpb.BridgeOnNode{
			{Node: "n1", Addresses: []string{"192.0.2.1"}, Status: &models.BridgeStatus{State: models.State_UP, Members: 2, Peers: 1, Vni: 9000000, Mtu: 1450}},
			{Node: "n2", Status: &models.BridgeStatus{State: models.State_DOWN, Reason: "no address", Members: 1, Mtu: 1450}},
		},
	}
}

func TestGetBridges(t *testing.T) {
	e := &adminpb.ListEvent{Object: &adminpb.Object{Kind: &adminpb.Object_Bridge{Bridge: lan1()}}}
	f := &fakeAdmin{events: []*adminpb.ListEvent{e, {Synced: true}}}
	const want = `NAME   SERVICE   SUBNETS        NODES   MEMBERS   STATE   REASON           GATEWAYS       INTERCONNECT   VNI       MTU
lan1   lan       10.60.0.0/24   n1,n2   3         DOWN    n2: no address   10.60.0.1/24   mesh           9000000   1450
`
	if got := patchbay(t, "", "--agent", f.start(t), "get", "bridges", "-o", "wide"); got.status != 0 || got.out != want {
		t.Errorf("status %d %s, output:\n%s\nwant:\n%s", got.status, got.err, got.out, want)
	}
}

func TestDescribeBridge(t *testing.T) {
	member := &adminpb.BridgeMember{Member: &models.Member{Node: "n1", Connection: "c1", Mac: "02:00:00:00:00:01", Addresses: []string{"10.60.0.5/24"}},
		Status: &models.CrossConnectStatus{State: models.State_UP, Client: &models.AttachmentStatus{Interface: "pb1"}}}
	f := &fakeAdmin{bridge: &adminpb.DescribeBridgeResponse{
		Bridge: lan1(), Members: []*adminpb.BridgeMember{member}, Interface: "pbb1",
		Ports: []*adminpb.BridgePort{
			{Place: &adminpb.BridgePlace{Connection: "c1"}, Interface: "pb1", Up: true, Counters: &adminpb.Counters{ReceivePackets: 3, TransmitPackets: 4}},
			{Place: &adminpb.BridgePlace{Mesh: true}, Interface: "pbv1"},
		},
		Macs: []*adminpb.BridgeMAC{{Place: &adminpb.BridgePlace{Peer: "192.0.2.2"}, Mac: "02:00:00:00:00:02"}, {Place: &adminpb.BridgePlace{Gateway: true}, Mac: "02:00:00:00:00:03", Static: true}},
	}}
	const want = `Name:           lan1
Service:        lan
Subnets:        10.60.0.0/24
Gateways:       10.60.0.1/24
Options:        learning on, flooding off, unknown unicast on, ARP termination off, MAC age 5m0s, at most 9 members on a node
Interconnect:   mesh
Static MAC:     02:00:00:00:00:09 at c1
Nodes:
  NODE   STATE   MEMBERS   TUNNELS   VNI       MTU    ADDRESSES   REASON
  n1     UP      2         1         9000000   1450   192.0.2.1   -
  n2     DOWN    1         0         0         1450   -           no address
Members:
  NODE   CONNECTION   STATE   INTERFACE   MAC                 ADDRESSES      REASON
  n1     c1           UP      pb1         02:00:00:00:00:01   10.60.0.5/24   -
Named here:     pbb1
Ports here:
  TO            INTERFACE   LINK   RECEIVED   SENT   DROPPED
  member c1     pb1         up     3          4      0
  other nodes   pbv1        down   0          0      0
MAC table here:
  MAC                 AT                  KIND
  02:00:00:00:00:02   node at 192.0.2.2   learned
  02:00:00:00:00:03   gateway             static
`
	got := patchbay(t, "", "--agent", f.start(t), "describe", "bridge", "lan1")
	if got.status != 0 || got.out != want {
		t.Errorf("status %d %s, output:\n%s\nwant:\n%s", got.status, got.err, got.out, want)
	}
	f = &fakeAdmin{bridge: &adminpb.DescribeBridgeResponse{Missing: "there is no such bridge on this node"}}
	if got := patchbay(t, "", "--agent", f.start(t), "delete", "bridge", "lan1", "--force"); got.status != 0 || got.out != "bridge/lan1 deleted\n" || !f.request(0).(*adminpb.DeleteRequest).Force {
		t.Errorf("delete --force: %+v", got)
	}
}
