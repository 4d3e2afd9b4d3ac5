// Package fdpass passes file descriptors over gRPC connections on unix sockets, and says
// who is at the other end of them.
//
// On the wire a descriptor travels as SCM_RIGHTS (unix(7)) along with the bytes of the
// stream, ahead of the call that speaks of it; the call names it inode://DEV/INO, which is
// the same for both processes. That is what github.com/edwarnicke/grpcfd does, which the
// clients and endpoints of Network Service Mesh use.
package fdpass

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// Limit is how many received descriptors a connection keeps. One message of the kernel's
// holds at most 253 (SCM_MAX_FD), so all of it fits.
const Limit = 256

// patience bounds the wait for a descriptor that a peer says it has passed.
const patience = 2 * time.Second

// ErrLost says that the kernel dropped descriptors because this process may have no more.
var ErrLost = errors.New("descriptors were dropped because this process has too many open (RLIMIT_NOFILE)")

// Conn is one connection, to receive from and send to; gRPC's AuthInfo of it. All methods
// may be called at the same time.
type Conn struct {
	peer Peer

	mu      sync.Mutex
	closed  bool
	held    []descriptor  // received, oldest first, at most Limit
	lost    bool          // the last that came were not all that were sent
	arrived chan struct{} // closed when something comes; nil while nobody waits
	queue   []int         // to be sent with the next bytes
}

type descriptor struct {
	inode
	fd int
}

var _ credentials.AuthInfo = (*Conn)(nil)

// FromContext returns the connection of the call that a server's handler serves; false if
// it was not made with [Credentials].
func FromContext(ctx context.Context) (*Conn, bool) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil, false
	}
	return FromPeer(p)
}

// FromPeer returns the connection of a call that a client has made, from what the option
// grpc.Peer has filled in.
func FromPeer(p *peer.Peer) (*Conn, bool) {
	c, ok := p.AuthInfo.(*Conn)
	return c, ok
}

// AuthType implements credentials.AuthInfo.
func (c *Conn) AuthType() string { return "fdpass" }

// GetCommonAuthInfo tells gRPC that nothing is encrypted, so that it refuses to send
// credentials that require it.
func (c *Conn) GetCommonAuthInfo() credentials.CommonAuthInfo {
	return credentials.CommonAuthInfo{SecurityLevel: credentials.NoSecurity}
}

// Peer says who is at the other end.
func (c *Conn) Peer() Peer { return c.peer }

// Receive returns the descriptor with this device and inode that the peer has sent, or
// waits until it comes. Each call returns a duplicate of its own, close-on-exec, that the
// caller closes. What a client sends by [Send] is here before the handler of its call runs.
// What it sends by grpcfd is too, unless more than 64 wait to be sent: it keeps the rest for
// its next write. So two seconds are long enough to wait.
//
// The errors are ctx's; context.DeadlineExceeded after two seconds, too; one that is net.ErrClosed when the connection
// is closed; or [ErrLost].
func (c *Conn) Receive(ctx context.Context, dev, ino uint64) (*os.File, error) {
	want := inode{dev, ino}
	bounded := ctx
	for {
		f, arrived, err := c.look(want)
		if err != nil {
			return nil, fmt.Errorf("receive descriptor %s: %w", want, err)
		}
		if f != nil {
			return f, nil
		}
		if bounded == ctx { // mostly it is here
			var cancel context.CancelFunc
			bounded, cancel = context.WithTimeout(ctx, patience)
			defer cancel()
		}
		select {
		case <-arrived:
		case <-bounded.Done():
			return nil, fmt.Errorf("receive descriptor %s: the peer has not sent it: %w", want, bounded.Err())
		}
	}
}

// look returns the descriptor if it is here, else what to wait for.
func (c *Conn) look(want inode) (*os.File, <-chan struct{}, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, nil, net.ErrClosed
	}
	if i := c.index(want); i >= 0 {
		fd, err := unix.FcntlInt(uintptr(c.held[i].fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return nil, nil, os.NewSyscallError("fcntl", err)
		}
		return os.NewFile(uintptr(fd), want.String()), nil, nil
	}
	if c.lost {
		return nil, nil, ErrLost
	}
	if c.arrived == nil {
		c.arrived = make(chan struct{})
	}
	return nil, c.arrived, nil
}

func (c *Conn) index(want inode) int {
	return slices.IndexFunc(c.held, func(d descriptor) bool { return d.inode == want })
}

// Send passes a duplicate of f to the peer, ahead of the next bytes that are written to the
// connection: a handler's reply, or anything that goes out before it. The error is one that
// is net.ErrClosed when the connection is closed, or says why f cannot be duplicated.
func (c *Conn) Send(f *os.File) error {
	fd, err := control(f, func(fd uintptr) (int, error) { return unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) })
	if err != nil {
		return fmt.Errorf("send descriptor %s: %w", f.Name(), err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		closeAll([]int{fd})
		return fmt.Errorf("send descriptor %s: %w", f.Name(), net.ErrClosed)
	}
	c.queue = append(c.queue, fd)
	return nil
}

// take removes the next descriptors to send from the queue, which belong to the caller
// then, and says whether there are more.
func (c *Conn) take() (fds []int, more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := min(len(c.queue), batch)
	fds, c.queue = c.queue[:n:n], c.queue[n:]
	return fds, len(c.queue) > 0
}

// put keeps the descriptors that have come. Of several for one inode the last is kept; of
// more than Limit the oldest are closed.
func (c *Conn) put(came []descriptor, lost bool) {
	var done []int // closed without the lock: what a peer sends may take its time to close
	c.mu.Lock()
	for _, d := range came {
		switch i := c.index(d.inode); {
		case c.closed:
			done = append(done, d.fd)
			continue
		case i >= 0:
			done = append(done, c.held[i].fd)
			c.held = slices.Delete(c.held, i, i+1)
		case len(c.held) == Limit:
			done = append(done, c.held[0].fd)
			c.held = slices.Delete(c.held, 0, 1)
		}
		c.held = append(c.held, d)
	}
	c.lost = lost
	c.wake()
	c.mu.Unlock()
	closeAll(done)
}

// close lets go of all descriptors and of those who wait.
func (c *Conn) close() {
	c.mu.Lock()
	done := c.queue
	for _, d := range c.held {
		done = append(done, d.fd)
	}
	c.closed, c.held, c.queue = true, nil, nil
	c.wake()
	c.mu.Unlock()
	closeAll(done)
}

func (c *Conn) wake() {
	if c.arrived != nil {
		close(c.arrived)
		c.arrived = nil
	}
}
