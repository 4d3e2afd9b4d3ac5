package fdpass

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// batch is how many descriptors go into one message, as many as grpcfd's receiver has room
// for; the kernel drops what exceeds that.
const batch = 64

// maxRights is the kernel's SCM_MAX_FD: no message holds more.
const maxRights = 253

// stream is the connection as gRPC reads and writes it. It hides what a UnixConn can do
// besides, so that nothing reads past it.
type stream struct {
	net.Conn
	unix   *net.UnixConn
	passed *Conn

	reading sync.Mutex
	oob     []byte // for the control message of a Read
	writing sync.Mutex
}

// Read keeps what descriptors come with the bytes, before it returns them.
func (s *stream) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	s.reading.Lock()
	defer s.reading.Unlock()
	n, oobn, flags, _, err := s.unix.ReadMsgUnix(b, s.oob) // sets MSG_CMSG_CLOEXEC
	if lost := flags&unix.MSG_CTRUNC != 0; oobn > 0 || lost {
		s.passed.put(rights(s.oob[:oobn]), lost)
	}
	if errors.Is(err, io.EOF) {
		err = io.EOF // as Read promises, where ReadMsgUnix wraps it
	}
	return max(n, 0), err // ReadMsgUnix says -1 with an error
}

// rights opens a control message. What cannot be identified is closed.
func rights(oob []byte) []descriptor {
	var out []descriptor
	messages, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil // not a message, so it brought nothing
	}
	for i := range messages {
		fds, err := syscall.ParseUnixRights(&messages[i])
		if err != nil {
			continue // another kind of message
		}
		for _, fd := range fds {
			id, err := identify(uintptr(fd))
			if err != nil {
				closeAll([]int{fd})
				continue
			}
			out = append(out, descriptor{inode: id, fd: fd})
		}
	}
	return out
}

// Write sends the queued descriptors ahead of b. A byte has to go with each message of
// them; the last message takes as much of b as the socket takes at once.
func (s *stream) Write(b []byte) (n int, err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	for n < len(b) {
		fds, more := s.passed.take()
		if len(fds) == 0 {
			break
		}
		end := len(b)
		if more {
			end = n + 1
		}
		sent, _, err := s.unix.WriteMsgUnix(b[n:end], unix.UnixRights(fds...), nil)
		closeAll(fds)
		if n += max(sent, 0); err != nil {
			return n, err
		}
	}
	if n == len(b) {
		return n, nil
	}
	sent, err := s.unix.Write(b[n:])
	return n + sent, err
}

// Close closes the connection and all descriptors that it keeps.
func (s *stream) Close() error {
	err := s.unix.Close()
	s.passed.close()
	return err
}

// closeAll closes descriptors. That they are closed afterwards holds even where close(2)
// reports an error, which tells of data that somebody else could not write.
func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}
