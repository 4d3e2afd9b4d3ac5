package linux

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// settleTime is how long after a mount or unmount everything is looked at. What a
// namespace is about to be mounted on is looked at at once; only a bare unmount waits.
const settleTime = time.Second

// A waiter waits for events that concern the presence of namespaces. It has a thread of
// its own, for mountinfo tells by EPOLLPRI, which Go's poller does not wait for.
type waiter struct {
	epoll, inotify, mounts, end int // descriptors
	done                        chan struct{}
}

// open gets the descriptors; nothing is waited for before run.
func (w *waiter) open() (err error) {
	fail := func(e error) { err = errors.Join(err, e) }
	w.epoll, w.inotify, w.mounts, w.end = -1, -1, -1, -1
	var e error
	w.epoll, e = unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	fail(e)
	w.inotify, e = unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	fail(e)
	w.mounts, e = unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	fail(e)
	w.end, e = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	fail(e)
	if err == nil {
		err = errors.Join(w.add(w.inotify, unix.EPOLLIN), w.add(w.mounts, unix.EPOLLPRI), w.add(w.end, unix.EPOLLIN))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("watch for network namespaces: %w", err), w.close())
	}
	return nil
}

func (w *waiter) close() (err error) {
	for _, fd := range []int{w.epoll, w.inotify, w.mounts, w.end} {
		if fd >= 0 {
			err = errors.Join(err, unix.Close(fd))
		}
	}
	return err
}

// add waits for events of one more descriptor, until it is closed.
func (w *waiter) add(fd int, events uint32) error {
	if err := unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}); err != nil {
		return fmt.Errorf("wait for events: %w", err)
	}
	return nil
}

func (p *Presence) start() {
	p.waiter.done = make(chan struct{})
	go func() {
		defer close(p.waiter.done)
		if err := p.run(); err != nil {
			p.n.log.Error("network namespaces' coming and going is no longer noticed", "err", err)
		}
	}()
}

// stop ends run, if it was started, and frees everything.
func (p *Presence) stop() error {
	var errs []error
	if p.waiter.done != nil {
		one := [8]byte{1}
		_, err := unix.Write(p.waiter.end, one[:])
		errs = append(errs, err)
		<-p.waiter.done
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, w := range p.refs {
		p.leave(w)
		delete(p.refs, key)
	}
	return errors.Join(append(errs, p.waiter.close())...)
}

// run handles events until stop.
func (p *Presence) run() error {
	events := make([]unix.EpollEvent, 64)
	var due time.Time // of a look at everything, zero if none
	for {
		timeout := -1 // ms, for ever
		if !due.IsZero() {
			timeout = max(0, int(time.Until(due).Milliseconds())+1)
		}
		n, err := unix.EpollWait(p.waiter.epoll, events, timeout)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait for events: %w", err)
		}
		if !due.IsZero() && !time.Now().Before(due) {
			due = time.Time{}
			p.lookAgain()
		}
		for _, e := range events[:n] {
			switch fd := int(e.Fd); fd {
			case p.waiter.end:
				return nil
			case p.waiter.mounts:
				if due.IsZero() {
					due = time.Now().Add(settleTime)
				}
				p.mounted()
			case p.waiter.inotify:
				if err := p.readInotify(); err != nil {
					return err
				}
			default:
				p.ended(fd)
			}
		}
	}
}

func (p *Presence) readInotify() error {
	buf := make([]byte, 16<<10)
	n, err := unix.Read(p.waiter.inotify, buf)
	if err == unix.EAGAIN || err == unix.EINTR {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read inotify events: %w", err)
	}
	p.happened(buf[:n])
	return nil
}
