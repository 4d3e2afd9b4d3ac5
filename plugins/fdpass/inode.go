package fdpass

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// inode identifies a file, whatever descriptor it is reached by.
type inode struct{ dev, ino uint64 }

func (i inode) String() string { return fmt.Sprintf("inode://%d/%d", i.dev, i.ino) }

// URL names the file that f is open on, inode://DEV/INO with both in decimal, as a call
// speaks of a descriptor that it passes.
func URL(f *os.File) (string, error) {
	i, err := control(f, identify)
	if err != nil {
		return "", fmt.Errorf("identify %s: %w", f.Name(), err)
	}
	return i.String(), nil
}

// ParseURL reads what URL writes, and nothing else.
func ParseURL(s string) (dev, ino uint64, err error) {
	rest, ok := strings.CutPrefix(s, "inode://")
	d, i, ok2 := strings.Cut(rest, "/")
	dev, err1 := strconv.ParseUint(d, 10, 64)
	ino, err2 := strconv.ParseUint(i, 10, 64)
	if !ok || !ok2 || err1 != nil || err2 != nil {
		return 0, 0, fmt.Errorf("%.100q is not of the form inode://DEV/INO", s)
	}
	return dev, ino, nil
}

// identify looks at a descriptor that may be a peer's: AT_STATX_DONT_SYNC so that no file
// system of the peer's (FUSE, NFS) is asked, which could let us wait for ever.
func identify(fd uintptr) (inode, error) {
	var st unix.Statx_t
	if err := unix.Statx(int(fd), "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_INO, &st); err != nil {
		return inode{}, os.NewSyscallError("statx", err)
	}
	return inode{dev: unix.Mkdev(st.Dev_major, st.Dev_minor), ino: st.Ino}, nil
}

// control runs fn on f's descriptor, which stays open and as it is meanwhile.
func control[T any](f *os.File, fn func(fd uintptr) (T, error)) (out T, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return out, err
	}
	if outer := raw.Control(func(fd uintptr) { out, err = fn(fd) }); outer != nil {
		return out, outer
	}
	return out, err
}
