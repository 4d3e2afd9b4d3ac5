package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/admin/adminpb"
)

func view(id string, state models.State) *adminpb.CrossConnectView {
	conn, _ := anypb.New(&networkservice.Connection{Id: id, NetworkServiceEndpointName: "fw-1"})
	return &adminpb.CrossConnectView{
		Desired: &models.CrossConnect{
			Id: id, NetworkService: "firewall", Payload: "ETHERNET",
			Client: &models.Attachment{
				Mechanism: &models.Mechanism{Type: "KERNEL", Parameters: map[string]string{"netns": "/run/netns/a", "name": "nsm0"}},
				Addresses: []string{"10.60.0.1/32"}, Routes: []*models.Route{{Prefix: "10.60.0.2/32"}, {Prefix: "10.61.0.0/16", NextHop: "10.60.0.2"}},
				Policies: []*models.Policy{{From: "10.60.0.1", Protocol: "tcp", DestinationPort: "80"}},
			},
			Endpoint: &models.Attachment{Mechanism: &models.Mechanism{Type: "KERNEL"}, Addresses: []string{"10.60.0.2/32"}},
			Request:  &models.Request{Connection: conn, Owner: "uid=0,netns=1", Expires: timestamppb.New(time.Now().Add(90*time.Second + 400*time.Millisecond))},
		},
		Status: &models.CrossConnectStatus{
			Id: id, State: state, Revision: 42,
			Client: &models.AttachmentStatus{Mechanism: "KERNEL", Interface: "nsm0", LinkUp: true,
				Parameters: map[string]string{"netns": "/run/netns/a", "mac": "02:00:00:00:00:01"}},
			Decision: []string{"KERNEL: both ends on node n1"},
		},
	}
}

func event(o any) *adminpb.ListEvent {
	switch k := o.(type) {
	case *adminpb.CrossConnectView:
		return &adminpb.ListEvent{Object: &adminpb.Object{Kind: &adminpb.Object_Crossconnect{Crossconnect: k}}}
	case *models.Service:
		return &adminpb.ListEvent{Object: &adminpb.Object{Kind: &adminpb.Object_Service{Service: k}}}
	case *models.Endpoint:
		return &adminpb.ListEvent{Object: &adminpb.Object{Kind: &adminpb.Object_Endpoint{Endpoint: k}}}
	case *models.Agent:
		return &adminpb.ListEvent{Object: &adminpb.Object{Kind: &adminpb.Object_Agent{Agent: k}}}
	case *adminpb.Device:
		return &adminpb.ListEvent{Object: &adminpb.Object{Kind: &adminpb.Object_Device{Device: k}}}
	}
	return &adminpb.ListEvent{Synced: true}
}

var synced = &adminpb.ListEvent{Synced: true}

