package bfd

import (
	"testing"
	"time"
)

const quick = 500 * time.Millisecond

// The state machine of RFC 5880, 6.8.6, row by row.
func TestStates(t *testing.T) {
	for _, c := range []struct {
		is, hears, then state
		diagnostic      uint8
	}{
		{down, adminDown, down, noDiagnostic},
		{down, down, init_, noDiagnostic},
		{down, init_, up, noDiagnostic},
		{down, up, down, noDiagnostic},
		{init_, adminDown, down, peerSaysDown},
		{init_, down, init_, noDiagnostic},
		{init_, init_, up, noDiagnostic},
		{init_, up, up, noDiagnostic},
		{up, adminDown, down, peerSaysDown},
		{up, down, down, peerSaysDown},
		{up, init_, up, noDiagnostic},
		{up, up, up, noDiagnostic},
		{adminDown, down, adminDown, noDiagnostic},
		{adminDown, up, adminDown, noDiagnostic},
	} {
		s := newSession(quick, 4, 7)
		s.state = c.is
		out := s.receive(packet{state: c.hears, mine: 9, yours: 7, multiplier: 4, minTx: time.Second, minRx: quick}, time.Now())
		if s.state != c.then || s.diagnostic != c.diagnostic {
			t.Errorf("in state %d it hears %d: then it is %d with diagnostic %d, not %d with %d", c.is, c.hears, s.state, s.diagnostic, c.then, c.diagnostic)
		}
		if (out != nil) != (c.is != c.then) || out != nil && (out.state != c.then || out.yours != 9 || out.mine != 7) {
			t.Errorf("in state %d it hears %d: it says %+v at once", c.is, c.hears, out)
		}
	}
}

// hears has it come up with a peer that sends every 300 ms.
func hears(now time.Time) *session {
	s := newSession(quick, 4, 7)
	s.receive(packet{state: down, mine: 9, multiplier: 3, minTx: time.Second, minRx: 300 * time.Millisecond}, now)
	s.receive(packet{state: up, mine: 9, yours: 7, multiplier: 3, minTx: 300 * time.Millisecond, minRx: 300 * time.Millisecond}, now)
	return s
}

func TestASessionExpires(t *testing.T) {
	now := time.Now()
	s := hears(now)
	// Of the two, this side's interval is the longer; the number is the peer's.
	after := 3 * quick
	if s.state != up || !s.expires().Equal(now.Add(after)) {
		t.Fatalf("it is in state %d, and expires after %v, not %v", s.state, s.expires().Sub(now), after)
	}
	if s.expire(now.Add(after - 1)) {
		t.Error("it has expired too early")
	}
	if !s.expire(now.Add(after)) || s.state != down || s.diagnostic != timedOut || s.yours != 0 {
		t.Errorf("it has not expired: %+v", s)
	}
	if s.expire(now.Add(time.Hour)) || !s.expires().IsZero() {
		t.Error("it expires again")
	}
	s = hears(now)
	s.receive(packet{state: up, mine: 9, yours: 7, multiplier: 5, minTx: time.Second}, now.Add(time.Second))
	if got := s.expires().Sub(now); got != 6*time.Second {
		t.Errorf("with a slower peer it expires after %v", got)
	}
}

func TestIntervals(t *testing.T) {
	for _, c := range []struct {
		name        string
		is          state
		minRx       time.Duration // the peer's
		least, most time.Duration
		send        bool
	}{
		{"slow until it is up", down, time.Microsecond, 750 * time.Millisecond, time.Second, true},
		{"as configured once it is up", up, time.Microsecond, 375 * time.Millisecond, quick, true},
		{"as the peer wants it", up, 2 * time.Second, 1500 * time.Millisecond, 2 * time.Second, true},
		{"not at all", up, 0, 375 * time.Millisecond, quick, false},
	} {
		s := newSession(quick, 4, 7)
		s.state, s.peerMinRx = c.is, c.minRx
		most, send := s.pause(0)
		least, _ := s.pause(1)
		if least != c.least || most != c.most || send != c.send {
			t.Errorf("%s: from %v to %v, %v", c.name, least, most, send)
		}
	}
}

// A change of the interval is polled until the peer has confirmed it, and a poll is answered.
func TestPolls(t *testing.T) {
	s := hears(time.Now())
	if p := s.packet(); !p.poll || p.minTx != quick {
		t.Errorf("it came up and says %+v", p)
	}
	in := packet{state: up, mine: 9, yours: 7, multiplier: 3, minTx: quick, minRx: quick, poll: true}
	if out := s.receive(in, time.Now()); out == nil || !out.final || out.poll {
		t.Errorf("a poll is answered by %+v", out)
	}
	in.poll, in.final = false, true
	if out := s.receive(in, time.Now()); out != nil || s.packet().poll {
		t.Errorf("a poll that is confirmed goes on: %+v", s.packet())
	}
}

func TestAPacketOfAnotherSessionIsNotTaken(t *testing.T) {
	s := hears(time.Now())
	before := *s
	if out := s.receive(packet{state: adminDown, mine: 9, yours: 8, multiplier: 3}, time.Now().Add(time.Second)); out != nil || *s != before {
		t.Errorf("it is %+v, was %+v, and says %+v", s, before, out)
	}
}

func TestPackets(t *testing.T) {
	p := packet{diagnostic: timedOut, state: up, poll: true, multiplier: 4, mine: 0x01020304, yours: 0x05060708, minTx: quick, minRx: time.Second}
	b := p.bytes()
	if got, err := parse(append(b, 0)); err != nil || got != p {
		t.Errorf("%+v, %v; want %+v", got, err, p)
	}
	for name, change := range map[string]func([]byte) []byte{
		"too short":                      func(b []byte) []byte { return b[:23] },
		"another version":                func(b []byte) []byte { b[0] = 2 << 5; return b },
		"a length below the least":       func(b []byte) []byte { b[3] = 23; return b },
		"a length beyond the packet":     func(b []byte) []byte { b[3] = 25; return b },
		"no multiplier":                  func(b []byte) []byte { b[2] = 0; return b },
		"multipoint":                     func(b []byte) []byte { b[1] |= multipointBit; return b },
		"authenticated":                  func(b []byte) []byte { b[1] |= authenticatedBit; return b },
		"no discriminator":               func(b []byte) []byte { copy(b[4:8], make([]byte, 4)); return b },
		"up, of a session not yet known": func(b []byte) []byte { copy(b[8:12], make([]byte, 4)); return b },
	} {
		if _, err := parse(change(p.bytes())); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
