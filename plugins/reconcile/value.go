package reconcile

import "time"

// presence is what the engine knows of a value in the world.
type presence uint8

const (
	absent  presence = iota // nothing is there
	present                 // value.spec is there
	unsure                  // anything between nothing and value.spec is there
	between                 // an Update failed: anything between value.prev and value.spec is there
)

// fitness compares value.spec with what is wanted.
type fitness uint8

const (
	unknown fitness = iota
	same
	different
)

// value is a node of the graph: a key that is wanted, or exists, or that something
// depends on. Facts of the outside world are nodes, too. Once none of this is the case
// it is forgotten.
type value struct {
	key  string
	kind *kind

	// What is wanted.
	owner *claim // the claim that counts, before those of other groups; when it is
	// released and the only one, it stays until the value is deleted
	users int32 // claims that need this value

	// What is to be done.
	attempts int32   // that failed in a row
	step     step    // as decided last
	leaving  bool    // must be deleted, for good or to come back
	recreate bool    // must be deleted, whatever is wanted
	running  bool    // a worker is busy with it
	lost     bool    // became doubtful while running
	queued   bool    // in Engine.ready or kind.parked
	touched  bool    // in Engine.touched
	dead     bool    // forgotten
	gone     bool    // what others were told last: it is hollow
	outlook  outlook // see foresee.go
	timer    *time.Timer
	err      error   // of the last attempt
	state    State   // Gone: it does not count
	wait     link    // on the value that must change first, if any
	waiters  []*link // the values that wait for this one

	// What is in the world. From the start of an attempt until its success, spec is
	// what is being tried.
	is         presence
	fit        fitness // of spec to owner.spec
	spec, prev any
	holds      []*link // on what it stands: the dependencies of spec and prev
	holders    []*link // what stands on it

	// A fact, besides.
	watched  bool // its source was asked to watch it
	observed bool // Observe was called for it while its source was being asked
	there    bool // it is there, as far as the source says

	mark, pass uint64 // scratch of walks and of retrievals
}

// wanted reports whether some group wants the value.
func (v *value) wanted() bool { return v.owner != nil && !v.owner.released }

// firm reports whether what depends on the value may be applied.
func (v *value) firm() bool {
	if v.kind.facts != nil {
		return v.watched && v.there
	}
	return v.is == present && v.fit == same && !v.leaving && v.wanted()
}

// hollow reports whether nothing can stand on the value: what does must be deleted. A
// value that is neither firm nor hollow is being changed, or is not known yet: what
// stands on it stays.
func (v *value) hollow() bool {
	switch {
	case v.kind.facts != nil:
		return v.watched && !v.there
	case v.kind.descriptor != nil:
		return v.kind.seen > 0 && (v.is == absent || v.leaving)
	default:
		return true
	}
}

// undermined reports whether the value stands on something hollow.
func (v *value) undermined() bool {
	for _, l := range v.holds {
		if l.on.gone {
			return true
		}
	}
	return false
}

// hindered reports whether it needs something that nothing under way will make firm.
func (v *value) hindered() bool {
	for _, d := range v.owner.needs {
		if d.outlook == stuck && !d.firm() {
			return true
		}
	}
	return false
}

// missing returns the first of the values it needs that is not firm, or nil.
func (v *value) missing() *value {
	for _, d := range v.owner.needs {
		if !d.firm() {
			return d
		}
	}
	return nil
}

// doubt notes that what is in the world may not be what was applied.
func (v *value) doubt() {
	switch {
	case v.running:
		v.lost = true
	case v.is == present:
		v.is = unsure
	case v.is == between:
		v.recreate = true // an Update of what is half gone is nobody's business
	}
}

// clear notes that nothing is in the world.
func (v *value) clear() {
	v.is, v.fit, v.spec, v.prev = absent, unknown, nil, nil
	v.recreate, v.leaving, v.lost = false, false, false
}

// turn identifies what is wanted of the value.
func (v *value) turn() uint64 {
	if v.owner == nil {
		return 0
	}
	return v.owner.turn
}
