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
