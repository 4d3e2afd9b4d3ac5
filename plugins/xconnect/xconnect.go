// Package xconnect joins two ports of VPP: Ethernet by an L2 cross-connect both ways, IP
// by an L3 cross-connect for each family.
package xconnect

import (
	"net/netip"
	"slices"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/reconcile"
	"go.patchbay.dev/vppapi"
)

// Kinds of values, the beginnings of their keys.
const (
	KindL2 = "l2xc" // l2xc/<id>
	KindL3 = "l3xc" // l3xc/<id>
)

// Plugin renders joins and makes them.
type Plugin struct {
	vpp   *vppapi.Client
	ports []string
}

// New returns a Plugin that programs vpp.
func New(vpp *vppapi.Client) *Plugin { return &Plugin{vpp: vpp} }

// Ports names the kinds that a port may be of, so that what is found in VPP and wanted by
// nobody goes before its ports do. It is called before the engine is started.
func (p *Plugin) Ports(kinds ...string) { p.ports = append(p.ports, kinds...) }

// needs are the keys of ports: of those that were found, of which the kind is not known,
// all that there may be.
func (p *Plugin) needs(refs ...PortRef) (keys []string) {
	for _, ref := range refs {
		id, side, ok := models.ParseTag(ref.Tag)
		if ref.Key != "" {
			keys = append(keys, ref.Key)
		} else if ok {
			for _, kind := range p.ports {
				keys = append(keys, kind+"/"+id+"/"+string(side))
			}
		}
	}
	return keys
}

// Register gives the engine the descriptors.
func (p *Plugin) Register(e *reconcile.Engine) {
	reconcile.Register(e, KindL2, l2{p})
	reconcile.Register(e, KindL3, l3{p})
}

// Kinds are those whose world ends with VPP.
func (p *Plugin) Kinds() []string { return []string{KindL2, KindL3} }

// Join renders what carries the payload between two ports.
func (p *Plugin) Join(x *models.CrossConnect, client, endpoint models.Port) ([]reconcile.Value, error) {
	ports := [2]models.Port{client, endpoint}
	if x.GetPayload() == models.IP {
		return joinL3(x, ports)
	}
	sides := [2]*models.Attachment{x.GetClient(), x.GetEndpoint()}
	for i, port := range ports {
		if !port.Ethernet {
			return nil, &models.FieldError{Field: "payload", Reason: "ETHERNET cannot be carried by " + sides[i].GetMechanism().GetType() + " in IP mode; use payload IP"}
		}
	}
	spec := L2{Ports: [2]PortRef{{client.Key, client.Tag}, {endpoint.Key, endpoint.Tag}}}
	return []reconcile.Value{{Key: KindL2 + "/" + x.GetId(), Spec: spec}}, nil
}

// PortRef is a port: the value that makes it, and its tag.
type PortRef struct{ Key, Tag string }

func joinL3(x *models.CrossConnect, ports [2]models.Port) ([]reconcile.Value, error) {
	var spec L3
	for i, port := range ports {
		side := []string{"client", "endpoint"}[i]
		spec.Ports[i] = L3Port{PortRef: PortRef{port.Key, port.Tag}, Ethernet: port.Ethernet}
		if !port.Ethernet && len(port.Addresses) == 0 {
			spec.Ports[i].Families = [2]bool{true, true}
			continue
		}
		spec.Ports[i].MAC = port.MAC
		addresses := slices.Clone(port.Addresses)
		slices.SortFunc(addresses, netip.Addr.Compare)
		for _, a := range addresses {
			f := family(a)
			if spec.Ports[i].Families[f] { // one next hop a family; its other addresses are behind the same host
				continue
			}
			spec.Ports[i].Families[f], spec.Ports[i].Hops[f] = true, a
		}
		if spec.Ports[i].Families == [2]bool{} {
			return nil, &models.FieldError{Field: side + ".addresses",
				Reason: "is empty; IP is carried to an Ethernet interface by its address: give one, or use payload ETHERNET"}
		}
	}
	return []reconcile.Value{{Key: KindL3 + "/" + x.GetId(), Spec: spec}}, nil
}

// family is an address family's place in lists: IPv4, IPv6.
func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}
