package bfd

import "time"

// session is one end of a session as RFC 5880 has it in 6.8.1, for asynchronous mode without
// echo and authentication. It does no I/O and knows no clock.
type session struct {
	interval   time.Duration // between packets in each direction, once it is up
	multiplier uint8

	state       state
	diagnostic  uint8
	mine, yours uint32 // discriminators
	poll        bool   // the other side has not confirmed the interval yet

	peerState      state
	peerMultiplier uint8
	peerMinTx      time.Duration
	peerMinRx      time.Duration
	heard          time.Time // when the last packet came
}

// slow is the least interval of a session that is not up (RFC 5880, 6.8.3).
const slow = time.Second

func newSession(interval time.Duration, multiplier uint8, discriminator uint32) *session {
	return &session{interval: interval, multiplier: multiplier, state: down, mine: discriminator,
		peerState: down, peerMinRx: time.Microsecond}
}

// receive takes in a packet (RFC 5880, 6.8.6). What it returns is to be sent at once, to
// answer a poll or because the state has changed; nil: nothing is.
func (s *session) receive(p packet, now time.Time) *packet {
	if p.yours != 0 && p.yours != s.mine {
		return nil // of a session that was
	}
	s.yours, s.heard = p.mine, now
	s.peerState, s.peerMultiplier, s.peerMinTx, s.peerMinRx = p.state, p.multiplier, p.minTx, p.minRx
	if p.final {
		s.poll = false
	}
	was := s.state
	switch {
	case s.state == adminDown:
		return nil
	case p.state == adminDown || p.state == down && s.state == up:
		if s.state != down {
			s.enter(down, peerSaysDown)
		}
	case s.state == down && p.state == down:
		s.enter(init_, noDiagnostic)
	case s.state == down && p.state == init_, s.state == init_ && p.state >= init_:
		s.enter(up, noDiagnostic)
		s.poll = true // the interval is another than before
	}
	if !p.poll && s.state == was {
		return nil
	}
	out := s.packet()
	if p.poll {
		out.poll, out.final = false, true // never both
	}
	return &out
}

func (s *session) enter(to state, diagnostic uint8) { s.state, s.diagnostic = to, diagnostic }

// expires is when the session ends unless a packet comes; zero: it is not up, nor about to be.
func (s *session) expires() time.Time {
	if s.state < init_ {
		return time.Time{}
	}
	return s.heard.Add(time.Duration(s.peerMultiplier) * max(s.interval, s.peerMinTx))
}

// expire ends a session from which no packet came in time (RFC 5880, 6.8.4), and tells
// whether it did.
func (s *session) expire(now time.Time) bool {
	if at := s.expires(); at.IsZero() || now.Before(at) {
		return false
	}
	s.enter(down, timedOut)
	s.yours, s.peerState, s.peerMinRx, s.poll = 0, down, time.Microsecond, false
	return true
}

// packet is what is to be sent from time to time.
func (s *session) packet() packet {
	return packet{diagnostic: s.diagnostic, state: s.state, poll: s.poll, multiplier: s.multiplier,
		mine: s.mine, yours: s.yours, minTx: s.minTx(), minRx: s.interval}
}

func (s *session) minTx() time.Duration {
	if s.state != up {
		return max(s.interval, slow)
	}
	return s.interval
}

// pause is the time to the next packet (RFC 5880, 6.8.7), for a random number from 0 to 1. The
// other side may want none; then it is asked again after a while whether that is still so.
func (s *session) pause(random float64) (d time.Duration, send bool) {
	d = max(s.minTx(), s.peerMinRx)
	return d - time.Duration(random*float64(d)/4), s.peerMinRx != 0
}