func TestGet(t *testing.T) {
	up, pending := event(view("c1", models.State_UP)), event(view("c2", models.State_PENDING))
	gone := &adminpb.ListEvent{Deleted: true, Object: up.Object}
	service := event(&models.Service{Name: "firewall", Payload: "IP", Matches: []*models.Match{{
		SourceSelector: map[string]string{"b": "2", "a": "1"}, Routes: []*models.Destination{{DestinationSelector: map[string]string{"zone": "x"}}}}}})
	endpoint := event(&models.Endpoint{Name: "fw-1", Services: []string{"firewall"}, Node: "n1", Url: "unix:///run/fw.sock"})
	agent := event(&models.Agent{Node: "n1", Dataplane: "kernel", Version: "v1",
		Offers: []*models.Offer{{Type: "KERNEL"}, {Type: "MEMIF", Missing: "has no VPP"}}})
	device := event(&adminpb.Device{Id: "0000:3b:10.0", Pool: "example.com/radio", Pf: "ens1f0", Numa: proto.Uint32(1), Healthy: true, Connection: "c1"})
	sick := event(&adminpb.Device{Id: "0000:3b:10.1", Pool: "example.com/radio", Vf: 1, Reason: "it is gone"})
	for _, c := range []struct {
		args   string
		events []*adminpb.ListEvent
		want   string
	}{
		{"crossconnects", []*adminpb.ListEvent{up, pending, synced}, `ID   SERVICE    PAYLOAD    CLIENT   ENDPOINT   STATE     REASON
c1   firewall   ETHERNET   KERNEL   KERNEL     UP        -
c2   firewall   ETHERNET   KERNEL   KERNEL     PENDING   -
`},
		{"crossconnect -o wide", []*adminpb.ListEvent{up, synced}, `ID   SERVICE    PAYLOAD    CLIENT   ENDPOINT   STATE   REASON   CLIENT-INTERFACE   ENDPOINT-INTERFACE   CLIENT-ADDRESSES   ENDPOINT-ADDRESSES   REVISION
c1   firewall   ETHERNET   KERNEL   KERNEL     UP      -        nsm0               -                    10.60.0.1/32       10.60.0.2/32         42
`},
		{"connections", []*adminpb.ListEvent{up, synced}, `ID   SERVICE    ENDPOINT   MECHANISM   STATE   EXPIRES   REASON
c1   firewall   fw-1       KERNEL      UP      1m30s     -
`},
		{"services -o wide", []*adminpb.ListEvent{service, synced}, `NAME       PAYLOAD   MATCHES   SELECTORS
firewall   IP        1         a=1,b=2->zone=x
`},
		{"endpoints", []*adminpb.ListEvent{endpoint, synced}, `NAME   SERVICES   NODE   EXPIRES
fw-1   firewall   n1     -
`},
		{"agents -o wide", []*adminpb.ListEvent{agent, synced}, `NODE   DATAPLANE   MECHANISMS   VERSION   ADDRESSES   MTU   URL   MISSING
n1     kernel      KERNEL       v1        -           -     -     MEMIF has no VPP
`},
		{"devices", []*adminpb.ListEvent{device, sick, synced}, `ID             POOL                PF       VF   NUMA   STATE       CONNECTION   REASON
0000:3b:10.0   example.com/radio   ens1f0   0    1      USED        c1           -
0000:3b:10.1   example.com/radio   -        1    -      UNHEALTHY   -            it is gone
`},
		{"services", []*adminpb.ListEvent{synced}, "no services\n"},
		{"crossconnects -w", []*adminpb.ListEvent{synced, up, gone}, `ID   SERVICE   PAYLOAD   CLIENT   ENDPOINT   STATE   REASON
c1   firewall   ETHERNET   KERNEL   KERNEL   UP   -
c1   deleted
`},
		{"services -o json", []*adminpb.ListEvent{synced}, "[]\n"},
		{"endpoints -o json", []*adminpb.ListEvent{endpoint, synced}, `[
  {
    "name": "fw-1",
    "services": [
      "firewall"
    ],
    "url": "unix:///run/fw.sock",
    "node": "n1"
  }
]
`},
		{"endpoints fw-1 -o yaml", []*adminpb.ListEvent{endpoint, synced}, `---
name: fw-1
node: n1
services:
- firewall
url: unix:///run/fw.sock
`},
		{"endpoints -w -o json", []*adminpb.ListEvent{synced, endpoint, {Deleted: true, Object: endpoint.Object}}, `{
  "name": "fw-1",
  "services": [
    "firewall"
  ],
  "url": "unix:///run/fw.sock",
  "node": "n1"
}
{
  "deleted": true,
  "object": {
    "name": "fw-1",
    "services": [
      "firewall"
    ],
    "url": "unix:///run/fw.sock",
    "node": "n1"
  }
}
`},
	} {
		t.Run(c.args, func(t *testing.T) {
			f := &fakeAdmin{events: c.events}
			got := patchbay(t, "", append([]string{"--agent", f.start(t), "get"}, strings.Fields(c.args)...)...)
			if got.status != 0 || got.out != c.want || got.err != "" {
				t.Errorf("status %d, %s, output:\n%s\nwant:\n%s", got.status, got.err, got.out, c.want)
			}
		})
	}
}

