package bfd

import (
	"encoding/binary"
	"errors"
	"time"
)

// state of a session (RFC 5880, 4.1).
type state uint8

const (
	adminDown state = iota
	down
	init_
	up
)

// Why a session went to its state (RFC 5880, 4.1).
const (
	noDiagnostic  = 0
	timedOut      = 1 // no packet came in time
	peerSaysDown  = 3
	diagAdminDown = 7
)

// packet is a control packet without authentication (RFC 5880, 4.1).
type packet struct {
	diagnostic  uint8
	state       state
	poll, final bool
	multiplier  uint8
	mine, yours uint32 // discriminators: the sender's, and what it knows of the receiver's
	minTx       time.Duration
	minRx       time.Duration
}

// Layout of a control packet.
const (
	packetSize       = 24
	version          = 1
	pollBit          = 1 << 5
	finalBit         = 1 << 4
	authenticatedBit = 1 << 2
	multipointBit    = 1
)

func (p packet) bytes() []byte {
	b := make([]byte, packetSize)
	b[0] = version<<5 | p.diagnostic
	b[1] = byte(p.state) << 6
	if p.poll {
		b[1] |= pollBit
	}
	if p.final {
		b[1] |= finalBit
	}
	b[2], b[3] = p.multiplier, packetSize
	binary.BigEndian.PutUint32(b[4:], p.mine)
	binary.BigEndian.PutUint32(b[8:], p.yours)
	binary.BigEndian.PutUint32(b[12:], uint32(p.minTx.Microseconds()))
	binary.BigEndian.PutUint32(b[16:], uint32(p.minRx.Microseconds()))
	return b // and no echo
}

var errPacket = errors.New("not a BFD control packet that this speaker takes")

// parse refuses what is to be discarded whatever the session is (RFC 5880, 6.8.6).
func parse(b []byte) (p packet, err error) {
	if len(b) < packetSize || b[0]>>5 != version || b[3] < packetSize || int(b[3]) > len(b) || b[1]&(authenticatedBit|multipointBit) != 0 {
		return p, errPacket
	}
	p = packet{
		diagnostic: b[0] & 0x1f, state: state(b[1] >> 6), poll: b[1]&pollBit != 0, final: b[1]&finalBit != 0, multiplier: b[2],
		mine: binary.BigEndian.Uint32(b[4:]), yours: binary.BigEndian.Uint32(b[8:]),
		minTx: time.Duration(binary.BigEndian.Uint32(b[12:])) * time.Microsecond,
		minRx: time.Duration(binary.BigEndian.Uint32(b[16:])) * time.Microsecond,
	}
	if p.multiplier == 0 || p.mine == 0 || p.yours == 0 && p.state > down {
		return p, errPacket
	}
	return p, nil
}
