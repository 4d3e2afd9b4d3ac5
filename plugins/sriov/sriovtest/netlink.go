package sriovtest

import (
	"fmt"
	"slices"

	"go.patchbay.dev/plugins/linux"
)

// VFs are the virtual functions of a card, by its interface.
func (m *Machine) VFs(name string) ([]linux.VF, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.cards {
		if c.Name == name {
			return slices.Clone(c.vfs), nil
		}
	}
	return nil, fmt.Errorf("interface %q: %w", name, linux.ErrNoLink)
}

// SetVF sets what differs.
func (m *Machine) SetVF(name string, now, want linux.VF) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.cards {
		if c.Name == name && now != want {
			m.Sets++
			c.vfs[want.Index] = want
		}
	}
	return nil
}

// OwnLink is an interface of the machine's.
func (m *Machine) OwnLink(name string) (linux.Link, error) {
	return linux.Link{Name: name, MTU: 1500}, nil
}

// Settle has nothing to do: an interface has one name here.
func (m *Machine) Settle(linux.Link, string, int, bool) error { return nil }
