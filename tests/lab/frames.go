package lab

import (
	order "encoding/binary"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// experimental is an EtherType that nobody else uses (IEEE 802, local experimental 1).
const experimental = 0x88b5

// Frames sends numbered Ethernet frames at an interface of a namespace, and counts those that
// come in there, whomever they are for.
type Frames struct {
	t   testing.TB
	fd  int
	MAC [6]byte // the interface's
}

// Broadcast is the address of everybody.
var Broadcast = [6]byte{255, 255, 255, 255, 255, 255}

// Frames opens an interface. It is closed with the test.
func (n *Namespace) Frames(t testing.TB, device string) *Frames {
	t.Helper()
	f := &Frames{t: t}
	protocol := order.NativeEndian.Uint16(order.BigEndian.AppendUint16(nil, experimental))
	mac, err := net.ParseMAC(strings.TrimSpace(n.Run(t, "cat", "/sys/class/net/"+device+"/address")))
	if err == nil {
		f.MAC = [6]byte(mac)
		err = n.within(func() (err error) {
			i, err := net.InterfaceByName(device)
			if err != nil {
				return err
			}
			if f.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(protocol)); err != nil {
				return os.NewSyscallError("socket", err)
			}
			return errors.Join(
				os.NewSyscallError("bind", unix.Bind(f.fd, &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: i.Index})),
				os.NewSyscallError("setsockopt", unix.SetsockoptInt(f.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20)))
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(f.fd) })
	return f
}

// Send sends a frame with a number from and to these addresses. It waits while the interface
// takes no more.
func (f *Frames) Send(from, to [6]byte, number uint32) {
	f.t.Helper()
	frame := make([]byte, 60)
	copy(frame, to[:])
	copy(frame[6:], from[:])
	order.BigEndian.PutUint16(frame[12:], experimental)
	order.BigEndian.PutUint32(frame[14:], number)
	for {
		_, err := unix.Write(f.fd, frame)
		switch {
		case err == nil:
			return
		case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENOBUFS):
			time.Sleep(100 * time.Microsecond)
		default:
			f.t.Fatalf("send a frame: %v", err)
		}
	}
}

// Heard reads all that comes until nothing has come for so long, and counts it by number.
func (f *Frames) Heard(quiet time.Duration) map[uint32]int {
	f.t.Helper()
	heard := map[uint32]int{}
	frame := make([]byte, 64)
	for {
		n, err := unix.Read(f.fd, frame)
		if err == nil && n >= 18 {
			heard[order.BigEndian.Uint32(frame[14:])]++
			continue
		}
		ready, err := unix.Poll([]unix.PollFd{{Fd: int32(f.fd), Events: unix.POLLIN}}, int(quiet.Milliseconds()))
		if err != nil && !errors.Is(err, unix.EINTR) {
			f.t.Fatalf("listen for frames: %v", err)
		}
		if err == nil && ready == 0 {
			return heard
		}
	}
}
