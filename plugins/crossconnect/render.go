package crossconnect

import (
	"errors"
	"fmt"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/reconcile"
)

// Render checks a cross-connect as a whole and gives the values that bring it into
// being. Its error names the field and the remedy.
func (p *Plugin) Render(x *models.CrossConnect) ([]reconcile.Value, error) {
	if err := models.ValidateCrossConnect(x); err != nil {
		return nil, err
	}
	c, err1 := p.mechanism(models.ClientSide, x.Client)
	e, err2 := p.mechanism(models.EndpointSide, x.Endpoint)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	if _, ok := c.(Bridger); ok {
		return nil, &models.FieldError{Field: "client.mechanism.type",
			Reason: "a " + c.Type() + " is an endpoint: two that a record joined would make a loop; make the client a workload's"}
	}
	if b, ok := e.(Bridger); ok {
		return p.bridge(x, c, b)
	}
	if values, ok, err := pass(x, c, e); ok {
		return values, err
	}
	if c.Type() == e.Type() && pairs(c, x.Path) {
		return c.(Pairer).Pair(x)
	}
	if p.joiner == nil || x.Path == models.DirectPath {
		if values, ok, err := place(x, c, e); ok {
			return values, err
		}
	}
	ca, ok1 := c.(Attacher)
	ea, ok2 := e.(Attacher)
	if !ok1 || !ok2 || p.joiner == nil {
		return nil, p.cannotJoin(x)
	}
	return p.join(x, ca, ea)
}

// pass renders two ends that each have a device of their own; false: neither has.
func pass(x *models.CrossConnect, c, e Mechanism) ([]reconcile.Value, bool, error) {
	passes := func(m Mechanism, a *models.Attachment) bool {
		p, ok := m.(Passer)
		return ok && p.Passes(a.Mechanism.Parameters)
	}
	own, far := passes(c, x.Client), passes(e, x.Endpoint)
	if !own && !far {
		return nil, false, nil
	}
	if own != far {
		which, other := models.ClientSide, models.EndpointSide
		if far {
			which, other = other, which
		}
		return nil, true, &models.FieldError{Field: string(other) + ".mechanism", Reason: fmt.Sprintf(
			"the %s has a virtual function, which leads to its card and not to this node's dataplane; give this end one, too, or NOOP if it is on the wire", which)}
	}
	values, err := c.(Passer).Pass(x, models.ClientSide)
	if err != nil {
		return nil, true, err
	}
	more, err := e.(Passer).Pass(x, models.EndpointSide)
	return append(values, more...), true, err
}

// pairs tells whether two ends of a mechanism are linked with nothing in between.
func pairs(m Mechanism, path string) bool {
	if _, ok := m.(Pairer); !ok || path == models.ForwarderPath {
		return false
	}
	choosy, ok := m.(PathPairer)
	return !ok || choosy.Pairs(path)
}

// place renders a tunnel that ends at the workload itself; false: these two cannot.
func place(x *models.CrossConnect, c, e Mechanism) ([]reconcile.Value, bool, error) {
	for _, end := range []struct {
		workload, tunnel Mechanism
		side, far        models.Side
	}{{c, e, models.ClientSide, models.EndpointSide}, {e, c, models.EndpointSide, models.ClientSide}} {
		placer, ok1 := end.workload.(Placer)
		deviser, ok2 := end.tunnel.(Deviser)
		if !ok1 || !ok2 {
			continue
		}
		device, err := deviser.Device(x, end.far)
		if err != nil {
			return nil, true, err
		}
		values, err := placer.Place(x, end.side, device)
		return values, true, err
	}
	return nil, false, nil
}

// join renders both attachments and what is between them.
func (p *Plugin) join(x *models.CrossConnect, client, endpoint Attacher) ([]reconcile.Value, error) {
	a, values, err := client.Attach(x, models.ClientSide)
	if err != nil {
		return nil, err
	}
	b, more, err := endpoint.Attach(x, models.EndpointSide)
	if err != nil {
		return nil, err
	}
	between, err := p.joiner.Join(x, a, b)
	if err != nil {
		return nil, err
	}
	return append(append(values, more...), between...), nil
}

// bridge renders a workload's attachment and its membership.
func (p *Plugin) bridge(x *models.CrossConnect, client Mechanism, b Bridger) ([]reconcile.Value, error) {
	a, ok := client.(Attacher)
	if !ok || x.Path == models.DirectPath {
		return nil, p.cannotJoin(x)
	}
	x, err := b.Complete(x)
	if err != nil {
		return nil, err
	}
	port, values, err := a.Attach(x, models.ClientSide)
	if err != nil {
		return nil, err
	}
	more, err := b.Member(x, port)
	return append(values, more...), err
}

func (p *Plugin) cannotJoin(x *models.CrossConnect) error {
	c, e := x.Client.Mechanism.Type, x.Endpoint.Mechanism.Type
	switch {
	case x.Path == models.ForwarderPath:
		return &models.FieldError{Field: "path", Reason: "this node has no forwarder for " + c + " and " + e + "; leave path empty"}
	case c == e:
		return &models.FieldError{Field: "path", Reason: fmt.Sprintf("two ends of %s are linked here with path direct only", c)}
	}
	return &models.FieldError{Field: "endpoint.mechanism.type",
		Reason: fmt.Sprintf("this node's dataplane cannot join %s to %s; use the same mechanism at both ends", c, e)}
}

// Check says why this node would refuse a cross-connect; its error names the field.
func (p *Plugin) Check(x *models.CrossConnect) error {
	_, err := p.Render(x)
	return err
}

// CheckMechanism says why this node would refuse a mechanism at one end.
func (p *Plugin) CheckMechanism(side models.Side, m *models.Mechanism) error {
	_, err := p.mechanism(side, &models.Attachment{Mechanism: m})
	return err
}

// Hint gives the parameters of a mechanism that this node settles itself, if there are any.
func (p *Plugin) Hint(mechanism, id string, side models.Side, path func() string) map[string]string {
	if h, ok := p.mechanisms[mechanism].(Hinter); ok {
		return h.Hint(id, side, path())
	}
	return nil
}

// mechanism finds the mechanism of one end and has it check the parameters.
func (p *Plugin) mechanism(side models.Side, a *models.Attachment) (Mechanism, error) {
	m := p.mechanisms[a.Mechanism.Type]
	if m == nil {
		return nil, &models.FieldError{Field: string(side) + ".mechanism.type",
			Reason: fmt.Sprintf("this node offers no %q; it offers %s", a.Mechanism.Type, p.types())}
	}
	err := m.Validate(a.Mechanism.Parameters)
	var field *models.FieldError
	if errors.As(err, &field) {
		return nil, &models.FieldError{Field: string(side) + ".mechanism.parameters." + field.Field, Reason: field.Reason}
	}
	return m, err
}
