package fdpass

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pair returns the two ends of a connection.
func pair(t testing.TB) (a, b *stream) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	end := func(fd int) *stream {
		f := os.NewFile(uintptr(fd), "socketpair")
		defer f.Close()
		c, err := net.FileConn(f)
		if err != nil {
			t.Fatal(err)
		}
		s, _, err := wrap(c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s.(*stream)
	}
	return end(fds[0]), end(fds[1])
}

// file returns an open file of its own inode, and its name on the wire.
func file(t testing.TB) (*os.File, inode) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, id(t, f)
}

func id(t testing.TB, f *os.File) inode {
	t.Helper()
	url, err := URL(f)
	if err != nil {
		t.Fatal(err)
	}
	dev, ino, err := ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	return inode{dev, ino}
}

// open counts the open descriptors of this process.
func open(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// here receives what must have come already.
func here(c *Conn, i inode) (*os.File, error) {
	done, cancel := context.WithCancel(context.Background())
	cancel()
	return c.Receive(done, i.dev, i.ino)
}

func transfer(t testing.TB, from, to *stream, text string) {
	t.Helper()
	_, err := from.Write([]byte(text))
	must(t, err)
	got := make([]byte, len(text))
	_, err = io.ReadFull(to, got)
	must(t, err)
	if string(got) != text {
		t.Fatalf("%q came as %q", text, got)
	}
}

func TestDescriptorArrivesWithTheNextBytes(t *testing.T) {
	a, b := pair(t)
	f, want := file(t)
	must(t, a.passed.Send(f))
	must(t, f.Close()) // the sender may, at once
	if _, err := here(b.passed, want); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), want.String()) {
		t.Fatalf("before any byte: %v", err)
	}
	transfer(t, a, b, "x")
	first, err := here(b.passed, want)
	must(t, err)
	defer first.Close()
	second, err := here(b.passed, want)
	must(t, err)
	must(t, second.Close()) // each has its own
	if got := id(t, first); got != want {
		t.Errorf("received %v, sent %v", got, want)
	}
	flags, err := control(first, func(fd uintptr) (int, error) { return unix.FcntlInt(fd, unix.F_GETFD, 0) })
	must(t, err)
	if flags&unix.FD_CLOEXEC == 0 {
		t.Error("the received descriptor would be inherited by a program that is started")
	}
	flags, err = unix.FcntlInt(uintptr(b.passed.held[0].fd), unix.F_GETFD, 0)
	must(t, err)
	if flags&unix.FD_CLOEXEC == 0 {
		t.Error("the kept descriptor would be inherited by a program that is started")
	}
}

func TestReceiveWaits(t *testing.T) {
	a, b := pair(t)
	_, other := file(t)
	f, want := file(t)
	got := make(chan error, 2)
	for range 2 {
		go func() {
			r, err := b.passed.Receive(context.Background(), want.dev, want.ino)
			if err == nil {
				err = r.Close()
			}
			got <- err
		}()
	}
	g, err := os.Open("/")
	must(t, err)
	defer g.Close()
	must(t, a.passed.Send(g)) // not what they wait for
	transfer(t, a, b, "x")
	must(t, a.passed.Send(f))
	transfer(t, a, b, "x")
	must(t, <-got)
	must(t, <-got)

	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if _, err := b.passed.Receive(ctx, other.dev, other.ino); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("what is not sent: %v, want the deadline", err)
	}
}

func TestCloseWakesThoseWhoWait(t *testing.T) {
	for name, end := range map[string]func(a, b *stream) error{
		"by us":       func(_, b *stream) error { return b.Close() },
		"by the peer": func(a, b *stream) error { return errors.Join(a.Close(), readToEnd(b), b.Close()) }, // gRPC closes at EOF
	} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t)
			got := make(chan error)
			go func() {
				_, err := b.passed.Receive(context.Background(), 1, 2)
				got <- err
			}()
			must(t, end(a, b))
			if err := <-got; !errors.Is(err, net.ErrClosed) {
				t.Errorf("%v, want net.ErrClosed", err)
			}
			f, _ := file(t)
			if err := b.passed.Send(f); !errors.Is(err, net.ErrClosed) {
				t.Errorf("sending: %v, want net.ErrClosed", err)
			}
		})
	}
}

