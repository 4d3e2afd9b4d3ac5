package kernel

import (
	"errors"
	"net/netip"
	"testing"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/linux"
)

func end(netns, name string, addresses ...string) *models.Attachment {
	return &models.Attachment{
		Mechanism: &models.Mechanism{Type: Type, Parameters: map[string]string{NetNS: netns, Name: name}},
		Addresses: addresses,
	}
}

func cross(id string, client, endpoint *models.Attachment) *models.CrossConnect {
	return &models.CrossConnect{Id: id, Payload: models.IP, Client: client, Endpoint: endpoint}
}

// rendered is what is to be set on the client.
func rendered(t *testing.T, client, endpoint *models.Attachment) (linux.Config, error) {
	t.Helper()
	x := cross("c1", client, endpoint)
	if err := models.ValidateCrossConnect(x); err != nil {
		t.Fatalf("not a valid record: %v", err)
	}
	values, err := new(Mechanism).Pair(x)
	if err != nil {
		return linux.Config{}, err
	}
	if len(values) != 3 || values[0].Key != "veth/c1" || values[1].Key != "ipconfig/c1/client" || values[2].Key != "ipconfig/c1/endpoint" {
		t.Fatalf("values %v", values)
	}
	return values[1].Spec.(IPConfig).Config, nil
}

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func adr(s string) netip.Addr   { return netip.MustParseAddr(s) }

func TestWhatIsSetOnAnEnd(t *testing.T) {
	on := func(p string) linux.Route { return linux.Route{Prefix: pfx(p)} }
	via := func(p, hop string) linux.Route { return linux.Route{Prefix: pfx(p), NextHop: adr(hop)} }
	onlink := func(r linux.Route) linux.Route { r.OnLink = true; return r }
	of := func(policy int, r linux.Route) linux.Route { r.Policy = policy; return r }
	for name, c := range map[string]struct {
		client, endpoint *models.Attachment
		edit             func(c *models.Attachment)
		routes           []linux.Route
		rules            []linux.Rule
	}{
		"one subnet needs no route": {client: end("a", "", "10.60.0.1/24"), endpoint: end("b", "", "10.60.0.2/24")},
		"single addresses reach each other": {
			client: end("a", "", "172.16.1.1/32", "fd00::1/128"), endpoint: end("b", "", "172.16.1.0/32", "fd00::2/128"),
			routes: []linux.Route{on("172.16.1.0/32"), on("fd00::2/128")},
		},
		"no address, no route": {client: end("a", ""), endpoint: end("b", "", "172.16.1.0/32")},
		"a next hop in the subnet": {
			client: end("a", "", "10.60.0.1/24"), endpoint: end("b", "", "10.60.0.2/24"),
			edit: func(c *models.Attachment) {
				c.Routes = []*models.Route{{Prefix: "10.61.7.7/16", NextHop: "10.60.0.9"}}
			},
			routes: []linux.Route{via("10.61.0.0/16", "10.60.0.9")},
		},
		"no next hop: the other end's first address of the family": {
			client: end("a", "", "10.60.0.1/24", "fd00::1/64"), endpoint: end("b", "", "fd00::2/64", "fd00::3/64", "10.60.0.2/24"),
			edit: func(c *models.Attachment) {
				c.Routes = []*models.Route{{Prefix: "0.0.0.0/0"}, {Prefix: "2001:db8::/32"}}
			},
			routes: []linux.Route{via("0.0.0.0/0", "10.60.0.2"), via("2001:db8::/32", "fd00::2")},
		},
		"no next hop and no address there: the link": {
			client: end("a", "", "10.60.0.1/24"), endpoint: end("b", ""),
			edit:   func(c *models.Attachment) { c.Routes = []*models.Route{{Prefix: "10.61.0.0/16"}} },
			routes: []linux.Route{on("10.61.0.0/16")},
		},
		"a next hop in no subnet is on the link": {
			client: end("a", "", "172.16.1.1/32"), endpoint: end("b", "", "172.16.1.0/32"),
			edit:   func(c *models.Attachment) { c.Routes = []*models.Route{{Prefix: "10.0.0.0/8"}} },
			routes: []linux.Route{onlink(via("10.0.0.0/8", "172.16.1.0")), on("172.16.1.0/32")},
		},
		"a route to the next hop itself, as NSM sends it": {
			client: end("a", "", "172.16.1.1/32"), endpoint: end("b", "", "172.16.1.0/32"),
			edit:   func(c *models.Attachment) { c.Routes = []*models.Route{{Prefix: "172.16.1.0/32"}} },
			routes: []linux.Route{on("172.16.1.0/32")},
		},
		"a route to the own subnet says nothing new": {
			client: end("a", "", "10.60.0.1/24"), endpoint: end("b", "", "10.60.0.2/24"),
			edit: func(c *models.Attachment) { c.Routes = []*models.Route{{Prefix: "10.60.0.0/24"}} },
		},
		"a policy's default route, for each family": {
			client: end("a", "", "10.60.0.1/24", "fd00::1/64"), endpoint: end("b", "", "10.60.0.2/24", "fd00::2/64"),
			edit: func(c *models.Attachment) {
				c.Policies = []*models.Policy{{Protocol: "TCP", DestinationPort: "80", SourcePort: "1000-2000"}, {From: "10.60.0.0/24"}}
			},
			routes: []linux.Route{of(1, via("0.0.0.0/0", "10.60.0.2")), of(1, via("::/0", "fd00::2")), of(2, via("0.0.0.0/0", "10.60.0.2"))},
			rules: []linux.Rule{
				{Policy: 1, Protocol: 6, SourcePorts: linux.Ports{From: 1000, To: 2000}, DestinationPorts: linux.Ports{From: 80, To: 80}},
				{Policy: 1, IPv6: true, Protocol: 6, SourcePorts: linux.Ports{From: 1000, To: 2000}, DestinationPorts: linux.Ports{From: 80, To: 80}},
				{Policy: 2, From: pfx("10.60.0.0/24")},
			},
		},
		"a policy with routes of its own, of one family": {
			client: end("a", "", "10.60.0.1/24", "fd00::1/64"), endpoint: end("b", "", "10.60.0.2/24", "fd00::2/64"),
			edit: func(c *models.Attachment) {
				c.Policies = []*models.Policy{{From: "0.0.0.0/0", Routes: []*models.Route{{Prefix: "10.61.0.0/16", NextHop: "10.60.0.3"}}}, {Protocol: "icmpv6"}}
			},
			routes: []linux.Route{of(1, via("10.61.0.0/16", "10.60.0.3")), of(2, via("::/0", "fd00::2"))},
			rules:  []linux.Rule{{Policy: 1}, {Policy: 2, IPv6: true, Protocol: 58}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if c.edit != nil {
				c.edit(c.client)
			}
			got, err := rendered(t, c.client, c.endpoint)
			if err != nil {
				t.Fatal(err)
			}
			want := linux.Config{Addresses: got.Addresses, Routes: c.routes, Rules: c.rules}
			if !got.Equal(want) {
				t.Errorf("got\n%+v, want\n%+v", got, want)
			}
		})
	}
}

