package kernel

import (
	"fmt"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/linux"
)

// Status says what one end of a cross-connect has become: its interface and whether it
// carries packets, as the kernel told last. Before it is made, no interface is named. It
// is nil for an end whose parameters are not valid.
func (m *Mechanism) Status(x *models.CrossConnect, side models.Side) *models.AttachmentStatus {
	at := x.GetClient()
	if side == models.EndpointSide {
		at = x.GetEndpoint()
	}
	tag := linux.Tag{ID: x.GetId(), Side: linux.Side(side)}
	end, err := renderEnd(tag, at)
	if err != nil {
		return nil
	}
	s := &models.AttachmentStatus{Mechanism: Type, Parameters: map[string]string{NetNS: end.NetNS, Name: end.Name}}
	if p, ok := m.pairs.get(vethKey(x.GetId())); ok {
		i := sideIndex(tag.Side)
		s.Interface, s.LinkUp = p.spec.Ends[i].Name, p.links[i].Running
	}
	return s
}

// Counters are those of one end's interface, from the workload's point of view. The error
// wraps linux.ErrNoLink while there is none.
func (m *Mechanism) Counters(x *models.CrossConnect, side models.Side) (linux.Counters, error) {
	tag := linux.Tag{ID: x.GetId(), Side: linux.Side(side)}
	p, ok := m.pairs.get(vethKey(x.GetId()))
	if !ok {
		return linux.Counters{}, fmt.Errorf("connection %q: %w", x.GetId(), linux.ErrNoLink)
	}
	l, err := m.ns.LinkAt(p.links[sideIndex(tag.Side)].Place)
	if err == nil && (!l.Ours || l.Alias != tag.String()) {
		err = linux.ErrNoLink
	}
	if err != nil {
		return linux.Counters{}, fmt.Errorf("connection %q: %w", x.GetId(), err)
	}
	return l.Counters, nil
}
