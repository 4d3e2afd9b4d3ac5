package vppfake

// Fault is what befalls a VPP at a message.
type Fault int

// The faults.
const (
	Die    Fault = iota // as Close
	Freeze              // as Hang
	Cut                 // its connections end, and it goes on with what it holds
)

// strike is a fault to come.
type strike struct {
	in    int // so many mutating messages; 0: none
	fault Fault
	done  bool // after the message was carried out, but before it is answered
	now   bool // this is the message
	was   bool // it has happened
}

// Strike has a fault befall it at the n-th mutating message from now on: before that
// message is carried out or, with done, after that, but before it is answered.
func (v *VPP) Strike(n int, f Fault, done bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.strike = strike{in: n, fault: f, done: done}
}

// Struck tells whether what Strike announced has happened.
func (v *VPP) Struck() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.strike.was
}

// struck is what befalls VPP at a mutating message, if it is the one: done says whether
// the message has been carried out. What it returns says whether VPP goes on with the
// client. v.mu is held, but for as long as VPP is hung.
func (v *VPP) struck(w *world, done bool) (on bool) {
	s := &v.strike
	if !done && s.in > 0 {
		s.in--
		s.now = s.in == 0
	}
	if !s.now || s.done != done {
		return true
	}
	s.now, s.was = false, true
	switch s.fault {
	case Die:
		v.die()
	case Cut:
		v.disconnect()
		return false
	case Freeze:
		v.hung = true
	}
	for v.hung && v.world == w {
		v.changed.Wait()
	}
	return v.world == w
}
