package linux

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// batchSize is how many requests go out in one system call. Their acknowledgements
// wait in the socket's receive buffer, which by default holds some 270 of them.
const batchSize = 64

// bufferSize is the largest piece of a dump that the kernel gives at once (af_netlink.c).
const bufferSize = 32 << 10

// A request is one rtnetlink message. reply, where set, is given the body of each answer.
type request struct {
	*nl.NetlinkRequest
	reply func(body []byte)
}

func newRequest(kind, flags int, parts ...nl.NetlinkRequestData) request {
	return request{NetlinkRequest: &nl.NetlinkRequest{
		NlMsghdr: unix.NlMsghdr{Type: uint16(kind), Flags: uint16(flags) | unix.NLM_F_REQUEST},
		Data:     parts,
	}}
}

func attrU8(kind int, v uint8) *nl.RtAttr   { return nl.NewRtAttr(kind, []byte{v}) }
func attrU32(kind int, v uint32) *nl.RtAttr { return nl.NewRtAttr(kind, nl.Uint32Attr(v)) }
func attrText(kind int, s string) *nl.RtAttr {
	return nl.NewRtAttr(kind, nl.ZeroTerminated(s))
}

// mutates tells whether a message type changes something: rtnetlink numbers its types
// in fours, NEW, DEL, GET, SET (linux/rtnetlink.h).
func mutates(kind uint16) bool { return (kind-unix.RTM_BASE)&3 != 2 }

// A conn is a netlink socket, mostly a route one, which acts in the namespace it was opened in.
// One goroutine at a time may use it.
type conn struct {
	fd        int
	seq       uint32
	buf       *[bufferSize]byte
	mutations *atomic.Uint64
	failed    bool // an answer may still be on its way, so it is not to be used again
}

// buffers are those of sockets that are closed: sockets come and go, and large pieces of
// fresh memory are dear.
var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// newConn opens a socket in the calling thread's namespace.
func newConn(mutations *atomic.Uint64) (*conn, error) {
	return newConnOf(unix.NETLINK_ROUTE, mutations)
}

// newConnOf opens one for another protocol of netlink.
func newConnOf(protocol int, mutations *atomic.Uint64) (*conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	for _, o := range []int{unix.NETLINK_EXT_ACK, unix.NETLINK_CAP_ACK, unix.NETLINK_GET_STRICT_CHK} {
		if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, o, 1); err != nil {
			return nil, errors.Join(fmt.Errorf("set netlink option %d: %w", o, err), unix.Close(fd))
		}
	}
	return &conn{fd: fd, buf: buffers.Get().(*[bufferSize]byte), mutations: mutations}, nil
}

func (c *conn) close() error {
	buffers.Put(c.buf)
	c.buf = nil
	return unix.Close(c.fd)
}

// cookie is the number of the socket's namespace, never used again until the machine restarts.
func (c *conn) cookie() (uint64, error) {
	v, err := unix.GetsockoptUint64(c.fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0, fmt.Errorf("read SO_NETNS_COOKIE: %w", err)
	}
	return v, nil
}

// do sends the requests and waits for all answers. The kernel works through all of them
// in order, whatever becomes of one; errs is nil when all went well and else has an
// entry for each request.
func (c *conn) do(reqs ...request) (errs []error, err error) {
	for from := 0; from < len(reqs); from += batchSize {
		part := reqs[from:min(from+batchSize, len(reqs))]
		failed, err := c.batch(part)
		if err != nil {
			c.failed = true
			return nil, err
		}
		if failed == nil {
			continue
		}
		if errs == nil {
			errs = make([]error, len(reqs))
		}
		copy(errs[from:], failed)
	}
	return errs, nil
}

// one sends a single request and returns its error.
func (c *conn) one(r request) error { return c.all(r) }

// all is do for those who need no more than the first error.
func (c *conn) all(reqs ...request) error {
	errs, err := c.do(reqs...)
	if err == nil {
		err = cmp.Or(errs...)
	}
	return err
}

