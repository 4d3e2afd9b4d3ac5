package crossconnect

import (
	"testing"
	"time"

	"go.patchbay.dev/models"
)

// has waits until the world has a value; empty: until it has none.
func (s *story) has(id, colour string) {
	s.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		s.wire.mu.Lock()
		got := s.wire.world["wire/"+id]
		s.wire.mu.Unlock()
		if got == colour {
			return
		}
		if time.Now().After(deadline) {
			s.Fatalf("the world has %q, not %q", got, colour)
		}
	}
}

func (s *story) begin(id, colour string) []byte {
	s.Helper()
	x := &models.CrossConnect{}
	if err := models.Unmarshal([]byte(xc(id, colour)), x); err != nil {
		s.Fatal(err)
	}
	data, err := s.plugin.Begin(x)
	if err != nil {
		s.Fatal(err)
	}
	return data
}

// What is begun is there before the record is, and the record finds nothing to do.
func TestBeginDoesNotWaitForTheRecord(t *testing.T) {
	s := begin(t, newMemory(), newWire())
	data := s.begin("c1", "red")
	s.has("c1", "red")
	if _, _, known := s.plugin.Lookup("c1"); known {
		t.Error("it is taken for a record already")
	}
	if got := s.put("c1", string(data)); got.State != models.State_UP {
		t.Errorf("status %v", got)
	}
	if s.wire.calls != 1 {
		t.Errorf("%d calls, want 1", s.wire.calls)
	}
}

// A put that fails takes back what was begun: to nothing, or to the record that there is.
func TestAbandonGoesBackToTheRecord(t *testing.T) {
	s := begin(t, newMemory(), newWire())
	s.begin("new", "red")
	s.has("new", "red")
	s.plugin.Abandon("new")
	s.has("new", "")

	s.put("old", xc("old", "blue"))
	s.begin("old", "red")
	s.has("old", "red")
	s.plugin.Abandon("old")
	s.has("old", "blue")
}

// One that dies before the record was put leaves nothing behind.
func TestWhatWasBegunByOneThatDiedIsRemoved(t *testing.T) {
	w := newWire()
	w.world["wire/c1"] = "red" // made, and never put on record
	s := begin(t, newMemory(), w)
	s.has("c1", "")
}

// What is about to be deleted goes at once and without a word of links that are down; the
// deletion finds nothing to do.
func TestEndDoesNotWaitForTheDeletion(t *testing.T) {
	s := begin(t, newMemory(), newWire())
	s.put("c1", xc("c1", "red"))
	var states []models.State
	s.plugin.mu.Lock()
	s.plugin.subscribers = append(s.plugin.subscribers, func(e Event) { states = append(states, e.Status.GetState()) })
	s.plugin.mu.Unlock()
	s.plugin.BeginEnd("c1")
	s.has("c1", "")
	s.wire.mu.Lock()
	s.wire.down = true
	s.wire.mu.Unlock()
	s.plugin.LinkChanged("c1")
	revision, _ := s.store.Delete(s.ctx, keys.CrossConnect("c1"))
	if err := s.plugin.AwaitGone(s.ctx, "c1", revision); err != nil {
		t.Fatal(err)
	}
	s.plugin.mu.Lock()
	defer s.plugin.mu.Unlock()
	if len(states) != 1 || states[0] != models.State_STATE_UNSPECIFIED || s.wire.calls != 2 {
		t.Errorf("told of states %v, %d calls; want only that it is gone, and 2", states, s.wire.calls)
	}
}

// A deletion that fails brings back what was taken down.
func TestAbandonedEndBringsTheRecordBack(t *testing.T) {
	s := begin(t, newMemory(), newWire())
	s.put("c1", xc("c1", "red"))
	s.plugin.BeginEnd("c1")
	s.has("c1", "")
	s.plugin.Abandon("c1")
	s.has("c1", "red")
	s.wire.mu.Lock()
	s.wire.down = true
	s.wire.mu.Unlock()
	s.plugin.LinkChanged("c1")
	s.published("c1", `"state":"DOWN"`)
}
