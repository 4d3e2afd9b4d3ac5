package negotiation

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.patchbay.dev/models"
)

// The offers of the nodes in these tests.
var offers = map[string]*models.Offer{
	"KERNEL":     {Type: "KERNEL", Class: Local, Payloads: []string{models.Ethernet, models.IP}, Direct: true, Joins: true},
	"MEMIF":      {Type: "MEMIF", Class: Local, Payloads: []string{models.Ethernet, models.IP}, SharedMemory: true, Direct: true, Joins: true},
	"VHOST_USER": {Type: "VHOST_USER", Class: Local, Payloads: []string{models.Ethernet}, SharedMemory: true, Joins: true},
	"VFIO":       {Type: "VFIO", Class: Local, Payloads: []string{models.Ethernet}, Joins: true},
	"VXLAN":      {Type: "VXLAN", Class: Remote, Payloads: []string{models.Ethernet}, Joins: true},
	"GRE":        {Type: "GRE", Class: Remote, Payloads: []string{models.Ethernet, models.IP}, Joins: true},
	"WIREGUARD":  {Type: "WIREGUARD", Class: Remote, Payloads: []string{models.IP}, Joins: true},
	"UNHEARD":    {Type: "UNHEARD", Joins: true},
}

// vpp is a node whose dataplane joins everything.
func vpp(name string, types ...string) *models.Agent {
	a := &models.Agent{Node: name, Dataplane: "vpp"}
	for _, t := range types {
		o := offers[t]
		a.Offers = append(a.Offers, &models.Offer{Type: o.Type, Dataplane: "vpp", Class: o.Class, Payloads: o.Payloads,
			SharedMemory: o.SharedMemory, Direct: o.Direct, Joins: o.Joins})
	}
	return a
}

// kernel is a node without VPP: it links two KERNEL ends and says what the rest lacks.
func kernel(name string) *models.Agent {
	return &models.Agent{Node: name, Dataplane: "kernel", Offers: []*models.Offer{
		{Type: "KERNEL", Dataplane: "kernel", Class: Local, Payloads: []string{models.Ethernet, models.IP}, Direct: true},
		{Type: "MEMIF", Dataplane: "vpp", Class: Local, SharedMemory: true, Joins: true, Missing: "has no VPP: nothing answers on /run/vpp/api.sock"},
	}}
}

func all(name string) *models.Agent {
	return vpp(name, "KERNEL", "MEMIF", "VHOST_USER", "VXLAN", "GRE", "WIREGUARD")
}

func list(s string) []string { return strings.Fields(s) }

