package bridge

import (
	"fmt"
	"net"
	"slices"

	"google.golang.org/protobuf/proto"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/reconcile"
)

// version of the parameters, see models.Offer.
const version = 1

// Mechanism is the end of a cross-connect that is a bridge.
type Mechanism struct{ *Plugin }

// Type is the mechanism's name in records.
func (Mechanism) Type() string { return models.BridgeMechanism }

// Validate checks the parameters. An error is a *models.FieldError whose field is the
// parameter's name.
func (Mechanism) Validate(parameters map[string]string) error {
	for key := range parameters {
		if key != models.ParamBridge {
			return field(key, "is not a parameter of %s; it has %s", models.BridgeMechanism, models.ParamBridge)
		}
	}
	if name := parameters[models.ParamBridge]; !models.ValidName(name) {
		return field(models.ParamBridge, "%q is no bridge's name; name the bridge, for instance lan1", name)
	}
	return nil
}

// Offer is what a node offers that has its bridges on a dataplane.
func (Mechanism) Offer(dataplane string) *models.Offer {
	return &models.Offer{Type: models.BridgeMechanism, Dataplane: dataplane, Class: models.BridgeMechanism, Payloads: []string{models.Ethernet}, Version: version}
}

// Register gives the engine the descriptors of what is in etcd. It is called once, before the
// engine is started.
func (m Mechanism) Register(e *reconcile.Engine, _ func(id string)) {
	reconcile.Register(e, KindMember, members(m))
	reconcile.Register(e, KindNode, nodes(m))
	e.Facts(KindBridge, "the bridge", missing{})
}

// Complete gives a record its member's MTU and MAC where it has none: the MAC is derived from
// the node's name, too, since records of two nodes may have one id.
func (m Mechanism) Complete(x *models.CrossConnect) (*models.CrossConnect, error) {
	name := models.BridgeOf(x)
	e := x.Endpoint
	switch {
	case x.Payload == models.IP:
		return nil, field("payload", "IP cannot be bridged; use payload ETHERNET")
	case len(e.Routes)+len(e.Neighbors)+len(e.Policies) > 0 || e.Mac != "":
		return nil, field("endpoint", "is bridge %s, on which nothing but its gateways is set; leave routes, neighbors, policies and mac out", name)
	}
	m.mu.Lock()
	b := m.bridges[name].wanted()
	var most uint32
	if b != nil {
		most = m.mtu(b)
	}
	m.mu.Unlock()
	if b != nil && b.Spans() && slices.Contains(m.Tunnels, x.Client.Mechanism.Type) {
		return nil, field("client.mechanism.type", "%s leads to another node, and so does the mesh of bridge %s: the two would make a loop; use a bridge with interconnect external", x.Client.Mechanism.Type, name)
	}
	if most != 0 && x.Mtu > most && x.Request == nil {
		return nil, field("mtu", "%d does not fit into bridge %s; use at most %d, or 0", x.Mtu, name, most)
	}
	x = proto.CloneOf(x)
	if most != 0 && (x.Mtu == 0 || x.Mtu > most) {
		x.Mtu = most
	}
	if x.Client.Mac == "" {
		x.Client.Mac = m.macOf(x.Id)
	}
	return x, nil
}

// macOf is the MAC of a member that is given none.
func (p *Plugin) macOf(id string) string {
	mac := models.DerivedMAC(p.Keys.Node + " " + models.Tag(id, models.ClientSide))
	return net.HardwareAddr(mac[:]).String()
}

// Member renders what a member takes and its port in the bridge, which has to wait for that.
// Without a bridge there is no port: it waits, or what was taken is kept for the bridge's return.
func (m Mechanism) Member(x *models.CrossConnect, port models.Port) ([]reconcile.Value, error) {
	name := models.BridgeOf(x)
	if !port.Ethernet {
		return nil, field("client.mechanism.type", "%s carries no Ethernet frames here; use another mechanism", x.Client.Mechanism.Type)
	}
	mac, err := net.ParseMAC(x.Client.Mac)
	if err != nil {
		return nil, field("client.mac", "%v", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.bridges[name]
	spec := Membership{Bridge: name, ID: x.Id, MAC: mac.String(), Addresses: x.Client.Addresses, Unknown: b == nil || b.desired == nil && !b.deleted}
	for i, s := range x.Client.Addresses {
		if b != nil && b.desired != nil && gateway(b.desired, bare(s)) {
			return nil, field(fmt.Sprintf("client.addresses[%d]", i), "%s is the gateway of bridge %s; use another", s, name)
		}
	}
	values := []reconcile.Value{{Key: memberKey(name, x.Id), Spec: spec}}
	if b == nil || b.desired == nil {
		return values, nil
	}
	port.Needs = values[0].Key
	more, err := m.Dataplane().Member(x.Id, m.domain(b), port)
	return append(values, more...), err
}

// Status says what the bridge's end of a cross-connect has become.
func (m Mechanism) Status(x *models.CrossConnect, _ models.Side) *models.AttachmentStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	name := models.BridgeOf(x)
	b := m.bridges[name]
	return &models.AttachmentStatus{Mechanism: models.BridgeMechanism, Interface: "bridge " + name, LinkUp: b != nil && b.desired != nil}
}
