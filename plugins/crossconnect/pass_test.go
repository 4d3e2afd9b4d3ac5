package crossconnect

import (
	"log/slog"
	"strings"
	"testing"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/reconcile"
)

// card is a mechanism whose workloads have devices of a card, if they name one or it is always so.
type card struct {
	name   string
	always bool
}

func (c card) Type() string                     { return c.name }
func (c card) Validate(map[string]string) error { return nil }
func (c card) Status(*models.CrossConnect, models.Side) *models.AttachmentStatus {
	return &models.AttachmentStatus{Mechanism: c.name}
}
func (c card) Passes(p map[string]string) bool { return c.always || p["device"] != "" }
func (c card) Pass(x *models.CrossConnect, side models.Side) ([]reconcile.Value, error) {
	return []reconcile.Value{{Key: "card/" + x.At(side).Mechanism.Parameters["device"], Spec: c.name}}, nil
}

// Pair is how two are linked that have none.
func (c card) Pair(*models.CrossConnect) ([]reconcile.Value, error) {
	return []reconcile.Value{{Key: "wire/pair", Spec: c.name}}, nil
}

func TestDevicesOfACardAreRenderedEachByItself(t *testing.T) {
	p := New(Options{Mechanisms: []Mechanism{card{"KERNEL", false}, card{"VFIO", true}}, Log: slog.New(slog.DiscardHandler)})
	for _, c := range []struct{ client, own, endpoint, far, want string }{
		{"KERNEL", "a", "KERNEL", "b", "card/a card/b"},
		{"KERNEL", "a", "VFIO", "b", "card/a card/b"},
		{"KERNEL", "", "KERNEL", "", "wire/pair"},
		{"KERNEL", "a", "KERNEL", "", "endpoint.mechanism: the client has a virtual function, which leads to its card and not to this node's dataplane"},
		{"KERNEL", "", "VFIO", "b", "client.mechanism: the endpoint has a virtual function"},
	} {
		end := func(mechanism, device string) *models.Attachment {
			return &models.Attachment{Mechanism: &models.Mechanism{Type: mechanism, Parameters: map[string]string{"device": device}}}
		}
		values, err := p.Render(&models.CrossConnect{Id: "c1", Payload: models.Ethernet, Client: end(c.client, c.own), Endpoint: end(c.endpoint, c.far)})
		var keys []string
		for _, v := range values {
			keys = append(keys, v.Key)
		}
		got := strings.Join(keys, " ")
		if err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, c.want) {
			t.Errorf("%+v: %q", c, got)
		}
	}
}
