package tunnel

import (
	"context"
	"net/netip"
	"strconv"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/reconcile"
	"go.patchbay.dev/vppapi"
)

// Maker makes one kind of tunnel in VPP. T is what VPP is told of one; it never changes.
type Maker[T comparable] struct {
	Plugin vppapi.Plugin
	Create func(*vppapi.Client, context.Context, T) (vppapi.Index, error)
	Delete func(*vppapi.Client, context.Context, vppapi.Index, T) error
	List   func(*vppapi.Client, context.Context) ([]vppapi.Tunnel[T], error)
	// Collide tells whether VPP cannot have both.
	Collide func(a, b T) bool
	// Show says in words what VPP tells a tunnel apart by, and nothing secret.
	Show func(T) string
	// Local is the address that it ends at here.
	Local func(T) netip.Addr
	// Complete fills in what VPP does not tell of a tunnel that was found; nil: it tells all.
	Complete func(found *T, want T)
}

// Port is how VPP sees a tunnel that it is to join with something.
type Port[T comparable] struct {
	Tunnel   T
	Ethernet bool // its interface carries frames, else IP packets
	// MAC and PeerMAC are those of both ends, where frames carry IP packets.
	MAC, PeerMAC [6]byte
	// Hop says that VPP wants to be told a next hop even though there is one peer.
	Hop bool
}

// Mechanism is one kind of tunnel as the agent's other rooms see it: it offers, validates,
// renders and makes tunnels in VPP. A folder under plugins/mechanism adds what is its own.
type Mechanism[T comparable] struct {
	Kind
	room  *Room
	name  string // of its values: <name>/<id>/<side>
	maker Maker[T]
	port  func(id string, p Params, at Place) (Port[T], error)
	ports *vppapi.Ports
}

// NewMechanism makes a kind known to the room. port says what VPP is to make of parameters
// that were checked.
func NewMechanism[T comparable](r *Room, k Kind, name string, maker Maker[T], port func(id string, p Params, at Place) (Port[T], error)) *Mechanism[T] {
	r.add(k)
	m := &Mechanism[T]{Kind: k, room: r, name: name, maker: maker, port: port}
	if r.o.VPP != nil {
		m.ports = vppapi.NewPorts(r.o.VPP)
	}
	return m
}

// Offers say which dataplanes of this node can serve the mechanism now, and what is missing.
func (m *Mechanism[T]) Offers() []*models.Offer { return m.room.offers(m.Kind, m.maker.Plugin) }

// Validate checks the parameters. An error is a *models.FieldError whose field is the
// parameter's name.
func (m *Mechanism[T]) Validate(parameters map[string]string) error {
	return Validate(m.Kind, parameters)
}

// Register gives the engine the descriptor; changed is told of cross-connects whose tunnel in
// VPP has come up or gone. It is called once, before VPP's client is started.
func (m *Mechanism[T]) Register(e *reconcile.Engine, changed func(id string)) {
	if m.ports == nil {
		return
	}
	reconcile.Register(e, m.name, descriptor[T]{m})
	m.ports.Watch(e.Lost, changed)
}

// Kinds are those whose world ends with VPP.
func (m *Mechanism[T]) Kinds() []string {
	if m.ports == nil {
		return nil
	}
	return []string{m.name}
}

// At reads the parameters of the tunnel at one side of a record, for a device of the kernel,
// too. An error is a *models.FieldError, its field as in the record.
func (m *Mechanism[T]) At(x *models.CrossConnect, side models.Side) (Params, Place, error) {
	if !carries(m.Kind, x.GetPayload()) {
		return nil, Place{}, field("payload", "%s cannot be carried by %s; use %s", orEthernet(x.GetPayload()), m.Type(), m.Payloads()[0])
	}
	p := Params(x.At(side).GetMechanism().GetParameters())
	at, err := p.Place(side, x.GetPayload())
	return p, at, err
}

// ethernetHeader is what VPP counts with a frame against the MTU of the interface that it
// goes into (GRE does; a packet of the full size would be dropped without a word), bytes.
const ethernetHeader = 14

// Attach renders the end of a tunnel that is in VPP.
func (m *Mechanism[T]) Attach(x *models.CrossConnect, side models.Side) (models.Port, []reconcile.Value, error) {
	p, at, err := m.At(x, side)
	if err == nil && m.ports == nil {
		err = field(string(side)+".mechanism.type", "%s ends in VPP, which this node does not have, or at a workload's own interface; use another mechanism", m.Type())
	}
	if err != nil {
		return models.Port{}, nil, err
	}
	in, err := m.port(x.GetId(), p, at)
	if err != nil {
		return models.Port{}, nil, err
	}
	spec := Interface[T]{Tag: models.Tag(x.GetId(), side), Tunnel: in.Tunnel, IP: x.GetPayload() == models.IP, MTU: int(x.GetMtu()), MAC: in.MAC}
	if in.Ethernet && !spec.IP && spec.MTU != 0 {
		spec.MTU += ethernetHeader
	}
	port := models.Port{Key: m.key(x.GetId(), side), Tag: spec.Tag, Ethernet: in.Ethernet, MAC: in.PeerMAC}
	if spec.IP && (in.Ethernet || in.Hop) {
		port.Addresses = Hops()
	}
	return port, []reconcile.Value{{Key: port.Key, Spec: spec}}, nil
}

// Between renders a tunnel of Ethernet frames with mtu bytes of payload that is no side of a
// cross-connect: VPP shows it under an id that none can have.
func (m *Mechanism[T]) Between(id string, t T, mtu int) (models.Port, reconcile.Value) {
	spec := Interface[T]{Tag: models.Tag(id, models.EndpointSide), Tunnel: t}
	if mtu != 0 {
		spec.MTU = mtu + ethernetHeader
	}
	port := models.Port{Key: m.key(id, models.EndpointSide), Tag: spec.Tag, Ethernet: true}
	return port, reconcile.Value{Key: port.Key, Spec: spec}
}

func (m *Mechanism[T]) key(id string, side models.Side) string {
	return m.name + "/" + id + "/" + string(side)
}

// Status says what one end of a tunnel has become; nil for one whose parameters are not valid.
func (m *Mechanism[T]) Status(x *models.CrossConnect, side models.Side) *models.AttachmentStatus {
	p, at, err := m.At(x, side)
	if err != nil {
		return nil
	}
	s := &models.AttachmentStatus{Mechanism: m.Type(), Parameters: p}
	if m.ports == nil || x.GetPath() == models.DirectPath {
		// It is the workload's own interface, of which the other side tells.
		s.Interface, s.LinkUp = m.DeviceKind(at.Local, at.Payload), true
	} else if i, ok := m.room.o.VPP.Tagged(models.Tag(x.GetId(), side)); ok {
		s.Interface, s.LinkUp = i.Name, i.LinkUp
	}
	return s
}

// Itoa writes a number as a parameter.
func Itoa[N ~uint16 | ~uint32](n N) string { return strconv.FormatUint(uint64(n), 10) }
