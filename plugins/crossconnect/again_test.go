package crossconnect

import (
	"context"
	"strings"
	"sync"
	"testing"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/reconcile"
)

// hub is a bridge of wires, which can be full.
type hub struct {
	*wire
	mu   sync.Mutex
	full bool
}

func (h *hub) Type() string { return "HUB" }

func (h *hub) fill(full bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.full = full
}

func (h *hub) Complete(x *models.CrossConnect) (*models.CrossConnect, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.full {
		return nil, &models.FieldError{Field: "endpoint", Reason: "is full"}
	}
	return x, nil
}

func (h *hub) Member(x *models.CrossConnect, port models.Port) ([]reconcile.Value, error) {
	return []reconcile.Value{{Key: "wire/hub:" + x.Id, Spec: port.Tag}}, nil
}

// plugged is a wire that can be attached.
type plugged struct{ *wire }

func (plugged) Type() string { return "PLUG" }

func (plugged) Attach(x *models.CrossConnect, side models.Side) (models.Port, []reconcile.Value, error) {
	key := "wire/" + x.Id
	return models.Port{Key: key, Tag: string(side)}, []reconcile.Value{{Key: key, Spec: "plug"}}, nil
}

// newHub starts the room with a hub.
func newHub(t *testing.T) (*story, *hub) {
	w := newWire()
	s := begin(t, newMemory(), w)
	h := &hub{wire: w}
	s.plugin.mechanisms["HUB"], s.plugin.mechanisms["PLUG"] = h, plugged{w}
	return s, h
}

func member(client, path string) string {
	return `{"id": "c1", "path": "` + path + `", "client": {"mechanism": {"type": "` + client + `"}}, "endpoint": {"mechanism": {"type": "HUB"}}}`
}

func TestARecordThatEndsInABridge(t *testing.T) {
	s, _ := newHub(t)
	if got := s.put("c1", member("PLUG", "")); got.State != models.State_UP || s.wire.world["wire/hub:c1"] != "client" || s.wire.world["wire/c1"] != "plug" {
		t.Errorf("status %v, world %v", got, s.wire.world)
	}
	for value, says := range map[string]string{
		member("HUB", ""):        "client.mechanism.type: a HUB is an endpoint: two that a record joined would make a loop",
		member("WIRE", ""):       "cannot join WIRE to HUB",
		member("PLUG", "direct"): "cannot join PLUG to HUB",
	} {
		if got := s.put("c1", value); got.State != models.State_FAILED || !strings.Contains(got.Reason, says) {
			t.Errorf("%s: status %v, want %s", value, got, says)
		}
	}
}

// What was refused is looked at again when what it was checked against has changed, and what
// was not stays as it is.
func TestARecordIsLookedAtAgain(t *testing.T) {
	s, h := newHub(t)
	h.fill(true)
	if got := s.put("c1", member("PLUG", "")); got.State != models.State_FAILED || got.Reason != "endpoint: is full" {
		t.Errorf("status %v", got)
	}
	s.plugin.Again("c1", "none")
	s.published("c1", `"reason":"endpoint:isfull"`)
	h.fill(false)
	s.plugin.Again("c1")
	s.published("c1", `"state":"UP"`)
	calls := s.wire.calls
	h.fill(true)
	s.plugin.Again("c1")
	s.published("c1", `"state":"FAILED"`)
	h.fill(false)
	s.plugin.Again("c1")
	s.published("c1", `"state":"UP"`)
	if s.wire.calls != calls || len(s.wire.world) != 2 {
		t.Errorf("%d calls more, world %v", s.wire.calls-calls, s.wire.world)
	}
	revision, _ := s.store.Delete(context.Background(), keys.CrossConnect("c1"))
	if err := s.plugin.AwaitGone(s.ctx, "c1", revision); err != nil {
		t.Fatal(err)
	}
	s.plugin.Again("c1")
}