func TestDescribe(t *testing.T) {
	c1 := view("c1", models.State_UP)
	c1.Desired.Endpoint.Mechanism = &models.Mechanism{Type: "MEMIF", Parameters: map[string]string{"secret": "s3cret", "socket": "fw0"}}
	f := &fakeAdmin{describe: &adminpb.DescribeResponse{
		Crossconnect: c1,
		Client:       &adminpb.Counters{ReceivePackets: 3, ReceiveBytes: 294, TransmitPackets: 4, TransmitBytes: 300, Drops: 1},
	}}
	got := patchbay(t, "", "--agent", f.start(t), "describe", "crossconnect", "c1")
	const want = `ID:             c1
Service:        firewall
Payload:        ETHERNET
State:          UP
Revision:       42
Request:
  Endpoint:     fw-1
  Expires in:   1m30s
  Owner:        uid=0,netns=1
Client:
  Mechanism:    KERNEL
  Namespace:    /run/netns/a
  Parameters:   name=nsm0
  Interface:    nsm0 (link up)
  Settled:      mac=02:00:00:00:00:01
  Addresses:    10.60.0.1/32
  Routes:       10.60.0.2/32, 10.61.0.0/16 via 10.60.0.2
  Policy:       from 10.60.0.1, protocol tcp, destination port 80, routes default
  Received:     3 packets, 294 bytes
  Sent:         4 packets, 300 bytes
  Dropped:      1
Endpoint:
  Mechanism:    MEMIF
  Parameters:   secret=(hidden),socket=fw0
  Addresses:    10.60.0.2/32
Decision:
  KERNEL: both ends on node n1
`
	if got.status != 0 || got.out != want {
		t.Errorf("status %d %s, output:\n%s\nwant:\n%s", got.status, got.err, got.out, want)
	}
	if got := patchbay(t, "", "--agent", f.start(t), "describe", "connection", "c1", "-o", "json"); !strings.Contains(got.out, `"receivePackets": "3"`) {
		t.Errorf("JSON: %+v", got)
	}
}

func TestDescribeDevice(t *testing.T) {
	f := &fakeAdmin{events: []*adminpb.ListEvent{event(&adminpb.Device{
		Id: "0000:3b:10.2", Pool: "example.com/radio", Pf: "ens1f0", Card: "0000:3b:00.0", Vf: 2, Numa: proto.Uint32(0), Group: proto.Uint32(71),
		Driver: "igbvf", Healthy: true, Connection: "c1", Side: "client", Given: timestamppb.New(time.Now().Add(-90 * time.Second)),
	}), {Synced: true}}}
	got := patchbay(t, "", "--agent", f.start(t), "describe", "device", "0000:3b:10.2")
	const want = `ID:             0000:3b:10.2
Pool:           example.com/radio
Card:           ens1f0 0000:3b:00.0, index 2
NUMA node:      0
IOMMU group:    71
Driver:         igbvf
State:          USED
Connection:     c1, the client
Given to a pod: 1m30s ago
`
	if got.status != 0 || got.out != want {
		t.Errorf("status %d %s, output:\n%s\nwant:\n%s", got.status, got.err, got.out, want)
	}
	if got := patchbay(t, "", "--agent", f.start(t), "describe", "device", "0000:3b:10.2", "-o", "json"); !strings.Contains(got.out, `"numa": 0`) {
		t.Errorf("JSON: %+v", got)
	}
	absent := &fakeAdmin{events: []*adminpb.ListEvent{{Synced: true}}}
	if got := patchbay(t, "", "--agent", absent.start(t), "describe", "device", "x"); got.status != 1 || !strings.Contains(got.err, "describe device x: device \"x\" is not there; list them with: patchbay get devices") {
		t.Errorf("one that is not there: %+v", got)
	}
}

