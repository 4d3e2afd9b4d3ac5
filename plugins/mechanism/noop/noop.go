// Package noop is the mechanism NOOP: an end at which nothing is made, because it is on the
// wire that a network card leads to.
package noop

import (
	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/reconcile"
)

// Type is the mechanism's name on the wire and in records (github.com/networkservicemesh/api, mechanisms/noop).
const Type = "NOOP"

// version of the parameters, see models.Offer.
const version = 1

// Mechanism is NOOP.
type Mechanism struct{}

// New returns the mechanism.
func New() *Mechanism { return &Mechanism{} }

// Type is the mechanism's name on the wire.
func (m *Mechanism) Type() string { return Type }

// Validate accepts what clients send unasked; none of it means anything here.
func (m *Mechanism) Validate(map[string]string) error { return nil }

// Status says that there is nothing that could be down: what is there is the wire.
func (m *Mechanism) Status(*models.CrossConnect, models.Side) *models.AttachmentStatus {
	return &models.AttachmentStatus{Mechanism: Type, Interface: "wire", LinkUp: true}
}

// Offers are those of network cards: only what they lead to needs nothing here.
func (m *Mechanism) Offers() []*models.Offer {
	return []*models.Offer{{Type: Type, Dataplane: models.CardDataplane, Class: "LOCAL", Joins: true, Version: version}}
}

// Register has nothing to give the engine.
func (m *Mechanism) Register(*reconcile.Engine, func(id string)) {}

// Passes: it is beyond the card.
func (m *Mechanism) Passes(map[string]string) bool { return true }

// Pass renders nothing. Two such ends are none of this node's business.
func (m *Mechanism) Pass(x *models.CrossConnect, side models.Side) ([]reconcile.Value, error) {
	if side == models.EndpointSide && x.GetClient().GetMechanism().GetType() == Type {
		return nil, &models.FieldError{Field: "endpoint.mechanism.type", Reason: "is " + Type + " at both ends, so that there is nothing to connect; give one end a device"}
	}
	return nil, nil
}
