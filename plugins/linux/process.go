package linux

import (
	"errors"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// pidfdThread lets a pidfd stand for a thread (PIDFD_THREAD, since Linux 6.9).
const pidfdThread = unix.O_EXCL

// anchorProcess has the kernel tell of the end of the process whose namespace it is. A
// pidfd does not keep the process's namespace alive. The agent itself needs none.
func (p *Presence) anchorProcess(w *watched) {
	if w.pid >= 0 {
		return
	}
	part := strings.Split(w.at, "/") // "", proc, pid, task, tid, ns, net
	pid, err := strconv.Atoi(part[2])
	if err != nil {
		return
	}
	fd := -1
	if part[3] == "task" {
		if tid, err := strconv.Atoi(part[4]); err == nil {
			fd, _ = unix.PidfdOpen(tid, pidfdThread) // on older kernels the process must do
		}
	}
	if fd < 0 {
		fd, err = unix.PidfdOpen(pid, 0)
	}
	if err == nil {
		err = p.waiter.add(fd, unix.EPOLLIN)
	}
	switch {
	case err == nil:
		w.pid = fd
		p.pids[fd] = w
	case !errors.Is(err, unix.ESRCH):
		p.n.log.Warn("the end of a network namespace's process will not be noticed", "key", w.key, "err", err)
	}
}

// leaveProcess stops waiting for the end of a process.
func (p *Presence) leaveProcess(w *watched) {
	if w.pid < 0 {
		return
	}
	delete(p.pids, w.pid)
	if err := unix.Close(w.pid); err != nil {
		p.n.log.Warn("close a pidfd", "err", err)
	}
	w.pid = -1
}

// ended is called when a process that was waited for has ended.
func (p *Presence) ended(fd int) {
	p.change(func() []observation {
		w := p.pids[fd]
		if w == nil {
			return nil
		}
		p.leaveProcess(w)
		return p.check(w, false)
	})
}