func TestExplain(t *testing.T) {
	f := &fakeAdmin{explain: &adminpb.ExplainResponse{Client: "VXLAN", Endpoint: "VXLAN", Reasons: []string{"VXLAN: both ends speak it", "GRE: the client does not speak it"}}}
	got := patchbay(t, "", "--agent", f.start(t), "explain", "--client", "vxlan", "--endpoint", "VXLAN,GRE", "--payload", "ethernet")
	want := "Chosen: VXLAN at the client, VXLAN at the endpoint\nReasons:\n  VXLAN: both ends speak it\n  GRE: the client does not speak it\n"
	if got.status != 0 || got.out != want {
		t.Errorf("%+v", got)
	}
	in := f.request(0).(*adminpb.ExplainRequest)
	if fmt.Sprintf("%v %v %s", in.Client, in.Endpoint, in.Payload) != "[VXLAN] [VXLAN GRE] ETHERNET" {
		t.Errorf("asked %v", in)
	}
	f = &fakeAdmin{explain: &adminpb.ExplainResponse{Reasons: []string{"KERNEL: no"}, Candidates: []string{"fw-1", "fw-2"}}}
	got = patchbay(t, "", "--agent", f.start(t), "explain", "--service", "firewall", "--label", "app=web")
	if got.status != 1 || got.out != "Chosen: nothing\nEndpoints: fw-1, fw-2\nReasons:\n  KERNEL: no\n" || !strings.Contains(got.err, "nothing fits") {
		t.Errorf("%+v", got)
	}
}

func TestApply(t *testing.T) {
	const two = `
# a comment
kind: CrossConnect
id: c1
mtu: 1500
client: {mechanism: {type: KERNEL, parameters: {netns: a}}}
---
---
{"kind": "Service", "name": "firewall", "matches": [{"fallThrough": true}]}
`
	f := &fakeAdmin{}
	got := patchbay(t, two, "--agent", f.start(t), "apply", "-f", "-")
	if got.status != 0 || got.out != "crossconnect/c1 created\nservice/c1 created\n" {
		t.Errorf("%+v", got)
	}
	for i, want := range []struct{ kind, object string }{
		{"crossconnect", `{"client":{"mechanism":{"parameters":{"netns":"a"},"type":"KERNEL"}},"id":"c1","mtu":1500}`},
		{"service", `{"matches":[{"fallThrough":true}],"name":"firewall"}`},
	} {
		if in := f.request(i).(*adminpb.ApplyRequest); in.Kind != want.kind || string(in.Object) != want.object {
			t.Errorf("applied %s %s, want %v", in.Kind, in.Object, want)
		}
	}
	for _, c := range []struct{ name, in, want string }{
		{"nothing", "# only a comment\n", "it holds no object"},
		{"not YAML", "a: [", "object 1: "},
		{"the same field twice", "kind: Service\nname: a\nname: b", `: line 3: key "name" already set`},
		{"no object", "- a", "object 1: is no object"},
		{"no kind", "id: c1", "kind: is missing"},
		{"a kind that is a number", "kind: 1", "kind: is missing"},
		{"another kind", "kind: Pod", `kind: "Pod" is not known; use CrossConnect, Connection, Service or Bridge`},
		{"the second is wrong", "kind: Service\nname: a\n---\nkind: Pod", "object 2: kind"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &fakeAdmin{}
			got := patchbay(t, c.in, "--agent", f.start(t), "apply", "-f", "-")
			if got.status != 1 || !strings.Contains(got.err, c.want) || strings.Count(got.err, "\n") != 1 {
				t.Errorf("%+v, want %s on one line", got, c.want)
			}
			if in := f.request(0); in != nil {
				t.Errorf("applied %v", in)
			}
		})
	}
}

