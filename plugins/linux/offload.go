package linux

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ethtoolValue is struct ethtool_value (linux/ethtool.h).
type ethtoolValue struct{ command, data uint32 }

// ifreq is struct ifreq with a pointer (linux/if.h).
type ifreq struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [24 - unsafe.Sizeof(uintptr(0))]byte
}

// NoOffload has the kernel finish checksums and cut segments itself before packets leave
// an interface whose other end is read by a program, which cannot: it would pass on
// packets of 64 KiB with half a checksum.
func (ns *Namespace) NoOffload(name string) error {
	err := ns.n.visiting(func(enter func(fd int) error) error {
		if err := enter(ns.fd); err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		// Without checksums there is no segmentation offload either (netdev_fix_features).
		v := ethtoolValue{command: unix.ETHTOOL_STXCSUM}
		r := ifreq{data: unsafe.Pointer(&v)}
		copy(r.name[:unix.IFNAMSIZ-1], name)
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&r))); e != 0 {
			return e
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("turn off the offload of interface %q in network namespace %q: %w", name, ns.ref, err)
	}
	return nil
}
