package linux

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// visiting runs f, which may lead the caller's thread from one namespace to the next; the main
// thread stays, and another goes. A thread that cannot return stays locked to its goroutine
// and dies with it.
func (n *Namespaces) visiting(f func(enter func(fd int) error) error) error {
	visit := func() error {
		err := f(func(fd int) error {
			if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("enter the network namespace: %w", err)
			}
			return nil
		})
		if back := unix.Setns(n.ownFd, unix.CLONE_NEWNET); back == nil {
			runtime.UnlockOSThread()
		} else {
			n.log.Warn("a thread cannot return to the agent's network namespace and ends", "err", back)
		}
		return err
	}
	runtime.LockOSThread()
	if !onMain() {
		return visit() // to hand this to another thread would cost more than the visit
	}
	runtime.UnlockOSThread()
	return offMain(visit)
}

// onMain tells whether this is the main thread: it cannot die, and it stands for the process
// in /proc/<pid>/ns/net.
func onMain() bool { return unix.Gettid() == unix.Getpid() }

// offMain runs f on a locked thread that is not the main one. f may unlock.
func offMain(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if onMain() {
			result <- offMain(f) // on another thread, as this one is taken
			runtime.UnlockOSThread()
			return
		}
		result <- f()
	}()
	return <-result
}