func readToEnd(s *stream) error {
	if n, err := s.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		return fmt.Errorf("read %d, %v at the end, want 0 and io.EOF itself", n, err)
	}
	return nil
}

func TestFailuresCountNoBytes(t *testing.T) {
	a, b := pair(t)
	f, _ := file(t)
	must(t, b.SetDeadline(time.Unix(1, 0)))
	if n, err := b.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a read past its deadline: %d, %v", n, err)
	}
	must(t, b.passed.Send(f))
	if n, err := b.Write([]byte("x")); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a write past its deadline: %d, %v", n, err)
	}
	must(t, a.passed.Send(f))
	must(t, b.unix.Close())
	if n, err := a.Write([]byte("x")); n != 0 || !errors.Is(err, unix.EPIPE) {
		t.Errorf("a write to nobody: %d, %v", n, err)
	}
	if n, err := b.Read(make([]byte, 1)); n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("a read after the end: %d, %v", n, err)
	}
}

func TestNothingStaysOpen(t *testing.T) {
	f, want := file(t)
	g, _ := file(t)
	before := open(t)
	a, b := pair(t)
	for range 3 { // of one inode, one is kept
		must(t, a.passed.Send(f))
		transfer(t, a, b, "x")
	}
	if n := open(t) - before; n != 3 {
		t.Errorf("%d descriptors are open for a connection's two ends and one file, want 3", n)
	}
	must(t, a.passed.Send(g)) // never leaves
	must(t, a.passed.Send(f))
	must(t, a.Close())
	r, err := here(b.passed, want)
	must(t, err)
	must(t, b.Close())
	must(t, r.Close())
	if n := open(t) - before; n != 0 {
		t.Errorf("%d descriptors are left", n)
	}
	b.passed.put([]descriptor{{inode: want, fd: dup(t, f)}}, false) // a Read that was on its way
	if n := open(t) - before; n != 0 {
		t.Errorf("%d descriptors are left by a late Read", n)
	}
}

func dup(t *testing.T, f *os.File) int {
	fd, err := control(f, func(fd uintptr) (int, error) { return unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) })
	must(t, err)
	return fd
}

func TestFloodIsBounded(t *testing.T) {
	a, b := pair(t)
	const messages = 3
	var sent []inode
	before := open(t)
	for range messages {
		var fds []int
		for range 253 { // a peer that is not ours fills messages to the kernel's limit
			fd, err := unix.MemfdCreate("flood", unix.MFD_CLOEXEC)
			must(t, err)
			i, err := identify(uintptr(fd))
			must(t, err)
			fds, sent = append(fds, fd), append(sent, i)
		}
		_, _, err := a.unix.WriteMsgUnix([]byte("x"), unix.UnixRights(fds...), nil)
		must(t, err)
		closeAll(fds)
		_, err = b.Read(make([]byte, 1))
		must(t, err)
		if n := open(t) - before; n > Limit {
			t.Fatalf("%d descriptors are kept, more than %d", n, Limit)
		}
	}
	for n, i := range sent {
		f, err := here(b.passed, i)
		kept := n >= len(sent)-Limit
		if kept != (err == nil) {
			t.Fatalf("descriptor %d of %d: %v; the last %d are to be kept", n, len(sent), err, Limit)
		}
		if err == nil {
			must(t, f.Close())
		}
	}
	must(t, b.Close())
	if n := open(t) - before; n != -1 {
		t.Errorf("%d descriptors are left", n+1)
	}
}

