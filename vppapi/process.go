package vppapi

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
)

// Process identifies the VPP that answers now: it is another after every start of VPP.
// Empty while there is none, or where that cannot be known.
func (c *Client) Process() string {
	c.mu.Lock()
	k := c.conn
	c.mu.Unlock()
	if k == nil {
		return ""
	}
	return processOf(k.sock)
}

// processOf is the number and the start of the process at the other end of a socket.
func processOf(sock net.Conn) string {
	unix, ok := sock.(*net.UnixConn)
	if !ok {
		return ""
	}
	raw, err := unix.SyscallConn()
	if err != nil {
		return ""
	}
	var peer *syscall.Ucred
	if e := raw.Control(func(fd uintptr) {
		peer, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); e != nil || err != nil {
		return ""
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", peer.Pid))
	if err != nil {
		return ""
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 20 {
		return ""
	}
	return fmt.Sprintf("%d-%s", peer.Pid, fields[19]) // starttime, proc(5)
}
