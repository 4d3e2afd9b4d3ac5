package kernel

import (
	"fmt"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/sriov"
)

// Status says what one end of a cross-connect has become: its interface and whether it
// carries packets, as the kernel told last. Before it is made, no interface is named. It
// is nil for an end whose parameters are not valid.
func (m *Mechanism) Status(x *models.CrossConnect, side models.Side) *models.AttachmentStatus {
	tag := linux.Tag{ID: x.GetId(), Side: linux.Side(side)}
	end, err := renderEnd(tag, x.At(side))
	if err != nil {
		return nil
	}
	s := &models.AttachmentStatus{Mechanism: Type, Parameters: map[string]string{NetNS: end.NetNS, Name: end.Name}}
	if pci := x.At(side).GetMechanism().GetParameters()[sriov.ParamPCI]; pci != "" {
		s.Parameters[sriov.ParamPCI] = pci
	}
	p, i, ok := m.pairs.of(tag)
	if !ok {
		return s
	}
	s.Interface, s.LinkUp = p.spec.Ends[i].Name, p.links[i].Running
	switch {
	case !isPort(p.key):
	case p.spec.Bridged:
		s.Interface = p.spec.Ends[1].Name // the bridge's end
	default:
		s.Parameters[PortKind] = portOf(p)
		port, there := m.vpp.Tagged(tag.String())
		s.Interface, s.LinkUp = port.Name, there && s.LinkUp && port.LinkUp
	}
	return s
}

// Counters are those of one end's interface, from the workload's point of view. The error
// wraps linux.ErrNoLink while there is none.
func (m *Mechanism) Counters(x *models.CrossConnect, side models.Side) (linux.Counters, error) {
	tag := linux.Tag{ID: x.GetId(), Side: linux.Side(side)}
	p, i, ok := m.pairs.of(tag)
	if !ok {
		return linux.Counters{}, fmt.Errorf("connection %q: %w", x.GetId(), linux.ErrNoLink)
	}
	l, err := m.ns.LinkAt(p.links[i].Place)
	if err == nil && (!l.Ours || l.Alias != tag.String()) {
		err = linux.ErrNoLink
	}
	if err != nil {
		return linux.Counters{}, fmt.Errorf("connection %q: %w", x.GetId(), err)
	}
	return l.Counters, nil
}
