package linux

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Options of [New].
type Options struct {
	// AllowOwn lets references lead to the agent's own namespace.
	AllowOwn bool
	// Instance tells this agent's interfaces from those of another on the same machine,
	// as of a demonstration or a test; each leaves alone what is the other's. Empty is
	// the machine's own agent.
	Instance string
	Log      *slog.Logger
}

// Namespaces opens network namespaces by reference and works in them. Its methods may
// be called at the same time.
type Namespaces struct {
	log       *slog.Logger
	allowOwn  bool
	group     uint32
	ownFd     int
	own       identity
	boot      string
	idle      chan *conn // sockets in the agent's own namespace, between uses
	mutations atomic.Uint64
	self      atomic.Int32 // nsid that somebody gave the agent's own namespace, mostly Own
	finder    finder
	numbers   numbers
	opened    idleNamespaces
	support   support
	closed    bool // guarded by opened.mu
	listener  listener
	presence  *Presence
	// marksAddresses: the kernel keeps who set an address (IFA_PROTO).
	marksAddresses bool
	taps           bool // see WithTaps
}

// New looks at the agent's own namespace and needs no rights; what the agent cannot do
// here is said by [Namespaces.Missing]. Close it at the end.
func New(o Options) (*Namespaces, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	boot, err := bootHash()
	if err != nil {
		return nil, err
	}
	fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the agent's own network namespace: %w", err)
	}
	n := &Namespaces{log: o.Log, allowOwn: o.AllowOwn, group: groupOf(o.Instance), ownFd: fd, boot: boot, idle: make(chan *conn, 16)}
	n.self.Store(Own)
	if n.own, err = identify(fd); err == nil {
		n.marksAddresses, err = kernelAtLeast(5, 18)
	}
	if err == nil {
		n.presence, err = newPresence(n)
	}
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return n, nil
}

// Start begins to listen to the kernel for what [Namespaces.Subscribe] and
// [Namespaces.Presence] tell. Without the rights to, it listens to less and logs it.
func (n *Namespaces) Start() error {
	if missing := n.Missing(); missing != "" {
		n.log.Warn("changes of interfaces are not noticed", "reason", missing)
	} else if err := n.listener.start(n); err != nil {
		return err
	}
	n.presence.start()
	return nil
}

// Close stops listening and frees what New took. No other call may be under way; what
// was made stays.
func (n *Namespaces) Close() error {
	n.opened.mu.Lock()
	n.closed = true
	n.opened.mu.Unlock()
	n.tire()
	errs := []error{n.listener.stop(), n.presence.stop()}
	for {
		select {
		case c := <-n.idle:
			errs = append(errs, c.close())
		default:
			return errors.Join(append(errs, unix.Close(n.ownFd))...)
		}
	}
}

// Mutations counts the requests sent to the kernel that change something.
func (n *Namespaces) Mutations() uint64 { return n.mutations.Load() }

// at runs f with a socket in the agent's own namespace.
func (n *Namespaces) at(f func(c *conn) error) error {
	c, err := n.ownConn()
	if err != nil {
		return err
	}
	err = f(c)
	select {
	case n.idle <- c:
	default:
		err = errors.Join(err, c.close())
	}
	return err
}

// ownConn gives a socket in the agent's own namespace, wherever the caller's thread is:
// another goroutine runs on another thread.
func (n *Namespaces) ownConn() (c *conn, err error) {
	select {
	case c = <-n.idle:
		return c, nil
	default:
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err = newConn(&n.mutations)
	}()
	<-done
	return c, err
}

// A Namespace is open: its descriptor keeps it alive until Close. One goroutine at a
// time may use it.
type Namespace struct {
	n    *Namespaces
	ref  string
	fd   int
	id   identity
	c    *conn // in the namespace, once it is needed
	nsid int   // Unknown until it is asked for
	// cookie is SO_NETNS_COOKIE of one that came as a descriptor; 0 is not known.
	cookie uint64
	// since when it is idle, while it is.
	since time.Time
	seen  time.Time // when a path was last seen to lead to it
}

// OwnRef is the reference to the agent's own namespace, where a forwarder has its ends of
// pairs. No text of a user's becomes it, see [Canonical].
const OwnRef = "own:"

