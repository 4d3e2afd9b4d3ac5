// Package kernel makes bridges of the Linux kernel: an Ethernet bridge each in the agent's own
// network namespace, whose ports are the outer ends of its members' pairs and one VXLAN
// device for all other nodes.
package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/bridge"
	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/reconcile"
)

// Kinds of values, the beginnings of their keys.
const (
	KindBridge   = "br"     // br/<bridge>
	KindPort     = "brport" // brport/<id>, of a member
	KindMesh     = "brmesh" // brmesh/<bridge>, the device
	KindPeer     = "brpeer" // brpeer/<bridge>/<address>
	KindMAC      = "brmac"  // brmac/<bridge>/<mac>
	KindNeighbor = "brarp"  // brarp/<bridge>/<address>
)

// Dataplane makes bridges of the kernel. Its methods may be called at the same time.
type Dataplane struct {
	ns        *linux.Namespaces
	portKinds []string
	lost      func(key string)

	mu   sync.Mutex
	made map[string]made // by key, of bridges, ports and mesh devices
	at   map[int]string  // their keys, by index
}

// made is an interface as it was finished.
type made struct{ index, bridge int }

// New returns a Dataplane that works in the agent's own namespace.
func New(ns *linux.Namespaces) *Dataplane {
	return &Dataplane{ns: ns, lost: func(string) {}, made: map[string]made{}, at: map[int]string{}}
}

// Ports names the kinds of values that a port's pair may be of, so that what is found and
// wanted by nobody goes before its pair does. It is called before the engine is started.
func (p *Dataplane) Ports(kinds ...string) { p.portKinds = append(p.portKinds, kinds...) }

// Register gives the engine the descriptors. It is called once, before the namespaces and the
// engine are started.
func (p *Dataplane) Register(e *reconcile.Engine) {
	reconcile.Register(e, KindBridge, bridges{p})
	reconcile.Register(e, KindPort, ports{p})
	reconcile.Register(e, KindMesh, meshes{p})
	reconcile.Register(e, KindPeer, p.peers())
	reconcile.Register(e, KindMAC, p.macs())
	reconcile.Register(e, KindNeighbor, p.neighbors())
	p.lost = e.Lost
	p.ns.Subscribe(linux.Subscriber{Link: p.heard, Missed: p.missed})
}

// Missing says what this node's kernel lacks, as the rest of a sentence that begins
// "node n1"; empty: nothing.
func (p *Dataplane) Missing() string { return p.ns.Supports("bridge") }

// Domain renders the bridge, with its gateways.
func (p *Dataplane) Domain(d bridge.Domain) ([]reconcile.Value, error) {
	return []reconcile.Value{{Key: bridgeKey(d.Name), Spec: Bridge{Bridge: d.Name, MAC: d.GatewayMAC, MTU: d.MTU, Age: d.MACAge, Gateways: d.Gateways}}}, nil
}

// Mesh renders the device that leads to all peers, and each of them. A bridge sends nothing
// back to the port that it came from, so what comes from one goes to no other.
func (p *Dataplane) Mesh(d bridge.Domain, local netip.Addr, peers []netip.Addr) ([]reconcile.Value, error) {
	if len(peers) == 0 {
		return nil, nil
	}
	if d.VNI == 0 {
		return nil, errors.New("a bridge without a VNI has no tunnels")
	}
	treat := treatment(d)
	treat.Suppress = d.ARPTermination
	values := []reconcile.Value{{Key: meshKey(d.Name), Spec: Mesh{Bridge: d.Name, MTU: d.MTU, Treat: treat, MAC: models.DerivedMAC("mesh " + d.Name + " " + local.String()),
		Tunnel: linux.VXLAN{Local: local, VNI: d.VNI, Port: port, Learn: d.Learn, Age: uint32(d.MACAge.Seconds())}}}}
	for _, peer := range peers {
		values = append(values, reconcile.Value{Key: peerKey(d.Name, peer), Spec: Peer{Bridge: d.Name, Address: peer}})
	}
	return values, nil
}

// port of VXLAN, UDP (RFC 7348, section 5).
const port = 4789

func treatment(d bridge.Domain) linux.BridgePort {
	return linux.BridgePort{Learn: d.Learn, Flood: d.Flood, UnknownUnicast: d.UnknownUnicast}
}

// Member renders the port of a member. An error is a *models.FieldError of the cross-connect.
func (p *Dataplane) Member(id string, d bridge.Domain, port models.Port) ([]reconcile.Value, error) {
	tag, ok := linux.ParseTag(port.Tag)
	if !port.Ethernet {
		return nil, &models.FieldError{Field: "payload", Reason: "a bridge forwards Ethernet frames; use ETHERNET"}
	}
	if !ok {
		return nil, fmt.Errorf("the port %q of connection %q has no tag of ours", port.Tag, id)
	}
	values := []reconcile.Value{{Key: portKey(id), Spec: Port{Bridge: d.Name, Key: port.Key, Needs: port.Needs, Tag: tag, Treat: treatment(d)}}}
	for _, s := range d.StaticMACs {
		if s.Connection == id {
			values = append(values, reconcile.Value{Key: macKey(d.Name, s.MAC), Spec: MAC{Bridge: d.Name, ID: id, MAC: s.MAC}})
		}
	}
	if d.ARPTermination && port.MAC != [6]byte{} {
		for _, a := range port.Addresses {
			values = append(values, reconcile.Value{Key: neighborKey(d.Name, a), Spec: Neighbor{Bridge: d.Name, Host: linux.Neighbor{Address: a, MAC: port.MAC}}})
		}
	}
	return values, nil
}

// note keeps where an interface is.
func (p *Dataplane) note(key string, m made) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.at, p.made[key].index)
	p.made[key], p.at[m.index] = m, key
}

// forget is for an interface that is about to be changed or deleted.
func (p *Dataplane) forget(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.at, p.made[key].index)
	delete(p.made, key)
}

// forgetAll of a kind: it is about to be looked at.
func (p *Dataplane) forgetAll(is func(key string) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, m := range p.made {
		if is(key) {
			delete(p.at, m.index)
			delete(p.made, key)
		}
	}
}

// index of an interface that is there.
func (p *Dataplane) index(key string) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m, ok := p.made[key]
	if !ok {
		return 0, fmt.Errorf("%s: %w", key, linux.ErrNoLink)
	}
	return m.index, nil
}

// heard is told of every change of an interface.
func (p *Dataplane) heard(l linux.Link, gone bool) {
	if l.NSID != linux.Own {
		return
	}
	p.mu.Lock()
	key, ok := p.at[l.Index]
	m := p.made[key]
	p.mu.Unlock()
	if ok && (gone || !l.Up || l.Master != m.bridge) {
		p.verify(key, m)
	}
}

// missed has everything looked at.
func (p *Dataplane) missed() {
	p.mu.Lock()
	all := make(map[string]made, len(p.made))
	for key, m := range p.made {
		all[key] = m
	}
	p.mu.Unlock()
	for key, m := range all {
		p.verify(key, m)
	}
}

// verify has an interface mended that is not as it was finished; what was heard may be from
// before that.
func (p *Dataplane) verify(key string, m made) {
	now, err := p.ns.LinkAt(linux.Place{NSID: linux.Own, Index: m.index})
	if err == nil && now.Up && now.Master == m.bridge {
		return
	}
	p.mu.Lock()
	same := p.made[key] == m // nobody is working on it
	p.mu.Unlock()
	if same {
		p.lost(key)
	}
}