func TestDelete(t *testing.T) {
	f := &fakeAdmin{}
	got := patchbay(t, "", "--agent", f.start(t), "delete", "CrossConnects", "c1", "c2")
	if got.status != 0 || got.out != "crossconnect/c1 deleted\ncrossconnect/c2 deleted\n" {
		t.Errorf("%+v", got)
	}
	if in := f.request(1).(*adminpb.DeleteRequest); in.Kind != "crossconnect" || in.Name != "c2" {
		t.Errorf("asked %v", in)
	}
}

func TestVersion(t *testing.T) {
	got := patchbay(t, "", "--agent", (&fakeAdmin{}).start(t), "version")
	if got.status != 0 || !strings.HasPrefix(got.out, "patchbay ") || !strings.Contains(got.out, "\nagent    v1, node n1, dataplane kernel\n") {
		t.Errorf("%+v", got)
	}
	got = patchbay(t, "", "--agent", "unix:///does/not/exist", "version", "-o", "json")
	if got.status != 0 || !strings.Contains(got.out, `"version": `) || strings.Contains(got.out, "agent") {
		t.Errorf("without an agent: %+v", got)
	}
}

func TestWhatGoesWrongIsSaidOnOneLineAndByTheStatus(t *testing.T) {
	refusing := (&fakeAdmin{err: status.Error(codes.PermissionDenied, "only root\nmay ask")}).start(t)
	empty := (&fakeAdmin{events: []*adminpb.ListEvent{synced}}).start(t)
	away := (&fakeAdmin{err: status.Error(codes.Unavailable, `endpoint fw-1: "transport: Error while dialing: dial unix /fw.sock: connect: connection refused"`)}).start(t)
	const nobody = "unix:///does/not/exist"
	for _, c := range []struct {
		agent, args string
		status      int
		want        string
	}{
		{nobody, "frob", 2, `unknown command "frob" for "patchbay"; see: patchbay --help`},
		{nobody, "get", 2, "see: patchbay get --help"},
		{nobody, "get pods", 2, `kind "pods" is not possible here; use one of crossconnects, connections, services, endpoints, bridges, agents, devices`},
		{nobody, "get services -o xml", 2, "use one of table, wide, json, yaml"},
		{nobody, "get services --frob", 2, "unknown flag: --frob"},
		{refusing, "describe device x", 1, "describe device x: only root; may ask"},
		{nobody, "describe service x", 2, `kind "service" is not possible here; use one of crossconnect, connection, bridge, device`},
		{nobody, "delete bogus x", 2, `kind "bogus" is not possible here; use one of crossconnect, connection, service, endpoint, bridge`},
		{nobody, "delete s x", 2, `kind "s" is not possible here`},
		{nobody, "delete agent n1", 2, `kind "agent" is not possible here`},
		{nobody, "apply", 2, "no file is given"},
		{nobody, "apply -f /does/not/exist", 1, "apply: open /does/not/exist"},
		{nobody, "delete crossconnect", 2, "requires at least 2 arg"},
		{nobody, "connect", 2, "give one network service"},
		{nobody, "connect a b", 2, "a command only after --"},
		{nobody, "connect a --", 2, "no command follows --"},
		{nobody, "connect a --payload X25", 2, `payload "X25": use ETHERNET or IP`},
		{nobody, "connect a --label b", 2, `label "b": use key=value`},
		{nobody, "connect a --label b=1 --label b=2", 2, "give each key once"},
		{nobody, "connect a --mechanism KERNEL,", 2, "an entry is empty"},
		{nobody, "connect a --timeout 0s", 2, "use more than nothing"},
		{nobody, "connect a --netns /does/not/exist", 1, "network namespace /does/not/exist: open"},
		{nobody, "connect a --netns a:b", 2, `network namespace "a:b"`},
		{nobody, "connect a", 1, "connect a: no agent answers at unix:///does/not/exist (no such file or directory); start one with patchbay run"},
		{nobody, "serve a --cidr 10.0.0.0", 2, `cidr "10.0.0.0": use a prefix`},
		{nobody, "serve a --cidr 10.0.0.1/32", 2, "holds one address"},
		{nobody, "serve a --interface a%s", 2, `interface "a%s"`},
		{nobody, "serve a", 1, "serve a: no agent answers"},
		{nobody, "get services", 1, "get services: no agent answers"},
		{"tcp://127.0.0.1:1", "get services", 2, "use unix:///path"},
		{refusing, "get services", 1, "get services: only root; may ask"},
		{refusing, "describe crossconnect c1", 1, "describe crossconnect c1: only root; may ask"},
		{refusing, "delete crossconnect c1", 1, "delete crossconnect/c1: only root; may ask"},
		{refusing, "explain", 1, "explain: only root; may ask"},
		{refusing, "explain --service a --endpoint KERNEL", 2, "--service brings the endpoints"},
		{away, "explain", 1, `explain: endpoint fw-1: "transport: Error while dialing: dial unix /fw.sock`}, // the agent does answer
		{refusing, "version", 1, "version: only root; may ask"},
		{empty, "get services a", 1, `get services: service "a" is not there; list them with: patchbay get services`},
		{empty, "connect a", 1, "of a version that cannot do this"},
		{nobody, "run --log-level loud", 2, `log.level: "loud": use debug`},
		{nobody, "run --config /does/not/exist", 2, "configuration file"},
	} {
		t.Run(c.args, func(t *testing.T) {
			got := patchbay(t, "", append([]string{"--agent", c.agent}, strings.Fields(c.args)...)...)
			if got.status != c.status || !strings.Contains(got.err, c.want) || strings.Count(got.err, "\n") != 1 || !strings.HasPrefix(got.err, "patchbay: ") {
				t.Errorf("status %d and %q, want %d and one line with %q", got.status, got.err, c.status, c.want)
			}
			if got.out != "" {
				t.Errorf("output %q", got.out)
			}
		})
	}
}

