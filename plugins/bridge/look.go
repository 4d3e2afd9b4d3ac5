package bridge

import (
	"context"
	"maps"
	"slices"

	"go.patchbay.dev/models"
)

// Lookup gives the record that counts here of a bridge, nil if there is none, and what it is
// on this node, nil if the node has no members.
func (p *Plugin) Lookup(name string) (*models.Bridge, *models.BridgeStatus) {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.bridges[name]
	if b == nil {
		return nil, nil
	}
	return b.desired, b.status
}

// Refused says why the newest record of a bridge does not count on this node, whether or not
// that has members; empty: it does, or there is none.
func (p *Plugin) Refused(name string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if b := p.bridges[name]; b != nil {
		return b.invalid
	}
	return ""
}

// Statuses are those of the bridges that this node has members of, in the order of their names.
func (p *Plugin) Statuses() (all []*models.BridgeStatus) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(p.bridges)) {
		if s := p.bridges[name].status; s != nil {
			all = append(all, s)
		}
	}
	return all
}

// Look tells what the dataplane has of a bridge now. The error wraps ErrNoBridge if it has none.
func (p *Plugin) Look(ctx context.Context, name string) (State, error) {
	return p.Dataplane().Look(ctx, name)
}
