package negotiation

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"go.patchbay.dev/models"
)

// placing is a node without VPP: its tunnels are the workloads' interfaces.
func placing(name string, tunnels ...string) *models.Agent {
	a := kernel(name)
	a.Offers[0].Places = true
	for _, t := range tunnels {
		a.Offers = append(a.Offers, placed(t))
	}
	return a
}

func placed(name string) *models.Offer {
	o := offers[name]
	return &models.Offer{Type: name, Dataplane: "kernel", Class: o.Class, Payloads: o.Payloads, Places: true}
}

// both is a node with VPP whose kernel can place tunnels, too.
func both(name string, types ...string) *models.Agent {
	a := vpp(name, types...)
	for _, t := range types {
		if t == "KERNEL" || offers[t].Class == Remote {
			a.Offers = append(a.Offers, placed(t))
		}
	}
	return a
}

func version(a *models.Agent, v uint32) *models.Agent {
	for _, o := range a.Offers {
		o.Version = v
	}
	return a
}

func TestDecideTunnel(t *testing.T) {
	for _, c := range []struct {
		name             string
		at, to           *models.Agent
		client, endpoint string
		payload          string
		direct, forward  bool
		want             string
		reasons          []string // those that must be among them
	}{
		{
			name: "a client's node that can only do VXLAN and a service's with VXLAN and GRE get VXLAN",
			at:   vpp("n1", "MEMIF", "KERNEL", "VXLAN"), to: vpp("n2", "MEMIF", "KERNEL", "GRE", "VXLAN"),
			client: "MEMIF KERNEL", endpoint: "MEMIF KERNEL", want: "KERNEL VXLAN KERNEL",
			reasons: []string{"VXLAN: tunnel between node n1 and node n2", "GRE: node n1 does not offer it", "MEMIF: no memory is shared between node n1 and node n2"},
		}, {
			name: "the same two on one node get shared memory",
			at:   vpp("n1", "MEMIF", "KERNEL", "VXLAN"), client: "MEMIF KERNEL", endpoint: "MEMIF KERNEL", want: "MEMIF MEMIF",
			reasons: []string{"MEMIF: both ends on node n1, dataplane vpp", "KERNEL: client prefers MEMIF"},
		}, {
			name: "without a forwarder the tunnel is the interface itself",
			at:   placing("n1", "VXLAN"), to: placing("n2", "VXLAN"), client: "KERNEL", endpoint: "KERNEL", want: "KERNEL VXLAN KERNEL placed",
			reasons: []string{"KERNEL: client on node n1, dataplane kernel; endpoint on node n2, dataplane kernel", "VXLAN: tunnel between node n1 and node n2, itself the client's interface"},
		}, {
			name: "the two ends may have different dataplanes",
			at:   placing("n1", "VXLAN", "GRE"), to: vpp("n2", "MEMIF", "VXLAN"), client: "KERNEL", endpoint: "MEMIF", want: "KERNEL VXLAN MEMIF placed",
			reasons: []string{"KERNEL: client on node n1, dataplane kernel", "MEMIF: endpoint on node n2, dataplane vpp", "GRE: node n2 does not offer it"},
		}, {
			name: "with a forwarder and a kernel that could place it, the forwarder sees and counts",
			at:   both("n1", "KERNEL", "VXLAN"), to: both("n2", "KERNEL", "VXLAN"), client: "KERNEL", want: "KERNEL VXLAN KERNEL",
			reasons: []string{"KERNEL: client on node n1, dataplane vpp; endpoint on node n2, dataplane vpp"},
		}, {
			name: "the policy for a direct path places it",
			at:   both("n1", "KERNEL", "VXLAN"), to: both("n2", "KERNEL", "VXLAN"), client: "KERNEL", direct: true, want: "KERNEL VXLAN KERNEL placed",
			reasons: []string{"KERNEL: client on node n1, dataplane kernel; endpoint on node n2, dataplane vpp"},
		}, {
			name: "the policy for a direct path takes a tunnel that can be placed before one that cannot",
			at:   vppAnd("n1", "VXLAN", "GRE"), to: both("n2", "KERNEL", "VXLAN", "GRE"), client: "KERNEL", direct: true, want: "KERNEL GRE KERNEL placed",
			reasons: []string{"VXLAN: policy path direct takes GRE, which needs no forwarder"},
		}, {
			name: "the policy for a forwarder still places where there is none",
			at:   placing("n1", "VXLAN"), to: placing("n2", "VXLAN"), client: "KERNEL", endpoint: "KERNEL", forward: true, want: "KERNEL VXLAN KERNEL placed",
		}, {
			name: "on the endpoint's node the tunnel that came is placed in the endpoint",
			at:   placing("n2", "VXLAN", "GRE"), client: "VXLAN", want: "VXLAN KERNEL placed",
			reasons: []string{"VXLAN: client on node n2, dataplane kernel; the tunnel is itself the workload's interface", "KERNEL: endpoint on node n2, dataplane kernel"},
		}, {
			name: "on the endpoint's node with VPP it is joined",
			at:   both("n2", "MEMIF", "KERNEL", "VXLAN"), client: "VXLAN", want: "VXLAN KERNEL",
			reasons: []string{"MEMIF: client does not ask for it"},
		}, {
			name: "a tunnel that carries the payload at one end only is not taken",
			at:   vpp("n1", "KERNEL", "VXLAN", "GRE"), to: vpp("n2", "KERNEL", "VXLAN", "GRE"), client: "KERNEL", payload: models.IP, want: "KERNEL GRE KERNEL",
			reasons: []string{"VXLAN: it does not carry IP on node n1"},
		}, {
			name: "nodes that do not understand each other's parameters take another tunnel",
			at:   mixed("n1", 1), to: mixed("n2", 2), client: "KERNEL", want: "KERNEL GRE KERNEL",
			reasons: []string{"VXLAN: node n1 has version 1 of it, node n2 version 2"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.to == nil {
				c.to = c.at
			}
			d, err := Decide(Request{Client: End{Node: c.at, Speaks: list(c.client)}, Endpoint: End{Node: c.to, Speaks: list(c.endpoint)},
				Payload: c.payload, Direct: c.direct, Forwarder: c.forward})
			if err != nil {
				t.Fatal(err)
			}
			if got := words(d); got != c.want {
				t.Errorf("decision %q, want %q", got, c.want)
			}
			for _, r := range c.reasons {
				if !slices.Contains(d.Reasons, r) {
					t.Errorf("reasons\n  %s\nlack\n  %s", strings.Join(d.Reasons, "\n  "), r)
				}
			}
		})
	}
}

