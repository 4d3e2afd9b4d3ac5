// Package vpp makes bridges in VPP: a bridge domain each, whose ports are the interfaces of
// its members and the tunnels to other nodes.
package vpp

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/bridge"
	"go.patchbay.dev/plugins/reconcile"
	"go.patchbay.dev/vppapi"
)

// Kinds of values, the beginnings of their keys.
const (
	KindDomain   = "bd"     // bd/<bridge>
	KindGateway  = "bvi"    // bvi/<bridge>
	KindPort     = "bdport" // bdport/<id>, of a member or a tunnel
	KindMAC      = "bdmac"  // bdmac/<bridge>/<mac>
	KindNeighbor = "bdarp"  // bdarp/<bridge>/<address>
)

// Tunnels makes the tunnels to other nodes.
type Tunnels interface {
	// Between renders a tunnel of Ethernet frames of mtu bytes of payload, which VPP shows
	// under an id that no cross-connect can have.
	Between(id string, local, remote netip.Addr, vni uint32, mtu int) (models.Port, reconcile.Value)
}

// Stats reads the counters of an interface.
type Stats interface {
	Of(vppapi.Index) (vppapi.Counters, error)
}

// Dataplane makes bridges in one VPP. Its methods may be called at the same time.
type Dataplane struct {
	vpp       *vppapi.Client
	tunnels   Tunnels
	stats     Stats
	gateways  *vppapi.Ports
	portKinds []string

	mu      sync.Mutex
	numbers map[string]uint32 // of the bridge domains that are there, by bridge
}

// New returns a Dataplane that programs vpp.
func New(vpp *vppapi.Client, tunnels Tunnels, stats Stats) *Dataplane {
	p := &Dataplane{vpp: vpp, tunnels: tunnels, stats: stats, gateways: vppapi.NewPorts(vpp), numbers: map[string]uint32{}}
	vpp.Watch(vppapi.Watcher{Down: func(error) { p.forgetAll() }})
	return p
}

// Ports names the kinds that a port may be of, so that what is found in VPP and wanted by
// nobody goes before its ports do. It is called before the engine is started.
func (p *Dataplane) Ports(kinds ...string) { p.portKinds = append(p.portKinds, kinds...) }

// Register gives the engine the descriptors. It is called once, before VPP is connected to.
func (p *Dataplane) Register(e *reconcile.Engine) {
	reconcile.Register(e, KindDomain, domains{p})
	reconcile.Register(e, KindGateway, gateways{p})
	reconcile.Register(e, KindPort, ports{p})
	reconcile.Register(e, KindMAC, macs{p})
	reconcile.Register(e, KindNeighbor, neighbors{p})
	p.gateways.Watch(e.Lost, func(string) {})
}

// Kinds are those whose world ends with VPP.
func (p *Dataplane) Kinds() []string {
	return []string{KindDomain, KindGateway, KindPort, KindMAC, KindNeighbor}
}

// Domain renders the bridge domain and, with gateways, VPP's own interface there. An error
// is a *models.FieldError of the bridge.
func (p *Dataplane) Domain(d bridge.Domain) ([]reconcile.Value, error) {
	if tag := gatewayTag(d.Name); len(tag) > vppapi.MaxTag {
		return nil, &models.FieldError{Field: "name", Reason: fmt.Sprintf("%q is too long for VPP, which keeps tags of %d bytes; use at most %d", d.Name, vppapi.MaxTag, vppapi.MaxTag-len(gatewayTag("")))}
	}
	values := []reconcile.Value{{Key: domainKey(d.Name), Spec: domainOf(d)}}
	if len(d.Gateways) > 0 {
		values = append(values, reconcile.Value{Key: gatewayKey(d.Name), Spec: Gateway{Bridge: d.Name, MAC: d.GatewayMAC, MTU: d.MTU, Addresses: d.Gateways}})
	}
	return values, nil
}

// Mesh renders a tunnel to each peer. What comes from one goes to no other.
func (p *Dataplane) Mesh(d bridge.Domain, local netip.Addr, peers []netip.Addr) (values []reconcile.Value, err error) {
	if d.VNI == 0 && len(peers) > 0 {
		return nil, errors.New("a bridge without a VNI has no tunnels")
	}
	for _, peer := range peers {
		id := meshID(d.VNI, peer)
		port, tunnel := p.tunnels.Between(id, local, peer, d.VNI, d.MTU)
		values = append(values, tunnel, reconcile.Value{Key: portKey(id), Spec: Port{Bridge: d.Name, Port: PortRef{port.Key, port.Needs, port.Tag}, Group: meshGroup}})
	}
	return values, nil
}

// meshGroup is the split-horizon group of tunnels; members have none.
const meshGroup = 1

// Member renders the port of a member. An error is a *models.FieldError of the cross-connect.
func (p *Dataplane) Member(id string, d bridge.Domain, port models.Port) ([]reconcile.Value, error) {
	if !port.Ethernet {
		return nil, &models.FieldError{Field: "payload", Reason: "a bridge forwards Ethernet frames; use ETHERNET"}
	}
	ref := PortRef{port.Key, port.Needs, port.Tag}
	values := []reconcile.Value{{Key: portKey(id), Spec: Port{Bridge: d.Name, Port: ref}}}
	for _, s := range d.StaticMACs {
		if s.Connection == id {
			values = append(values, reconcile.Value{Key: macKey(d.Name, s.MAC), Spec: MAC{Bridge: d.Name, MAC: s.MAC, ID: id, Tag: port.Tag}})
		}
	}
	if d.ARPTermination && port.MAC != [6]byte{} {
		for _, a := range port.Addresses {
			values = append(values, reconcile.Value{Key: neighborKey(d.Name, a), Spec: Neighbor{Bridge: d.Name, Address: a, MAC: port.MAC}})
		}
	}
	return values, nil
}