func TestMessageKeepsWhatWasBeingDone(t *testing.T) {
	err := status.Error(codes.Unavailable, "etcd is unavailable")
	for err, want := range map[error]string{
		err: "etcd is unavailable",
		fmt.Errorf("register endpoint fw-1: %w", err): "register endpoint fw-1: etcd is unavailable",
		errors.New("no endpoint"):                     "no endpoint",
	} {
		if got := message(err); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestDemoRefusesWhatThereIsNot(t *testing.T) {
	for _, n := range []string{"0", "10", "two"} {
		t.Setenv("NODES", n)
		if got := patchbay(t, "", "demo"); got.status != 2 || !strings.Contains(got.err, "NODES="+n+": use 1 to 9") {
			t.Errorf("%+v", got)
		}
	}
	t.Setenv("NODES", "")
	t.Setenv("DATAPLANE", "ovs")
	if got := patchbay(t, "", "demo"); got.status != 2 || !strings.Contains(got.err, "DATAPLANE=ovs: there is kernel and vpp") {
		t.Errorf("%+v", got)
	}
}

func TestReferenceHasEveryCommandAndKey(t *testing.T) {
	got := patchbay(t, "", "reference", "commands")
	for _, c := range []string{"run", "connect", "serve", "apply", "delete", "get", "describe", "explain", "demo", "lab", "lab up", "lab down", "version"} {
		if !strings.Contains(got.out, "### patchbay "+c+"\n") {
			t.Errorf("no section for %s", c)
		}
	}
	if strings.Contains(got.out, "patchbay reference") {
		t.Error("a hidden command is in the manual")
	}
	if got := patchbay(t, "", "reference", "configuration"); !strings.Contains(got.out, "`etcd.data_dir`") {
		t.Errorf("%+v", got)
	}
}