// a case gives the two nodes, what the ends speak and the decision as "client [tunnel] endpoint".
var cases = []struct {
	name             string
	at, to           *models.Agent // to: nil for the same node
	client, endpoint string
	insists, chose   string
	tunnels, prefer  string
	payload          string
	direct           bool
	want             string
	reasons          []string
}{
	{
		name: "a client that only speaks VXLAN and a service with VXLAN and GRE get VXLAN",
		at:   all("n1"), client: "VXLAN", endpoint: "VXLAN GRE", want: "VXLAN VXLAN",
		reasons: []string{"VXLAN: both ends on node n1, dataplane vpp", "GRE: client does not ask for it"},
	}, {
		name: "the service's order does not change that",
		at:   all("n1"), client: "VXLAN", endpoint: "GRE VXLAN", want: "VXLAN VXLAN",
		reasons: []string{"VXLAN: both ends on node n1, dataplane vpp", "GRE: client does not ask for it"},
	}, {
		name: "both ends on one node speak shared memory and get it",
		at:   all("n1"), client: "MEMIF KERNEL", endpoint: "KERNEL MEMIF", want: "MEMIF MEMIF",
		reasons: []string{"MEMIF: both ends on node n1, dataplane vpp", "KERNEL: client prefers MEMIF"},
	}, {
		name: "two different kinds of shared memory on one node are shared memory too",
		at:   all("n1"), client: "MEMIF KERNEL", endpoint: "VHOST_USER KERNEL", want: "MEMIF VHOST_USER",
		reasons: []string{"MEMIF: client on node n1, dataplane vpp", "VHOST_USER: endpoint on node n1, dataplane vpp", "KERNEL: client prefers MEMIF"},
	}, {
		name: "one end does not speak shared memory, so something else is taken",
		at:   all("n1"), client: "MEMIF VHOST_USER KERNEL", endpoint: "KERNEL", want: "KERNEL KERNEL direct",
		reasons: []string{"KERNEL: both ends on node n1, linked directly", "MEMIF: endpoint does not offer it", "VHOST_USER: endpoint does not offer it"},
	}, {
		name: "the ends sit on two nodes, so something else is taken",
		at:   vpp("n1", "KERNEL", "MEMIF", "VXLAN"), to: vpp("n2", "KERNEL", "MEMIF", "VXLAN"),
		client: "MEMIF KERNEL", endpoint: "MEMIF KERNEL", want: "KERNEL VXLAN KERNEL",
		reasons: []string{"KERNEL: client on node n1, dataplane vpp; endpoint on node n2, dataplane vpp", "VXLAN: tunnel between node n1 and node n2",
			"MEMIF: no memory is shared between node n1 and node n2"},
	}, {
		name: "an end that speaks nothing but shared memory has it to its node, wherever the other end is",
		at:   vpp("n1", "MEMIF", "VXLAN"), to: vpp("n2", "KERNEL", "VXLAN"), client: "MEMIF", endpoint: "KERNEL", want: "MEMIF VXLAN KERNEL",
		reasons: []string{"MEMIF: client on node n1, dataplane vpp", "KERNEL: endpoint on node n2, dataplane vpp", "VXLAN: tunnel between node n1 and node n2"},
	}, {
		name: "an endpoint on another node gets what it speaks besides shared memory",
		at:   vpp("n1", "VFIO", "VXLAN"), to: vpp("n2", "MEMIF", "KERNEL", "VXLAN"), client: "VFIO", endpoint: "MEMIF KERNEL", want: "VFIO VXLAN KERNEL",
		reasons: []string{"VFIO: client on node n1, dataplane vpp", "KERNEL: endpoint on node n2, dataplane vpp", "VXLAN: tunnel between node n1 and node n2",
			"MEMIF: client does not ask for it"},
	}, {
		name: "a client that prefers KERNEL has it though the endpoint only speaks shared memory",
		at:   all("n1"), client: "KERNEL MEMIF", endpoint: "MEMIF", want: "KERNEL MEMIF",
		reasons: []string{"KERNEL: client on node n1, dataplane vpp", "MEMIF: endpoint on node n1, dataplane vpp"},
	}, {
		name: "the client's order comes before the endpoint's",
		at:   all("n1"), client: "VHOST_USER MEMIF", endpoint: "MEMIF VHOST_USER", want: "VHOST_USER VHOST_USER",
		reasons: []string{"VHOST_USER: both ends on node n1, dataplane vpp", "MEMIF: client prefers VHOST_USER"},
	}, {
		name: "the endpoint's order decides where the client's leaves it open",
		at:   vpp("n1", "VFIO", "KERNEL", "UNHEARD"), client: "VFIO", endpoint: "UNHEARD KERNEL", want: "VFIO UNHEARD",
		reasons: []string{"VFIO: client on node n1, dataplane vpp", "UNHEARD: endpoint on node n1, dataplane vpp", "KERNEL: endpoint prefers UNHEARD"},
	}, {
		name: "the configuration's preference overrides the client's",
		at:   all("n1"), client: "MEMIF KERNEL", endpoint: "MEMIF KERNEL", prefer: "WIREGUARD KERNEL", want: "KERNEL KERNEL direct",
		reasons: []string{"KERNEL: both ends on node n1, linked directly", "MEMIF: the configuration prefers KERNEL"},
	}, {
		name: "the configuration's preference reaches shared memory on another node too",
		at:   vpp("n1", "KERNEL", "MEMIF", "VXLAN", "GRE"), to: vpp("n2", "KERNEL", "MEMIF", "VXLAN", "GRE"),
		client: "KERNEL MEMIF", endpoint: "KERNEL MEMIF", prefer: "GRE MEMIF", want: "MEMIF GRE MEMIF",
		reasons: []string{"MEMIF: client on node n1, dataplane vpp; endpoint on node n2, dataplane vpp", "GRE: tunnel between node n1 and node n2",
			"KERNEL: the configuration prefers MEMIF", "VXLAN: the configuration prefers GRE"},
	}, {
		name: "the configuration's preference gives no end what it does not speak",
		at:   all("n1"), client: "KERNEL", endpoint: "KERNEL", prefer: "MEMIF", want: "KERNEL KERNEL direct",
		reasons: []string{"KERNEL: both ends on node n1, linked directly"},
	}, {
		name: "a client that insists has it, whatever anyone prefers",
		at:   all("n1"), client: "MEMIF KERNEL", insists: "KERNEL", endpoint: "MEMIF VHOST_USER", prefer: "MEMIF", want: "KERNEL MEMIF",
		reasons: []string{"KERNEL: client on node n1, dataplane vpp", "MEMIF: endpoint on node n1, dataplane vpp", "VHOST_USER: the configuration prefers MEMIF"},
	}, {
		name: "a client may insist without naming preferences",
		at:   all("n1"), insists: "VXLAN", endpoint: "KERNEL", want: "VXLAN KERNEL",
		reasons: []string{"VXLAN: client on node n1, dataplane vpp", "KERNEL: endpoint on node n1, dataplane vpp"},
	}, {
		name: "the endpoint has answered with one of those it was asked for",
		at:   all("n1"), client: "MEMIF KERNEL", endpoint: "MEMIF VHOST_USER KERNEL", chose: "VHOST_USER", want: "MEMIF VHOST_USER",
		reasons: []string{"MEMIF: client on node n1, dataplane vpp", "VHOST_USER: endpoint on node n1, dataplane vpp", "KERNEL: client prefers MEMIF"},
	}, {
		name: "the endpoint's answer leaves the client's shared memory unshared",
		at:   all("n1"), client: "MEMIF KERNEL", endpoint: "MEMIF VHOST_USER KERNEL", chose: "KERNEL", want: "KERNEL KERNEL direct",
		reasons: []string{"KERNEL: both ends on node n1, linked directly", "MEMIF: endpoint chose KERNEL", "VHOST_USER: endpoint chose KERNEL"},
	}, {
		name: "empty lists mean what the node offers to workloads, in its order",
		at:   all("n1"), want: "KERNEL KERNEL direct",
		reasons: []string{"KERNEL: both ends on node n1, linked directly", "MEMIF: node n1 offers KERNEL first", "VHOST_USER: node n1 offers KERNEL first"},
	}, {
		name: "an empty list on one side only",
		at:   all("n1"), endpoint: "VHOST_USER", client: "", want: "KERNEL VHOST_USER",
		reasons: []string{"KERNEL: client on node n1, dataplane vpp", "VHOST_USER: endpoint on node n1, dataplane vpp", "MEMIF: node n1 offers KERNEL first"},
	}, {
		name: "two KERNEL ends on a node without VPP get one veth pair",
		at:   kernel("n1"), client: "MEMIF KERNEL", endpoint: "KERNEL MEMIF", want: "KERNEL KERNEL direct",
		reasons: []string{"KERNEL: both ends on node n1, linked directly", "MEMIF: node n1 has no VPP: nothing answers on /run/vpp/api.sock"},
	}, {
		name: "two MEMIF ends share one socket only by policy",
		at:   all("n1"), client: "MEMIF", endpoint: "MEMIF", direct: true, want: "MEMIF MEMIF direct",
		reasons: []string{"MEMIF: both ends on node n1, linked directly"},
	}, {
		name: "policy path direct puts what needs no forwarder before the client's order",
		at:   all("n1"), client: "VHOST_USER KERNEL MEMIF", endpoint: "VHOST_USER MEMIF", direct: true, want: "MEMIF MEMIF direct",
		reasons: []string{"MEMIF: both ends on node n1, linked directly", "VHOST_USER: policy path direct takes MEMIF, which needs no forwarder",
			"KERNEL: policy path direct takes MEMIF, which needs no forwarder"},
	}, {
		name: "policy path direct falls back to the forwarder",
		at:   all("n1"), client: "VHOST_USER", endpoint: "KERNEL", direct: true, want: "VHOST_USER KERNEL",
		reasons: []string{"VHOST_USER: client on node n1, dataplane vpp", "KERNEL: endpoint on node n1, dataplane vpp"},
	}, {
		name: "a payload excludes what does not carry it",
		at:   all("n1"), client: "VHOST_USER KERNEL", endpoint: "VHOST_USER KERNEL", payload: models.IP, want: "KERNEL KERNEL direct",
		reasons: []string{"KERNEL: both ends on node n1, linked directly", "VHOST_USER: it does not carry IP on node n1"},
	}, {
		name: "a payload excludes tunnels too",
		at:   all("n1"), to: all("n2"), client: "KERNEL", endpoint: "KERNEL", payload: models.IP, want: "KERNEL GRE KERNEL",
		reasons: []string{"KERNEL: client on node n1, dataplane vpp; endpoint on node n2, dataplane vpp", "GRE: tunnel between node n1 and node n2",
			"VXLAN: it does not carry IP on node n1", "WIREGUARD: node n1 offers GRE first"},
	}, {
		name: "what nobody has heard of is passed on where a node offers it",
		at:   vpp("n1", "KERNEL", "UNHEARD"), client: "UNHEARD", endpoint: "UNHEARD", payload: "L2TP", want: "UNHEARD UNHEARD",
		reasons: []string{"UNHEARD: both ends on node n1, dataplane vpp"},
	}, {
		name: "what nobody offers gets its reason",
		at:   all("n1"), client: "SRV6 KERNEL", endpoint: "VLAN KERNEL", want: "KERNEL KERNEL direct",
		reasons: []string{"KERNEL: both ends on node n1, linked directly", "SRV6: node n1 does not offer it", "VLAN: node n1 does not offer it"},
	}, {
		name: "duplicates count once, at their first place",
		at:   all("n1"), client: "MEMIF KERNEL MEMIF KERNEL", endpoint: "KERNEL KERNEL MEMIF", want: "MEMIF MEMIF",
		reasons: []string{"MEMIF: both ends on node n1, dataplane vpp", "KERNEL: client prefers MEMIF"},
	}, {
		name: "of the tunnels in common, the first of the client's node is taken",
		at:   vpp("n1", "KERNEL", "WIREGUARD", "GRE", "VXLAN"), to: vpp("n2", "KERNEL", "VXLAN", "GRE"), client: "KERNEL", endpoint: "KERNEL", want: "KERNEL GRE KERNEL",
		reasons: []string{"KERNEL: client on node n1, dataplane vpp; endpoint on node n2, dataplane vpp", "GRE: tunnel between node n1 and node n2",
			"WIREGUARD: node n2 does not offer it", "VXLAN: node n1 offers GRE first"},
	}, {
		name: "the other node has answered with a tunnel",
		at:   all("n1"), to: all("n2"), client: "KERNEL", endpoint: "KERNEL", tunnels: "GRE", want: "KERNEL GRE KERNEL",
		reasons: []string{"KERNEL: client on node n1, dataplane vpp; endpoint on node n2, dataplane vpp", "GRE: tunnel between node n1 and node n2"},
	}, {
		name: "tunnels may be given an order",
		at:   all("n1"), to: all("n2"), client: "KERNEL", endpoint: "KERNEL", tunnels: "MEMIF GRE VXLAN", want: "KERNEL GRE KERNEL",
		reasons: []string{"KERNEL: client on node n1, dataplane vpp; endpoint on node n2, dataplane vpp", "GRE: tunnel between node n1 and node n2",
			"MEMIF: it does not reach from node to node", "VXLAN: GRE is preferred"},
	}, {
		name: "an end that is a tunnel device itself, asked by the node of the other end",
		at:   all("n2"), client: "VXLAN GRE", want: "VXLAN KERNEL",
		reasons: []string{"VXLAN: client on node n2, dataplane vpp", "KERNEL: endpoint on node n2, dataplane vpp", "GRE: client prefers VXLAN",
			"MEMIF: client does not ask for it", "VHOST_USER: client does not ask for it"},
	},
}

