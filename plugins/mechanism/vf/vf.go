// Package vf is the mechanism VF: a virtual function of a network card is a port of VPP, by
// which workloads and tunnels reach the wire that the card is on.
package vf

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/reconcile"
	"go.patchbay.dev/plugins/sriov"
	"go.patchbay.dev/vppapi"
)

// Type is the mechanism's name on the wire and in records. Network Service Mesh has none.
const Type = "VF"

// Kind of values: vfport/<id>/<side>.
const Kind = "vfport"

// version of the parameters, see models.Offer.
const version = 1

// Driver is the parameter that says by what VPP has the function, where that is not to be chosen.
const Driver = "driver"

// The values of Driver.
const (
	Native   = "native"    // a driver of VPP's own
	AFPacket = "af_packet" // the kernel's driver, on whose interface VPP sends and receives
)

// natives are the virtual functions that VPP 25.10 has drivers for, by PCI vendor and device: dev_iavf, dev_octeon, dev_ena.
var natives = []string{"8086:1889", "8086:154c", "8086:37cd", "177d:a064", "177d:a0f8", "1d0f:ec20"}

// Options of a Mechanism.
type Options struct {
	VPP    *vppapi.Client
	VFs    *sriov.Plugin
	Kernel Kernel
	RxMode vppapi.RxMode
	RunDir string      // where it is noted which device VPP has by what number
	Room   vppapi.Room // for one more interface
	Log    *slog.Logger
}

// Kernel is what this room asks of plugins/linux.
type Kernel interface {
	// Raise sets an interface of the agent's own namespace up, receiving all, with this MTU in bytes.
	Raise(name string, mtu int) error
}

// Mechanism is VF.
type Mechanism struct {
	o     Options
	ports *vppapi.Ports
	notes sriov.Notes[made]
}

// New returns the mechanism.
func New(o Options) *Mechanism {
	return &Mechanism{o: o, ports: vppapi.NewPorts(o.VPP), notes: sriov.Notes[made]{Dir: o.RunDir}}
}

// Type is the mechanism's name on the wire.
func (m *Mechanism) Type() string { return Type }

// ignored are parameters that clients send unasked.
var ignored = []string{"netns", "name", "inodeURL", "MTU"}

// Validate checks the parameters; an error is a *models.FieldError.
func (m *Mechanism) Validate(parameters map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(parameters)) {
		switch {
		case key == sriov.ParamPCI, key == sriov.ParamToken, key == sriov.ParamPool, key == Driver, slices.Contains(ignored, key):
		default:
			return field(key, "is not a parameter of %s; it has %s, %s, %s and %s", Type, sriov.ParamPool, sriov.ParamToken, sriov.ParamPCI, Driver)
		}
	}
	if d := parameters[Driver]; d != "" && d != Native && d != AFPacket {
		return field(Driver, "%q is not known; use %s or %s, or leave it out", d, Native, AFPacket)
	}
	return m.o.VFs.Validate(parameters)
}

func field(name, format string, args ...any) error {
	return &models.FieldError{Field: name, Reason: fmt.Sprintf(format, args...)}
}

// Offers: VPP joins it, Ethernet only. Who is on the wire at which address, nobody here knows.
func (m *Mechanism) Offers() []*models.Offer {
	return []*models.Offer{{Type: Type, Dataplane: "vpp", Class: "LOCAL", Joins: true, Version: version, Payloads: []string{models.Ethernet}, Missing: m.o.VPP.Missing(vppapi.DevPlugin)}}
}

// Kinds are those whose world ends with VPP.
func (m *Mechanism) Kinds() []string { return []string{Kind} }

// Register gives the engine the descriptor.
func (m *Mechanism) Register(e *reconcile.Engine, changed func(id string)) {
	reconcile.Register(e, Kind, descriptor{m})
	m.ports.Watch(e.Lost, changed)
}

// Attach renders a function that is a port of VPP.
func (m *Mechanism) Attach(x *models.CrossConnect, side models.Side) (port models.Port, values []reconcile.Value, err error) {
	if x.GetPayload() == models.IP {
		return port, nil, field("payload", "is IP, and %s carries Ethernet: nobody here knows who is on the wire; ask for Ethernet", Type)
	}
	p := x.At(side).GetMechanism().GetParameters()
	spec := Port{Tag: models.Tag(x.GetId(), side), PCI: p[sriov.ParamPCI], MTU: int(x.GetMtu())}
	if spec.MTU == 0 {
		spec.MTU = defaultMTU
	}
	spec.Native = p[Driver] == Native || p[Driver] == "" && slices.Contains(natives, m.o.VFs.Kind(spec.PCI))
	driver := ""
	if spec.Native {
		driver = sriov.DriverVFIO
	}
	ready, err := m.o.VFs.RenderPort(x, side, driver, behind(x, side))
	if err != nil {
		return port, nil, err
	}
	key := Kind + "/" + x.GetId() + "/" + string(side)
	return models.Port{Key: key, Tag: spec.Tag, Ethernet: true}, []reconcile.Value{ready, {Key: key, Spec: spec}}, nil
}

// behind is the MAC of the workload at the other end: the card delivers to the function what is for that.
func behind(x *models.CrossConnect, side models.Side) [6]byte {
	other := models.ClientSide
	if side == other {
		other = models.EndpointSide
	}
	if mac, err := linux.ParseMAC(x.At(other).GetMac()); err == nil {
		return mac
	}
	return models.DerivedMAC(models.Tag(x.GetId(), other))
}

// defaultMTU in bytes, of connections that ask for none.
const defaultMTU = 1500

// Status says which interface of VPP's it has become.
func (m *Mechanism) Status(x *models.CrossConnect, side models.Side) *models.AttachmentStatus {
	s := &models.AttachmentStatus{Mechanism: Type, Parameters: map[string]string{sriov.ParamPCI: x.At(side).GetMechanism().GetParameters()[sriov.ParamPCI]}}
	if i, ok := m.o.VPP.Tagged(models.Tag(x.GetId(), side)); ok {
		s.Interface, s.LinkUp = i.Name, i.LinkUp
		s.Parameters[Driver] = Native
		if strings.HasPrefix(i.Name, hostPrefix) {
			s.Parameters[Driver] = AFPacket
		}
	}
	return s
}

// tagOf is the tag of the end that a key is of.
func tagOf(key string) linux.Tag {
	id, side, _ := strings.Cut(strings.TrimPrefix(key, Kind+"/"), "/")
	return linux.Tag{ID: id, Side: linux.Side(side)}
}