func (c *conn) batch(reqs []request) (errs []error, err error) {
	first := c.seq + 1
	out := make([]byte, 0, 256*len(reqs))
	for _, r := range reqs {
		r.Flags |= unix.NLM_F_ACK
		out = append(out, c.number(r)...)
	}
	if err := unix.Sendto(c.fd, out, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, fmt.Errorf("send to the kernel: %w", err)
	}
	for left := len(reqs); left > 0; {
		err := c.receive(func(h unix.NlMsghdr, body []byte) {
			i := int(h.Seq - first)
			if i < 0 || i >= len(reqs) {
				return // of an earlier exchange that was given up
			}
			if h.Type != unix.NLMSG_ERROR {
				if r := reqs[i].reply; r != nil {
					r(body)
				}
				return
			}
			left--
			if e := ackError(h, body); e != nil {
				if errs == nil {
					errs = make([]error, len(reqs))
				}
				errs[i] = e
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return errs, nil
}

// number gives the request the next sequence number, counts it and returns its bytes.
func (c *conn) number(r request) []byte {
	c.seq++
	r.Seq = c.seq
	if mutates(r.Type) {
		c.mutations.Add(1)
	}
	b := r.Serialize()
	for len(b)%unix.NLMSG_ALIGNTO != 0 {
		b = append(b, 0)
	}
	return b
}

// errInterrupted: what a dump walks changed meanwhile, so it may lack something.
var errInterrupted = errors.New("dump was interrupted by a change")

// dump collects what parse takes from each message of a dump. A dump that a change
// interrupted is done again.
func dump[T any](c *conn, r request, parse func(body []byte) (T, bool)) ([]T, error) {
	for try := 0; ; try++ {
		var all []T
		err := c.dumpOnce(r, func(body []byte) {
			if v, ok := parse(body); ok {
				all = append(all, v)
			}
		})
		if err == nil || !errors.Is(err, errInterrupted) || try == 20 {
			return all, err
		}
	}
}

func (c *conn) dumpOnce(r request, f func(body []byte)) error {
	r.Flags |= unix.NLM_F_DUMP
	seq := c.seq + 1
	if err := unix.Sendto(c.fd, c.number(r), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("send to the kernel: %w", err)
	}
	var result error
	for done := false; !done; {
		err := c.receive(func(h unix.NlMsghdr, body []byte) {
			switch {
			case h.Seq != seq:
			case h.Type == unix.NLMSG_DONE || h.Type == unix.NLMSG_ERROR:
				done = true
				if e := ackError(h, body); e != nil {
					result = e
				}
			default:
				f(body)
			}
			if h.Seq == seq && h.Flags&unix.NLM_F_DUMP_INTR != 0 && result == nil {
				result = errInterrupted
			}
		})
		if err != nil {
			return err
		}
	}
	return result
}

// receive reads once and hands on each message in what came.
func (c *conn) receive(f func(h unix.NlMsghdr, body []byte)) error {
	n, _, err := unix.Recvfrom(c.fd, c.buf[:], 0)
	for err == unix.EINTR {
		n, _, err = unix.Recvfrom(c.fd, c.buf[:], 0)
	}
	if err != nil {
		return fmt.Errorf("receive from the kernel: %w", err)
	}
	return messages(c.buf[:n], f)
}

// messages splits what was received into messages.
func messages(b []byte, f func(h unix.NlMsghdr, body []byte)) error {
	for len(b) >= unix.NLMSG_HDRLEN {
		h := *(*unix.NlMsghdr)(unsafe.Pointer(&b[0]))
		if h.Len < unix.NLMSG_HDRLEN || int(h.Len) > len(b) {
			return fmt.Errorf("receive from the kernel: message of %d bytes in %d", h.Len, len(b))
		}
		f(h, b[unix.NLMSG_HDRLEN:h.Len])
		b = b[min(align(int(h.Len)), len(b)):]
	}
	return nil
}

// attrs walks the attributes in b.
func attrs(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofRtAttr {
			n := int(binary.NativeEndian.Uint16(b))
			if n < unix.SizeofRtAttr || n > len(b) {
				return
			}
			kind := binary.NativeEndian.Uint16(b[2:]) & nl.NLA_TYPE_MASK
			if !yield(kind, b[unix.SizeofRtAttr:n]) {
				return
			}
			b = b[min(align(n), len(b)):]
		}
	}
}

// align rounds up as netlink does with messages and attributes.
func align(n int) int { return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }

// u32 reads a number of at most four bytes.
func u32(b []byte) uint32 {
	var v [4]byte
	copy(v[:], b)
	return binary.NativeEndian.Uint32(v[:])
}

// text reads a string that may end in a zero byte.
func text(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return string(b)
}

// A KernelError is the kernel's refusal of a netlink request, with its explanation
// where it gives one. It wraps the errno.
type KernelError struct {
	Errno syscall.Errno
	Text  string // the kernel's words (NLMSGERR_ATTR_MSG), or empty
}

func (e *KernelError) Error() string {
	if e.Text == "" {
		return e.Errno.Error()
	}
	return e.Errno.Error() + " (" + e.Text + ")"
}

func (e *KernelError) Unwrap() error { return e.Errno }

// ackError reads an acknowledgement or the end of a dump; nil is success.
func ackError(h unix.NlMsghdr, body []byte) error {
	errno := -int32(u32(body[:min(4, len(body))]))
	if errno == 0 {
		return nil
	}
	e := &KernelError{Errno: syscall.Errno(errno)}
	rest := body[min(4, len(body)):]
	if h.Type == unix.NLMSG_ERROR { // the refused message's header follows, its body only without NETLINK_CAP_ACK
		rest = rest[min(unix.NLMSG_HDRLEN, len(rest)):]
	}
	if h.Flags&unix.NLM_F_ACK_TLVS != 0 {
		for kind, v := range attrs(rest) {
			if kind == unix.NLMSGERR_ATTR_MSG {
				e.Text = text(v)
			}
		}
	}
	return e
}