func TestDecide(t *testing.T) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if c.to == nil {
				c.to = c.at
			}
			d, err := Decide(Request{
				Client:   End{Node: c.at, Speaks: list(c.client), Only: c.insists},
				Endpoint: End{Node: c.to, Speaks: list(c.endpoint), Only: c.chose},
				Tunnels:  list(c.tunnels), Payload: c.payload, Prefer: list(c.prefer), Direct: c.direct,
			})
			if err != nil {
				t.Fatal(err)
			}
			if got := words(d); got != c.want {
				t.Errorf("decision %q, want %q", got, c.want)
			}
			if !slices.Equal(d.Reasons, c.reasons) {
				t.Errorf("reasons\n  %s\nwant\n  %s", strings.Join(d.Reasons, "\n  "), strings.Join(c.reasons, "\n  "))
			}
		})
	}
}

func words(d *Decision) string {
	w := []string{d.Client.GetType(), d.Endpoint.GetType()}
	if d.Tunnel != nil {
		w = slices.Insert(w, 1, d.Tunnel.GetType())
	}
	if d.Direct {
		w = append(w, "direct")
	}
	if d.Placed {
		w = append(w, "placed")
	}
	return strings.Join(w, " ")
}

func TestNothingInCommon(t *testing.T) {
	for _, c := range []struct {
		name             string
		at, to           *models.Agent
		client, endpoint string
		insists          string
		payload          string
		want             string
	}{
		{
			name: "on a node that joins nothing", at: kernel("n1"), client: "MEMIF VXLAN", endpoint: "KERNEL",
			want: "no mechanism fits: client on node n1 asks for MEMIF, VXLAN; endpoint on node n1 offers KERNEL" +
				"; MEMIF: node n1 has no VPP: nothing answers on /run/vpp/api.sock; VXLAN: node n1 does not offer it" +
				"; KERNEL: client has nothing usable to join it with",
		}, {
			name: "between two that the node could only link to themselves", client: "KERNEL", endpoint: "TAP",
			at: &models.Agent{Node: "n1", Offers: []*models.Offer{{Type: "KERNEL", Direct: true}, {Type: "TAP", Direct: true}}},
			want: "no mechanism fits: client on node n1 asks for KERNEL; endpoint on node n1 offers TAP" +
				"; KERNEL: endpoint does not offer it, and node n1 cannot join it with TAP" +
				"; TAP: client does not ask for it, and node n1 cannot join it with KERNEL",
		}, {
			name: "between the offers of two dataplanes", client: "KERNEL", endpoint: "MEMIF",
			at: &models.Agent{Node: "n1", Offers: []*models.Offer{{Type: "KERNEL", Joins: true, Dataplane: "kernel"}, {Type: "MEMIF", Joins: true, Dataplane: "vpp"}}},
			want: "no mechanism fits: client on node n1 asks for KERNEL; endpoint on node n1 offers MEMIF" +
				"; KERNEL: endpoint does not offer it, and node n1 cannot join it with MEMIF" +
				"; MEMIF: client does not ask for it, and node n1 cannot join it with KERNEL",
		}, {
			name: "shared memory without a forwarder and without the policy for it", client: "MEMIF", endpoint: "MEMIF",
			at: &models.Agent{Node: "n1", Offers: []*models.Offer{{Type: "MEMIF", Direct: true, SharedMemory: true}}},
			want: "no mechanism fits: client on node n1 asks for MEMIF; endpoint on node n1 offers MEMIF" +
				"; MEMIF: node n1 has no forwarder for it; policy path direct would link both ends directly",
		}, {
			name: "with a client that insists", at: all("n1"), client: "KERNEL MEMIF", insists: "SRV6", endpoint: "KERNEL VHOST_USER", payload: models.Ethernet,
			want: "no mechanism fits for payload ETHERNET: client on node n1 asks for SRV6; endpoint on node n1 offers KERNEL, VHOST_USER" +
				"; KERNEL: client insists on SRV6; MEMIF: client insists on SRV6; SRV6: node n1 does not offer it" +
				"; VHOST_USER: client has nothing usable to join it with",
		}, {
			name: "two nodes with no tunnel in common", at: vpp("n1", "KERNEL", "VXLAN"), to: vpp("n2", "KERNEL", "GRE"), client: "KERNEL", endpoint: "KERNEL",
			want: "no mechanism fits: client on node n1 asks for KERNEL; endpoint on node n2 offers KERNEL" +
				"; KERNEL: node n1 and node n2 have no tunnel in common; VXLAN: node n2 does not offer it; GRE: node n1 does not offer it",
		}, {
			name: "two nodes that cannot join the tunnel", client: "KERNEL", endpoint: "KERNEL",
			at: &models.Agent{Node: "n1", Offers: []*models.Offer{{Type: "KERNEL", Direct: true}, {Type: "VXLAN", Class: Remote}}}, to: vpp("n2", "KERNEL", "VXLAN"),
			want: "no mechanism fits: client on node n1 asks for KERNEL; endpoint on node n2 offers KERNEL" +
				"; KERNEL: node n1 and node n2 cannot join it through VXLAN with KERNEL; VXLAN: it cannot be joined with a mechanism at each end",
		}, {
			name: "nodes that are not known",
			want: "no mechanism fits: client asks for nothing; endpoint offers nothing",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.to == nil {
				c.to = c.at
			}
			r := Request{Client: End{Node: c.at, Speaks: list(c.client), Only: c.insists}, Endpoint: End{Node: c.to, Speaks: list(c.endpoint)}, Payload: c.payload}
			for what, err := range map[string]error{"Decide": second(Decide(r)), "Ask": second(Ask(r))} {
				var none *NoneError
				if !errors.As(err, &none) {
					t.Fatalf("%s: error %v, want a NoneError", what, err)
				}
				if err.Error() != c.want {
					t.Errorf("%s: error\n  %s\nwant\n  %s", what, err, c.want)
				}
				if none.Endpoint.Node != c.to.GetNode() || !slices.Equal(none.Endpoint.Mechanisms, list(c.endpoint)) {
					t.Errorf("%s: the endpoint's side is %+v", what, none.Endpoint)
				}
			}
		})
	}
}