// vppAnd has two tunnels of VPP, of which the kernel can place the second.
func vppAnd(name, joined, placedToo string) *models.Agent {
	a := vpp(name, "KERNEL", joined, placedToo)
	a.Offers = append(a.Offers, placed("KERNEL"), placed(placedToo))
	return a
}

// mixed has VXLAN of some version before GRE of the first.
func mixed(name string, v uint32) *models.Agent {
	a := version(vpp(name, "KERNEL", "VXLAN"), v)
	return &models.Agent{Node: name, Offers: append(a.Offers, vpp(name, "GRE").Offers...)}
}

func TestAnotherVersionIsNoTunnelInCommon(t *testing.T) {
	_, err := Decide(Request{Client: End{Node: version(placing("n1", "VXLAN"), 1)}, Endpoint: End{Node: version(placing("n2", "VXLAN"), 2)}})
	if err == nil || !strings.Contains(err.Error(), "VXLAN: node n1 has version 1 of it, node n2 version 2") {
		t.Errorf("got %v", err)
	}
}

// Once the other node has answered, the decision says of every tunnel why it was not taken.
func TestDecideTunnelThatWasAnswered(t *testing.T) {
	n1, n2 := vpp("n1", "KERNEL", "VXLAN", "GRE", "WIREGUARD", "MEMIF"), vpp("n2", "KERNEL", "VXLAN", "GRE")
	r := Request{Client: End{Node: n1, Speaks: []string{"KERNEL"}}, Endpoint: End{Node: n2}, Payload: models.Ethernet, Tunnel: "GRE"}
	for tunnel, reasons := range map[string][]string{
		"GRE":   {"VXLAN: node n2 took GRE", "WIREGUARD: it does not carry ETHERNET on node n1"},
		"VXLAN": {"GRE: node n1 offers VXLAN first"},
	} {
		r.Tunnel = tunnel
		d, err := Decide(r)
		if err != nil || d.Tunnel.Type != tunnel {
			t.Fatalf("%s: %v, %v", tunnel, d, err)
		}
		for _, want := range reasons {
			if !slices.Contains(d.Reasons, want) {
				t.Errorf("%s: %q does not say %q", tunnel, d.Reasons, want)
			}
		}
	}
	r.Tunnel = "UNKNOWN"
	var none *NoneError
	if d, err := Decide(r); !errors.As(err, &none) {
		t.Errorf("a tunnel that nobody offers: %v, %v", d, err)
	}
}
