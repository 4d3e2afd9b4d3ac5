package manager

import "go.patchbay.dev/models"

// Tunnels are the tunnels that this node can end.
type Tunnels interface {
	// Propose gives the mechanisms to offer the agent to for a connection, best first, of
	// the types named, in their order; several alternatives of a type may come. What they
	// take on this node is held for id. Types that cannot be proposed are left out; why is
	// joined in the error when none is left.
	Propose(id string, types []string, to *models.Agent, payload string) ([]*models.Mechanism, error)
	// Accept completes a mechanism that the agent from proposes, and holds what it takes
	// here for id; the error says why this node cannot take it.
	Accept(id string, m *models.Mechanism, from *models.Agent, payload string) (*models.Mechanism, error)
	// Agreed says why what the agent to has answered is not one of what was proposed.
	Agreed(id string, answered *models.Mechanism, to *models.Agent) error
	// Release gives back what is held for id and is not on record.
	Release(id string)
	// Path is what the tunnel at one side of a record goes through; not ok: there is none.
	Path(x *models.CrossConnect, side models.Side) (p models.TunnelPath, ok bool)
	// MTU in bytes of the payload's packets through a tunnel over an underlay of that MTU.
	MTU(m *models.Mechanism, payload string, underlay uint32) uint32
}
