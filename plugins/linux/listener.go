package linux

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// listenBuffer is the room for events that wait to be read: some thousand interfaces
// that come or go at once.
const listenBuffer = 8 << 20

// gather is how long events are left to gather before they are read: the kernel tells of each step
// that makes an interface, and who makes it is not to wait for the agent to hear of it. A connection
// takes some milliseconds.
const gather = 8 * time.Millisecond

// A Subscriber is told what happens to interfaces, one event after another, and must
// not block. Every field may be nil.
type Subscriber struct {
	// Link has come, has changed or is gone, in any namespace with an nsid. An event is
	// about the past; [Namespaces.LinkAt] tells how it is now.
	Link func(l Link, gone bool)
	// NamespaceGone: the namespace with this nsid is no more, and nothing in it.
	NamespaceGone func(nsid int)
	// Missed: the kernel had more to tell than there was room for. Look again.
	Missed func()
}

// A listener hears the kernel's events of all namespaces on one socket.
type listener struct {
	mu          sync.Mutex
	subscribers []Subscriber
	file        *os.File // nil unless started
	done        chan struct{}
}

// Subscribe adds one who is told of events, from [Namespaces.Start] until Close.
func (n *Namespaces) Subscribe(s Subscriber) {
	n.listener.mu.Lock()
	defer n.listener.mu.Unlock()
	n.listener.subscribers = append(n.listener.subscribers, s)
}

func (l *listener) start(n *Namespaces) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("listen to the kernel: %w", err)
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_LISTEN_ALL_NSID, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, listenBuffer),
		unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}),
		unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, unix.RTNLGRP_LINK),
		unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, unix.RTNLGRP_NSID),
	)
	if err != nil {
		return errors.Join(fmt.Errorf("listen to the kernel: %w", err), unix.Close(fd))
	}
	if _, err := n.nsids(none); err != nil { // learns n.self
		return errors.Join(err, unix.Close(fd))
	}
	l.file, l.done = os.NewFile(uintptr(fd), "netlink"), make(chan struct{})
	go func() {
		defer close(l.done)
		if err := l.run(n); err != nil {
			n.log.Error("changes of interfaces are no longer noticed", "err", err)
		}
	}()
	return nil
}

// none is for who knows of no namespace.
func none(int) bool { return false }

func (l *listener) stop() error {
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	<-l.done
	return err
}

// run reads events until the socket is closed.
func (l *listener) run(n *Namespaces) error {
	raw, err := l.file.SyscallConn()
	if err != nil {
		return err
	}
	buf, oob := make([]byte, bufferSize), make([]byte, 64)
	for {
		var size, oobSize int
		var failed error
		waited := false
		err := raw.Read(func(fd uintptr) bool {
			if waited {
				return true // there is something to read, and more to come
			}
			size, oobSize, _, _, failed = unix.Recvmsg(int(fd), buf, oob, 0)
			waited = failed == unix.EAGAIN
			return !waited
		})
		switch {
		case err != nil: // it was closed
			return nil
		case waited:
			time.Sleep(gather)
		case failed == unix.ENOBUFS:
			l.missed(n)
		case failed == unix.EINTR:
		case failed != nil:
			return failed
		default:
			from := sender(oob[:oobSize])
			if from == int(n.self.Load()) {
				from = Own
			}
			if err := l.tell(n, buf[:size], from); err != nil {
				n.log.Error("an event of the kernel cannot be read", "err", err)
			}
		}
	}
}

// sender is the nsid of the namespace that an event comes from.
func sender(oob []byte) int {
	all, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return Own
	}
	for _, m := range all {
		if m.Header.Level == unix.SOL_NETLINK && m.Header.Type == unix.NETLINK_LISTEN_ALL_NSID {
			return int(int32(u32(m.Data)))
		}
	}
	return Own
}

func (l *listener) tell(n *Namespaces, b []byte, nsid int) error {
	return messages(b, func(h unix.NlMsghdr, body []byte) {
		switch h.Type {
		case unix.RTM_NEWLINK, unix.RTM_DELLINK:
			// A bridge tells of its ports by messages of its own family.
			if link, ok := parseLink(body); ok && body[0] == unix.AF_UNSPEC {
				n.place(&link, nsid, false)
				l.link(link, h.Type == unix.RTM_DELLINK)
			}
		case unix.RTM_NEWNSID:
			// It may be the agent's own that was numbered, by which its events then come.
			if n.self.Load() == Own {
				n.learnSelf()
			}
		case unix.RTM_DELNSID:
			// Only those of the agent's own namespace mean the agent's numbers.
			if id, ok := parseNSID(body); ok && nsid == Own {
				n.presence.namespaceGone(id)
				l.gone(id)
			}
		}
	})
}

func (l *listener) each(f func(s Subscriber)) {
	l.mu.Lock()
	all := l.subscribers
	l.mu.Unlock()
	for _, s := range all {
		f(s)
	}
}

func (l *listener) link(link Link, gone bool) {
	l.each(func(s Subscriber) {
		if s.Link != nil {
			s.Link(link, gone)
		}
	})
}

func (l *listener) gone(nsid int) {
	l.each(func(s Subscriber) {
		if s.NamespaceGone != nil {
			s.NamespaceGone(nsid)
		}
	})
}

func (l *listener) missed(n *Namespaces) {
	n.log.Warn("more happened to interfaces than could be heard; looking again")
	n.presence.missed()
	l.each(func(s Subscriber) {
		if s.Missed != nil {
			s.Missed()
		}
	})
}