func TestDroppedDescriptorsAreNotWaitedFor(t *testing.T) {
	a, b := pair(t)
	f, want := file(t)
	g, late := file(t)
	must(t, a.passed.Send(f))
	_, err := a.Write([]byte("x"))
	must(t, err)
	release := exhaust(t)
	_, err = b.Read(make([]byte, 1))
	release()
	must(t, err)
	if _, err := b.passed.Receive(context.Background(), want.dev, want.ino); !errors.Is(err, ErrLost) {
		t.Fatalf("%v, want ErrLost", err)
	}
	must(t, a.passed.Send(f))
	must(t, a.passed.Send(g))
	transfer(t, a, b, "x")
	for _, i := range []inode{want, late} {
		r, err := here(b.passed, i)
		must(t, err)
		must(t, r.Close())
	}
	if _, err := here(b.passed, inode{1, 2}); !errors.Is(err, context.Canceled) {
		t.Errorf("after all came again: %v, want to wait", err)
	}
}

// exhaust leaves this process no descriptor to open, until it is undone.
func exhaust(t *testing.T) (undo func()) {
	t.Helper()
	var old unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 200, Max: old.Max}))
	var fds []int
	for {
		fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			break
		}
		fds = append(fds, fd)
	}
	return func() {
		closeAll(fds)
		must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &old))
	}
}

func TestManyDescriptorsAndPartialWrites(t *testing.T) {
	for name, c := range map[string]struct{ files, bytes int }{
		"one byte for few":                   {5, 1},
		"a message is full":                  {batch, 10},
		"several messages":                   {3*batch + 1, 10},
		"more messages than bytes":           {3*batch + 1, 2},
		"more bytes than the socket takes":   {3, 4 << 20},
		"both more than one message can":     {batch + 1, 4 << 20},
		"no descriptors at all, many bytes":  {0, 4 << 20},
		"no byte to go with, so none leaves": {2, 0},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t)
			must(t, a.unix.SetWriteBuffer(4096))
			var want []inode
			for range c.files {
				f, i := file(t)
				must(t, a.passed.Send(f))
				must(t, f.Close())
				want = append(want, i)
			}
			text := bytes.Repeat([]byte("0123456789abcdef!"), c.bytes/17+1)[:c.bytes]
			wrote := make(chan error, 1)
			go func() {
				n, err := a.Write(text)
				if err == nil && n != len(text) {
					err = fmt.Errorf("wrote %d of %d bytes", n, len(text))
				}
				wrote <- err
			}()
			got := make([]byte, len(text))
			_, err := io.ReadFull(b, got)
			must(t, err)
			must(t, <-wrote)
			if !bytes.Equal(got, text) {
				t.Error("the bytes came otherwise than they were sent")
			}
			if c.bytes < c.files/batch || c.bytes == 0 {
				transfer(t, a, b, "--") // what is left rides with the next
			}
			for n, i := range want {
				f, err := here(b.passed, i)
				if err != nil {
					t.Fatalf("descriptor %d of %d: %v", n, c.files, err)
				}
				must(t, f.Close())
			}
		})
	}
}

func TestReadCostsNothingMore(t *testing.T) {
	a, b := pair(t)
	buf, x := make([]byte, 1), []byte("x")
	if n := testing.AllocsPerRun(100, func() {
		if _, err := a.Write(x); err != nil {
			t.Error(err)
		}
		if _, err := b.Read(buf); err != nil {
			t.Error(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for a write and a read without descriptors", n)
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	for _, name := range []string{"plain", "fdpass", "fdpass with one descriptor"} {
		b.Run(name, func(b *testing.B) {
			from, to := pair(b)
			var w, r net.Conn = from, to
			if name == "plain" {
				w, r = from.unix, to.unix
			}
			f, _ := file(b)
			buf := make([]byte, 100)
			b.ReportAllocs()
			for b.Loop() {
				if strings.HasSuffix(name, "descriptor") {
					must(b, from.passed.Send(f))
				}
				_, err := w.Write(buf)
				must(b, err)
				_, err = io.ReadFull(r, buf)
				must(b, err)
			}
		})
	}
}
