package bridge

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/reconcile"
)

// apply hands the engine what a bridge is on this node now: itself, its tunnels, and what the
// other nodes are told. Nothing of it depends on how many members there are. p.mu is held.
func (p *Plugin) apply(b *bridge) {
	if b.mesh == nil {
		return
	}
	b.mesh.kick()
	p.replan(b)
	values, err := p.render(b)
	b.mesh.refused = ""
	if err != nil {
		b.mesh.refused = err.Error() // what was programmed before stays
		return
	}
	p.Engine.Apply(reconcile.Change{Group: group(b.name), Revision: b.revision, Values: values})
}

func (p *Plugin) render(b *bridge) ([]reconcile.Value, error) {
	if b.desired == nil {
		return nil, nil
	}
	presence := Presence{Bridge: b.name}
	if b.desired.Spans() {
		for _, a := range p.node.Addresses {
			presence.Addresses = append(presence.Addresses, a.String())
		}
	}
	d := p.domain(b)
	values, err := p.Dataplane().Domain(d)
	if err != nil {
		return nil, err
	}
	values = append(values, reconcile.Value{Key: KindNode + "/" + b.name, Spec: presence})
	if d.VNI == 0 || len(b.mesh.plan.peers) == 0 {
		return values, nil
	}
	tunnels, err := p.Dataplane().Mesh(d, b.mesh.plan.local, b.mesh.plan.peers)
	return append(values, tunnels...), err
}

// domain is a bridge as this node makes it. p.mu is held.
func (p *Plugin) domain(b *bridge) Domain {
	m := b.desired
	d := Domain{
		Name: b.name, Learn: m.Learns(), Flood: m.Floods(), UnknownUnicast: m.FloodsUnknown(), ARPTermination: m.ArpTermination,
		MACAge: m.Age(), MTU: int(p.mtu(m)), GatewayMAC: models.DerivedMAC("bridge " + b.name),
	}
	if m.Spans() && b.mesh != nil {
		d.VNI = b.mesh.vni
	}
	for _, s := range m.Gateways {
		d.Gateways = append(d.Gateways, netip.MustParsePrefix(s))
	}
	for _, s := range m.StaticMacs {
		mac, _ := net.ParseMAC(s.Mac) // it was checked
		d.StaticMACs = append(d.StaticMACs, StaticMAC{MAC: [6]byte(mac), Connection: s.Connection})
	}
	return d
}

// defaultMTU of members in bytes, where nothing else says (RFC 894).
const defaultMTU = 1500

// overhead is what a tunnel adds to a packet: Ethernet, VXLAN, UDP (RFC 7348, section 5), and
// IPv4 or IPv6 (RFC 791, RFC 8200), bytes.
func overhead(local netip.Addr) int {
	if local.Is6() {
		return 14 + 8 + 8 + 40
	}
	return 14 + 8 + 8 + 20
}

// most is what the underlay leaves for members' packets, bytes, by the tunnels that there are
// or, before there are any, by the best address; 0: it is not known, or there are to be no
// tunnels. p.mu is held.
func (p *Plugin) most(b *models.Bridge) int {
	if !b.Spans() || p.node.Underlay == 0 || len(p.node.Addresses) == 0 {
		return 0
	}
	local := p.node.Addresses[0]
	if known := p.bridges[b.GetName()]; known != nil && known.mesh != nil && known.mesh.plan.local.IsValid() {
		local = known.mesh.plan.local
	}
	return p.node.Underlay - overhead(local)
}

// mtu of the members on this node, bytes. p.mu is held.
func (p *Plugin) mtu(b *models.Bridge) uint32 {
	if b.GetMtu() != 0 {
		return b.Mtu
	}
	return uint32(cmp.Or(min(p.most(b), defaultMTU), defaultMTU))
}

// programming is the reason of a bridge that the engine has not told of yet.
const programming = "is being programmed"

// EngineStatus takes in what the engine reports of a group, and tells whether it is one of
// this room's; the others are those of cross-connects.
func (p *Plugin) EngineStatus(s reconcile.Status) bool {
	name, ours := strings.CutPrefix(s.Group, groupPrefix)
	if !ours {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if b := p.bridges[name]; b != nil && s.State != reconcile.Applying {
		b.engine = s
		p.tell(b)
	}
	return true
}

// tell publishes what a bridge is on this node, if that has changed: beside the work, the
// newest only, and as short with many members as with few. p.mu is held.
func (p *Plugin) tell(b *bridge) {
	s := p.status(b)
	if s == nil {
		if b.status != nil {
			b.status = nil
			p.statuses.Touch(b.name)
		}
		return
	}
	if old := b.status; old.GetState() != s.State || old.GetReason() != s.Reason {
		p.Log.Info("bridge", "bridge", b.name, "state", s.State.String(), "reason", s.Reason)
	}
	b.status = s
	p.statuses.Touch(b.name)
}

// tellStatus is a bridge's status as it is written to etcd. What an agent that has restarted does not
// know yet stays as it was.
func (p *Plugin) tellStatus(name string) (data []byte, there bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.bridges[name]
	if b == nil || b.status == nil || b.status.Reason == programming {
		return nil, b != nil && b.mesh != nil
	}
	data, err := models.Marshal(b.status)
	if err != nil {
		p.Log.Error("a status cannot be written", "bridge", name, "err", err)
	}
	return data, true
}

// status puts together what the record, the engine and the other nodes say; nil: this node
// has no members. p.mu is held.
func (p *Plugin) status(b *bridge) *models.BridgeStatus {
	if b.mesh == nil {
		return nil
	}
	s := &models.BridgeStatus{Name: b.name, Revision: b.revision, Members: uint32(len(b.members))}
	if b.desired == nil {
		s.State, s.Reason = models.State_PENDING, "there is no such bridge: apply it"
		switch {
		case b.invalid != "":
			s.State, s.Reason = models.State_FAILED, b.invalid
		case b.deleted:
			s.State, s.Reason = models.State_DOWN, "it was deleted under its members: apply it again, or delete them"
		}
		return s
	}
	s.Mtu = p.mtu(b.desired)
	if b.desired.Spans() {
		s.Vni = b.mesh.vni
		if s.Vni != 0 {
			s.Peers = uint32(len(b.mesh.plan.peers))
		}
	}
	uplink := b.desired.Uplink
	switch {
	case b.invalid != "":
		s.State, s.Reason = models.State_FAILED, b.invalid
	case b.mesh.refused != "":
		s.State, s.Reason = models.State_FAILED, b.mesh.refused
	case b.engine.State == reconcile.Failed:
		s.State, s.Reason = models.State_FAILED, b.engine.Reason
	case b.engine.State == reconcile.Pending:
		s.State, s.Reason = models.State_PENDING, b.engine.Reason
	case b.engine.State != reconcile.Applied || b.engine.Group == "":
		s.State, s.Reason = models.State_PENDING, programming
	case b.mesh.vniWhy != "":
		s.State, s.Reason = models.State_FAILED, b.mesh.vniWhy
	case uplink != "" && !b.members[uplink]:
		s.State, s.Reason = models.State_DOWN, fmt.Sprintf("its uplink %q is no member on node %s: write that cross-connect", uplink, p.Keys.Node)
	case uplink != "" && p.of[uplink].fault != "":
		s.State, s.Reason = models.State_DOWN, fmt.Sprintf("its uplink %q is %s", uplink, p.of[uplink].fault)
	case b.mesh.plan.down:
		s.State, s.Reason = models.State_DOWN, b.mesh.plan.why
	default:
		s.State, s.Reason = models.State_UP, b.mesh.plan.why
	}
	return s
}