// openOwn opens the agent's own namespace.
func (n *Namespaces) openOwn() (*Namespace, error) {
	if ns := n.reuse(n.own, OwnRef); ns != nil {
		return ns, nil
	}
	fd, err := unix.FcntlInt(uintptr(n.ownFd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the agent's own network namespace: %w", err)
	}
	return &Namespace{n: n, ref: OwnRef, fd: fd, id: n.own, nsid: Own}, nil
}

// Open opens a namespace by its reference, see [Canonical]. Errors wrap [ErrBadRef],
// [ErrNoNamespace], [ErrNotNamespace], [ErrSymlink] or [ErrOwnNamespace].
func (n *Namespaces) Open(s string) (*Namespace, error) {
	if s == OwnRef {
		return n.openOwn()
	}
	if ns := n.reuseNamed(s); ns != nil {
		return ns, nil
	}
	r, err := parseRef(s)
	if err != nil {
		return nil, err
	}
	if r.path == "" {
		return n.find(r)
	}
	return n.openPath(r.path)
}

// FromPath checks that a name, path or file:// URL leads to a namespace that may be
// used, and gives its reference. Errors are those of [Namespaces.Open].
func (n *Namespaces) FromPath(s string) (string, error) {
	ns, err := n.Open(s)
	if err != nil {
		return "", err
	}
	return ns.ref, ns.Close()
}

// openPath opens the namespace at a path; without touching what else may lie there.
func (n *Namespaces) openPath(path string) (*Namespace, error) {
	flags := unix.O_PATH | unix.O_CLOEXEC
	if !magic.MatchString(path) {
		flags |= unix.O_NOFOLLOW
	}
	fd, err := unix.Open(path, flags, 0)
	switch {
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ESRCH):
		return nil, refError(path, ErrNoNamespace, "")
	case err != nil:
		return nil, fmt.Errorf("network namespace %q: open: %w", path, err)
	}
	ns, err := n.take(fd, path)
	return ns, errors.Join(err, unix.Close(fd))
}

// take makes a Namespace of what any descriptor leads to, which stays the caller's.
func (n *Namespaces) take(fd int, ref string) (*Namespace, error) {
	var st unix.Stat_t
	var fs unix.Statfs_t
	if err := errors.Join(unix.Fstat(fd, &st), unix.Fstatfs(fd, &fs)); err != nil {
		return nil, fmt.Errorf("network namespace %q: %w", ref, err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return nil, refError(ref, ErrSymlink, "")
	}
	if fs.Type != unix.NSFS_MAGIC {
		return nil, refError(ref, ErrNotNamespace, "")
	}
	id := identity{st.Dev, st.Ino}
	if id == n.own && !n.allowOwn {
		return nil, refError(ref, ErrOwnNamespace, "")
	}
	if ns := n.reuse(id, ref); ns != nil {
		return ns, nil
	}
	real, err := reopen(fd)
	if err != nil {
		return nil, fmt.Errorf("network namespace %q: open: %w", ref, err)
	}
	kind, err := unix.IoctlRetInt(real, unix.NS_GET_NSTYPE)
	switch {
	case err != nil:
		err = fmt.Errorf("network namespace %q: ask for its type: %w", ref, err)
	case kind != unix.CLONE_NEWNET:
		err = refError(ref, ErrNotNamespace, "it is a namespace of another kind")
	default:
		ns := &Namespace{n: n, ref: ref, fd: real, id: id, nsid: Unknown}
		if id == n.own {
			ns.nsid = Own
		}
		return ns, nil
	}
	return nil, errors.Join(err, unix.Close(real))
}

// reopen gives a descriptor of what another leads to. One of O_PATH is good for neither ioctl nor setns,
// so that its file is opened; the way through /proc takes several times as long.
func reopen(fd int) (int, error) {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err == nil && flags&unix.O_PATH == 0 {
		return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	}
	return unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
}

// Ref is the reference that the namespace was opened by.
func (ns *Namespace) Ref() string { return ns.ref }

// Same tells whether two references led to one namespace.
func (ns *Namespace) Same(o *Namespace) bool { return ns.id == o.id }

// File gives a descriptor of the namespace with this reference, to be passed to another
// process. Errors are those of [Namespaces.Open].
func (n *Namespaces) File(s string) (*os.File, error) {
	ns, err := n.Open(s)
	if err != nil {
		return nil, err
	}
	if ns.c != nil {
		err = ns.c.close()
	}
	return os.NewFile(uintptr(ns.fd), ns.ref), err
}

// Close lets go of the namespace. It stays open for a moment for who opens it next.
func (ns *Namespace) Close() error {
	if ns.n.keep(ns) {
		return nil
	}
	return ns.close()
}

// conn gives the socket in the namespace.
func (ns *Namespace) conn() (*conn, error) {
	if ns.c != nil {
		return ns.c, nil
	}
	err := ns.n.visiting(ns.enter)
	return ns.c, err
}

// enter opens the socket in the namespace on a thread that can enter it.
func (ns *Namespace) enter(enter func(fd int) error) (err error) {
	if ns.c != nil {
		return nil
	}
	if err = enter(ns.fd); err == nil {
		ns.c, err = newConn(&ns.n.mutations)
	}
	if err != nil {
		return fmt.Errorf("network namespace %q: %w", ns.ref, err)
	}
	return nil
}

// identify tells which namespace a descriptor leads to.
func identify(fd int) (identity, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return identity{}, fmt.Errorf("look at a network namespace: %w", err)
	}
	return identity{st.Dev, st.Ino}, nil
}
