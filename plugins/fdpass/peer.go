package fdpass

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Peer is the process at the other end when the connection was made (SO_PEERCRED, unix(7)).
type Peer struct {
	UID, GID uint32
	PID      int32  // 0: the process is in a PID namespace that we cannot see
	Netns    uint64 // inode of the process's network namespace then; 0: unknown
}

// identifyPeer asks the kernel who is at the other end.
func identifyPeer(conn *net.UnixConn) (p Peer, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return p, err
	}
	outer := raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err != nil {
			err = os.NewSyscallError("getsockopt SO_PEERCRED", err)
			return
		}
		p = Peer{UID: cred.Uid, GID: cred.Gid, PID: cred.Pid, Netns: netns(int(fd), cred.Pid)}
	})
	return p, errors.Join(outer, err)
}

// netns reads the network namespace of the process by its number. The number may be
// another's by now, so it is read while a pidfd of the peer (Linux 6.5) shows that it is not;
// an older kernel leaves a moment in which a process that ends at once can be mistaken.
func netns(socket int, pid int32) uint64 {
	if pid == 0 {
		return 0
	}
	pidfd, err := unix.GetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	older := errors.Is(err, unix.ENOPROTOOPT)
	if err != nil && !older {
		return 0 // it has ended
	}
	if !older {
		defer closeAll([]int{pidfd})
	}
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/ns/net", pid), &st); err != nil {
		return 0
	}
	if !older && errors.Is(unix.PidfdSendSignal(pidfd, 0, nil, 0), unix.ESRCH) {
		return 0
	}
	return st.Ino
}
