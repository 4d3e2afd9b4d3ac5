//go:build bench

package bench

import (
	"net"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"go.patchbay.dev/tests/lab"
)

// udpFlow is small packets from one namespace to another, counted at both ends.
type udpFlow struct {
	from net.Conn
	got  atomic.Int64
}

func newUDPFlow(t *testing.T, from, to *lab.Namespace, address string) *udpFlow {
	t.Helper()
	l, err := to.ListenPacket("udp", address)
	check(t, err)
	t.Cleanup(func() { l.Close() })
	// What waits for this process is not lost on the way: the machine is busy, and the
	// socket's usual buffer holds what comes in a few milliseconds.
	raw, err := l.(*net.UDPConn).SyscallConn()
	check(t, err)
	check(t, raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20) }))
	check(t, err)
	u := &udpFlow{}
	go func() {
		buf := make([]byte, 2048)
		for {
			if _, _, err := l.ReadFrom(buf); err != nil {
				return
			}
			u.got.Add(1)
		}
	}()
	u.from, err = from.Dial(t.Context(), "udp", address)
	check(t, err)
	t.Cleanup(func() { u.from.Close() })
	return u
}

// late is how long a packet may be on its way before it counts as lost.
const late = 500 * time.Millisecond

// run sends at a rate, in packets a second, until done. A packet that cannot be sent is lost.
func (u *udpFlow) run(rate int, done <-chan struct{}) (sent, lost int) {
	payload := make([]byte, 64)
	before := u.got.Load()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	start := time.Now()
	for running := true; running; {
		select {
		case <-tick.C:
		case <-done:
			running = false
		}
		for due := int(time.Since(start).Seconds() * float64(rate)); sent < due; sent++ {
			u.from.Write(payload)
		}
	}
	for began := time.Now(); time.Since(began) < late && u.got.Load()-before < int64(sent); {
		<-tick.C
	}
	return sent, sent - int(u.got.Load()-before)
}