func TestThePairTakesItsShapeFromTheRecord(t *testing.T) {
	x := cross("c1", end("blue", "nsm0"), end("/run/netns/red", ""))
	x.Mtu, x.Endpoint.Mac = 9000, "02:00:00:00:00:07"
	values, err := new(Mechanism).Pair(x)
	if err != nil {
		t.Fatal(err)
	}
	client, endpoint := linux.Tag{ID: "c1", Side: linux.Client}, linux.Tag{ID: "c1", Side: linux.Endpoint}
	want := Veth{MTU: 9000, Ends: [2]End{
		{NetNS: "/run/netns/blue", Name: "nsm0", MAC: client.MAC()},
		{NetNS: "/run/netns/red", Name: derivedName(endpoint), MAC: linux.MAC{2, 0, 0, 0, 0, 7}},
	}}
	if got := values[0].Spec.(Veth); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	x.Mtu = 0
	if values, err = new(Mechanism).Pair(x); err != nil || values[0].Spec.(Veth).MTU != 1500 {
		t.Errorf("%+v, %v", values, err)
	}
}

func TestRecordsThatCannotBeRendered(t *testing.T) {
	policy := func(p *models.Policy) *models.Attachment {
		a := end("a", "", "10.60.0.1/24")
		a.Policies = []*models.Policy{{From: "10.0.0.0/8"}, p}
		return a
	}
	for field, x := range map[string]*models.CrossConnect{
		"client.mechanism.parameters.netns":  cross("c1", end("", ""), end("b", "")),
		"endpoint.mechanism.parameters.name": cross("c1", end("a", "nsm0"), end("/run/netns/a", "nsm0")),
		"endpoint.mac": cross("c1", end("a", ""), &models.Attachment{
			Mechanism: end("b", "").Mechanism, Mac: linux.Tag{ID: "c1", Side: linux.Client}.MAC().String()}),
		"client.policies[1].routes":           cross("c1", policy(&models.Policy{From: "fd00::/8", Routes: []*models.Route{{Prefix: "10.0.0.0/8"}}}), end("b", "")),
		"client.policies[1].routes[0].prefix": cross("c1", policy(&models.Policy{Routes: []*models.Route{{Prefix: "nonsense"}}}), end("b", "")),
		"endpoint.addresses[1]":               cross("c1", end("a", ""), end("b", "", "10.0.0.1/24", "nonsense")),
	} {
		_, err := new(Mechanism).Pair(x)
		var f *models.FieldError
		if !errors.As(err, &f) || f.Field != field {
			t.Errorf("%v, want an error of %s", err, field)
		}
	}
}
