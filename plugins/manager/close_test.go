package manager

import "testing"

// A refresh failed, and what was before could not be put back yet: the client closes.
func TestWhatIsClosedIsNotBroughtBack(t *testing.T) {
	a := newLab(t).start("a")
	a.serve("fw-1", "fw")
	c := a.connect("c1", "fw")
	record, _, _ := a.m.known("c1")
	mine := new(mark)
	a.m.mu.Lock()
	a.m.undoing["c1"] = mine
	a.m.mu.Unlock()
	a.close(c)
	if err := a.m.undoLater("c1", record, mine); err != nil {
		t.Error(err)
	}
	if r := a.records(); len(r) > 0 {
		t.Errorf("there is %v", r)
	}
}