func second[T any](_ T, err error) error { return err }

func TestAsk(t *testing.T) {
	for _, c := range []struct {
		name   string
		at, to *models.Agent
		client string
		prefer string
		direct bool
		want   string
	}{
		{name: "what the client prefers comes first, what can be joined with it follows", at: all("n1"), client: "MEMIF KERNEL", want: "MEMIF VHOST_USER KERNEL"},
		{name: "a client of one mechanism", at: all("n1"), client: "KERNEL", want: "KERNEL MEMIF VHOST_USER"},
		{name: "a client that does not care", at: all("n1"), want: "KERNEL MEMIF VHOST_USER"},
		{name: "a node that joins nothing asks only for the same", at: kernel("n1"), client: "MEMIF KERNEL", want: "KERNEL"},
		{name: "the configuration overrides the order", at: all("n1"), client: "MEMIF KERNEL", prefer: "VHOST_USER", want: "VHOST_USER MEMIF KERNEL"},
		{name: "policy path direct", at: all("n1"), client: "VHOST_USER MEMIF", direct: true, want: "MEMIF VHOST_USER KERNEL"},
		{name: "a client that speaks a tunnel", at: all("n1"), client: "VXLAN", want: "KERNEL MEMIF VHOST_USER"},
		{name: "another node is asked for tunnels", at: vpp("n1", "KERNEL", "GRE", "WIREGUARD", "VXLAN"), to: vpp("n2", "KERNEL", "VXLAN", "GRE"), client: "KERNEL", want: "GRE VXLAN"},
		{name: "the configuration orders tunnels too", at: all("n1"), to: all("n2"), client: "KERNEL", prefer: "WIREGUARD", want: "WIREGUARD VXLAN GRE"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.to == nil {
				c.to = c.at
			}
			offers, err := Ask(Request{Client: End{Node: c.at, Speaks: list(c.client)}, Endpoint: End{Node: c.to}, Prefer: list(c.prefer), Direct: c.direct})
			if err != nil {
				t.Fatal(err)
			}
			if got := types(offers); !reflect.DeepEqual(got, list(c.want)) {
				t.Errorf("asks for %v, want %v", got, c.want)
			}
		})
	}
}

