package bfd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"go.patchbay.dev/models"
)

// port is where control packets over several hops go (RFC 5883, 5).
const port = 4784

// speaker has the sessions of the kernel's tunnels, which the agent keeps itself: they end
// with it. It is told of no session twice.
type speaker struct {
	interval   time.Duration
	multiplier uint8
	// changed is told of a session that came up or went down; left: since the other side
	// has said that it ends it. It must not call the speaker.
	changed func(p models.TunnelPath, up, left bool)
	// renewed is told of a session that has begun anew. It must not call the speaker.
	renewed func(p models.TunnelPath)

	mu       sync.Mutex
	ends     map[netip.Addr]*end
	sessions map[models.TunnelPath]*talk
	done     sync.WaitGroup
}

// end is an address of this node that sessions have.
type end struct {
	in, out *net.UDPConn
	users   int
}

// talk is a session at work. Its timer is due when something is to be sent, or when it expires.
type talk struct {
	*session
	path  models.TunnelPath
	end   *end
	next  time.Time // when a packet is to be sent
	timer *time.Timer
	at    time.Time // when that is due
}

func newSpeaker(interval time.Duration, multiplier uint8, changed func(p models.TunnelPath, up, left bool), renewed func(p models.TunnelPath)) *speaker {
	return &speaker{interval: interval, multiplier: multiplier, changed: changed, renewed: renewed, ends: map[netip.Addr]*end{}, sessions: map[models.TunnelPath]*talk{}}
}

// start begins a session.
func (s *speaker) start(p models.TunnelPath) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.ends[p.Local]
	if e == nil {
		var err error
		if e, err = open(p.Local); err != nil {
			return err
		}
		s.ends[p.Local] = e
		s.done.Go(func() { s.listen(p.Local, e.in) })
	}
	e.users++
	t := &talk{session: s.session(), path: p, end: e, at: time.Now()}
	s.sessions[p] = t
	t.timer = time.AfterFunc(0, func() { s.due(t) })
	return nil
}

func (s *speaker) session() *session {
	return newSession(s.interval, s.multiplier, 1+rand.Uint32N(1<<32-1))
}

// renew has a session begin anew if the agent was held up, so that it can neither say what it
// would have heard, nor has it been heard: that is as if it had been restarted. s.mu is held.
func (s *speaker) renew(t *talk, now time.Time) {
	if now.Sub(t.at) <= s.interval {
		return
	}
	t.session, t.next = s.session(), now
	s.renewed(t.path)
	t.wait(now)
}

// check is renew for a path that somebody is about to be told of.
func (s *speaker) check(p models.TunnelPath) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.sessions[p]; t != nil {
		s.renew(t, time.Now())
	}
}

// stop ends a session and tells the other side.
func (s *speaker) stop(p models.TunnelPath) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.sessions[p]
	if t == nil {
		return
	}
	delete(s.sessions, p)
	t.timer.Stop()
	t.enter(adminDown, diagAdminDown)
	t.send(t.packet())
	if t.end.users--; t.end.users == 0 {
		delete(s.ends, p.Local)
		t.end.in.Close()
		t.end.out.Close()
	}
}

// close ends all sessions.
func (s *speaker) close() {
	s.mu.Lock()
	var all []models.TunnelPath
	for p := range s.sessions {
		all = append(all, p)
	}
	s.mu.Unlock()
	for _, p := range all {
		s.stop(p)
	}
	s.done.Wait()
}

// due sends what is to be sent by now, and ends the session if it has expired.
func (s *speaker) due(t *talk) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions[t.path] != t {
		return
	}
	now := time.Now()
	s.renew(t, now)
	was := t.state
	expired := t.expire(now)
	if expired {
		s.tell(t, was, false)
	}
	if expired || !now.Before(t.next) {
		pause, send := t.pause(rand.Float64())
		if t.next = now.Add(pause); send {
			t.send(t.packet())
		}
	}
	t.wait(now)
}

// wait sets the timer to what comes first.
func (t *talk) wait(now time.Time) {
	t.at = t.next
	if at := t.expires(); !at.IsZero() && at.Before(t.at) {
		t.at = at
	}
	t.timer.Reset(t.at.Sub(now))
}

// send sends a packet. One that cannot be sent is as one that is lost on its way.
func (t *talk) send(p packet) {
	_, _ = t.end.out.WriteToUDPAddrPort(p.bytes(), netip.AddrPortFrom(t.path.Remote, port))
}

// tell tells of a session that has left its state, or is about to be given up.
func (s *speaker) tell(t *talk, was state, left bool) {
	if was != t.state && (was == up || t.state == up) || left {
		s.changed(t.path, t.state == up, left)
	}
}

// listen takes in what comes to an address. There is one session between two addresses, so
// that the sender says which one it is.
func (s *speaker) listen(local netip.Addr, in *net.UDPConn) {
	buf := make([]byte, 1500)
	for {
		n, from, err := in.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		p, bad := parse(buf[:n])
		if err != nil || bad != nil {
			continue
		}
		s.take(models.TunnelPath{Local: local, Remote: from.Addr().Unmap()}, p)
	}
}

func (s *speaker) take(path models.TunnelPath, p packet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.sessions[path]
	if t == nil {
		return
	}
	now := time.Now()
	s.renew(t, now)
	was := t.state
	answer := t.receive(p, now)
	s.tell(t, was, p.state == adminDown)
	if answer != nil {
		t.send(*answer)
		if t.state != was {
			pause, _ := t.pause(rand.Float64())
			t.next = now.Add(pause)
		}
	}
	t.wait(now)
}

// open gives the sockets of an address. Packets leave from a port from 49152 on, the same for
// all of a session (RFC 5881, 4), and with the largest TTL.
func open(local netip.Addr) (*end, error) {
	in, err := listen(local, port)
	if err != nil {
		return nil, fmt.Errorf("UDP port %d of %s, for BFD: %w; end what else has it, or set tunnels.detect to 0", port, local, err)
	}
	for range 64 { // one of the first is free
		var out *net.UDPConn
		if out, err = listen(local, uint16(49152+rand.IntN(65536-49152))); err == nil {
			return &end{in: in, out: out}, nil
		}
	}
	in.Close()
	return nil, fmt.Errorf("a UDP port of %s to send BFD from: %w", local, err)
}

func listen(local netip.Addr, port uint16) (*net.UDPConn, error) {
	l := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		level, name := unix.IPPROTO_IP, unix.IP_TTL
		if local.Is6() {
			level, name = unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS
		}
		failed := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, name, 255) })
		return errors.Join(failed, err)
	}}
	c, err := l.ListenPacket(context.Background(), "udp", netip.AddrPortFrom(local, port).String())
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}
