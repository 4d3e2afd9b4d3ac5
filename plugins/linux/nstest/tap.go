package nstest

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Tap makes a tap, or a TUN, in the namespace at a path, up, as VPP makes one; nobody
// reads from it. It is gone when what is returned is closed. The error wraps
// fs.ErrNotExist if there is no namespace; an empty path is the caller's.
func Tap(path, name string, tun bool, mac [6]byte, mtu int) (io.Closer, error) {
	if path == "" {
		path = "/proc/thread-self/ns/net"
	}
	ns, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	type result struct {
		tap *os.File
		err error
	}
	done := make(chan result, 1)
	go func() { // on a thread that ends with it
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread()
			tap, err := Tap(path, name, tun, mac, mtu)
			f, _ := tap.(*os.File)
			done <- result{f, err}
			return
		}
		err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		var r result
		if r.err = err; err == nil {
			r.tap, r.err = tap(name, tun, mac, mtu)
		}
		done <- r
	}()
	r := <-done
	if r.err != nil {
		return nil, r.err
	}
	return r.tap, nil
}

// tap makes it where the calling thread is.
func tap(name string, tun bool, mac [6]byte, mtu int) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %v", err)
	}
	f := os.NewFile(uintptr(fd), name)
	r, err := unix.NewIfreq(name)
	if err == nil {
		flags := uint16(unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_MULTI_QUEUE | unix.IFF_TAP)
		if tun {
			flags ^= unix.IFF_TAP | unix.IFF_TUN
		}
		r.SetUint16(flags)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, r)
	}
	if err == nil {
		err = dress(name, tun, mac, mtu)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("make tap %q: %w", name, err)
	}
	return f, nil
}

// dress sets address and MTU, and sets it up.
func dress(name string, tun bool, mac [6]byte, mtu int) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	if !tun && mac != [6]byte{} {
		var r struct { // struct ifreq with a struct sockaddr (linux/if.h)
			name   [unix.IFNAMSIZ]byte
			family uint16
			data   [22]byte
		}
		copy(r.name[:unix.IFNAMSIZ-1], name)
		r.family = unix.ARPHRD_ETHER
		copy(r.data[:], mac[:])
		if _, _, e := syscall.Syscall(syscall.SYS_IOCTL, uintptr(s), unix.SIOCSIFHWADDR, uintptr(unsafe.Pointer(&r))); e != 0 {
			return e
		}
	}
	r, err := unix.NewIfreq(name)
	if err == nil && mtu != 0 {
		r.SetUint32(uint32(mtu))
		err = unix.IoctlIfreq(s, unix.SIOCSIFMTU, r)
	}
	if err == nil {
		r.SetUint16(unix.IFF_UP)
		err = unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, r)
	}
	return err
}