func types(offers []*models.Offer) []string {
	var out []string
	for _, o := range offers {
		out = append(out, o.GetType())
	}
	return out
}

func TestBadNamesAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		request Request
		want    string
	}{
		"a type that would garble a log line": {Request{Client: End{Speaks: []string{"KERNEL", "A\nB"}}}, `client: "A\nB" is not a name`},
		"a type that is empty":                {Request{Endpoint: End{Speaks: []string{""}}}, `endpoint: "" is not a name`},
		"a type that is too long":             {Request{Client: End{Only: strings.Repeat("X", 1<<20)}}, "client: \"XXX"},
		"too many types":                      {Request{Client: End{Speaks: make([]string, 65)}}, "client: 65 mechanisms are named; at most 64"},
		"too many tunnels":                    {Request{Tunnels: make([]string, 65)}, "tunnels: 65 mechanisms"},
		"a payload that is not a name":        {Request{Payload: "IP; rm"}, `payload: "IP; rm" is not a name`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Decide(c.request)
			var none *NoneError
			if err == nil || errors.As(err, &none) || !strings.HasPrefix(err.Error(), c.want) || len(err.Error()) > 300 {
				t.Errorf("error %.300v, want %q", err, c.want)
			}
		})
	}
}

// A workload names what it likes: a tunnel leads where two agents agree, not where it says.
func TestAWorkloadIsNoTunnel(t *testing.T) {
	n1 := all("n1")
	r := Request{Client: End{Node: n1, Speaks: []string{"VXLAN", "KERNEL"}, Workload: true}, Endpoint: End{Node: n1, Workload: true}, Payload: models.Ethernet}
	d, err := Decide(r)
	if err != nil || d.Client.Type != "KERNEL" || !slices.Contains(d.Reasons, "VXLAN: it is of class REMOTE; a workload uses a mechanism of class LOCAL") {
		t.Fatalf("decided %v, %v", d, err)
	}
	r.Endpoint.Only = "VXLAN"
	var none *NoneError
	if d, err := Decide(r); !errors.As(err, &none) {
		t.Errorf("an endpoint that answers with a tunnel gets %v, %v", d, err)
	}
}
