package linux

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"go.patchbay.dev/plugins/linux/nstest"
)

func TestOpenSaysWhatIsWrong(t *testing.T) {
	path := nstest.New(t)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	check(t, os.WriteFile(at("file"), []byte("x"), 0o600))
	check(t, os.WriteFile(at("empty"), nil, 0o600))
	check(t, os.Symlink(path, at("link")))
	check(t, os.Symlink(filepath.Dir(path), at("parent")))
	check(t, os.Symlink("/proc/self/ns/net", at("own")))
	check(t, unix.Mkfifo(at("fifo"), 0o600))
	pid, _ := nstest.Process(t)
	n := newNamespaces(t)
	for _, c := range []struct {
		ref  string
		want error
	}{
		{path, nil},
		{at("parent/" + filepath.Base(path)), nil},
		{"file://" + path, nil},
		{fmt.Sprintf("/proc/%d/ns/net", pid), nil},
		{fmt.Sprintf("/proc/%d/task/%d/ns/net", pid, pid), nil},
		{"", ErrBadRef},
		{"no-such-namespace", ErrNoNamespace},
		{at("absent"), ErrNoNamespace},
		{at("file/below"), ErrNoNamespace},
		{"/proc/4194304/ns/net", ErrNoNamespace}, // one more than the highest process id
		{at("file"), ErrNotNamespace},
		{at("empty"), ErrNotNamespace},
		{at("fifo"), ErrNotNamespace},
		{dir, ErrNotNamespace},
		{at("link"), ErrSymlink},
		{at("own"), ErrSymlink},
		{"/proc/self/ns/uts", ErrSymlink},
		{"/proc/self/ns/net", ErrOwnNamespace},
		{"/proc/thread-self/ns/net", ErrOwnNamespace},
		{fmt.Sprintf("/proc/%d/ns/net", os.Getpid()), ErrOwnNamespace},
	} {
		ns, err := n.Open(c.ref)
		if !errors.Is(err, c.want) {
			t.Errorf("Open(%q): %v, want %v", c.ref, err, c.want)
		}
		if err == nil {
			check(t, ns.Close())
		} else if !strings.Contains(err.Error(), fmt.Sprintf("%q", c.ref)) && c.ref != "no-such-namespace" {
			t.Errorf("Open(%q): the error does not name it: %v", c.ref, err)
		}
	}
}

func TestANamespaceOfAnotherKindIsNone(t *testing.T) {
	nstest.Need(t)
	path := filepath.Join(t.TempDir(), "uts")
	check(t, os.WriteFile(path, nil, 0o600))
	check(t, unix.Mount("/proc/self/ns/uts", path, "", unix.MS_BIND, ""))
	t.Cleanup(func() { check(t, unix.Unmount(path, unix.MNT_DETACH)) })
	if _, err := newNamespaces(t).Open(path); !errors.Is(err, ErrNotNamespace) {
		t.Errorf("error %v", err)
	}
}

func TestTheOwnNamespaceOpensWhenAllowed(t *testing.T) {
	nstest.Need(t)
	n, err := New(Options{AllowOwn: true, Instance: instance(t)})
	check(t, err)
	defer func() { check(t, n.Close()) }()
	ns := open(t, n, "/proc/self/ns/net")
	if id, err := ns.NSID(); id != Own || err != nil {
		t.Errorf("nsid %d, %v", id, err)
	}
	if l, err := ns.LinkByName("lo"); err != nil || l.Name != "lo" || l.Ours {
		t.Errorf("lo is %+v, %v", l, err)
	}
}

func TestNamespacesByNameAreThoseOfIPNetns(t *testing.T) {
	name := named(t)
	ref, err := newNamespaces(t).FromPath(name)
	if ref != "/run/netns/"+name || err != nil {
		t.Errorf("%q, %v", ref, err)
	}
}

// named makes a namespace by ip-netns(8).
func named(t testing.TB) string {
	t.Helper()
	nstest.Need(t)
	name := fmt.Sprintf("patchbay-test-%d-%s", os.Getpid(), filepath.Base(t.TempDir()))
	nstest.Run(t, "/proc/self/ns/net", "ip", "netns", "add", name)
	t.Cleanup(func() {
		if _, err := os.Stat("/run/netns/" + name); err == nil {
			nstest.Run(t, "/proc/self/ns/net", "ip", "netns", "delete", name)
		}
	})
	return name
}

func descriptor(t testing.TB, path string, flags int) *os.File {
	t.Helper()
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	check(t, err)
	f := os.NewFile(uintptr(fd), path)
	t.Cleanup(func() { _ = f.Close() }) // many tests have closed it
	return f
}

func TestADescriptorsReferenceOutlivesItAndTheAgent(t *testing.T) {
	for _, flags := range []int{unix.O_RDONLY, unix.O_PATH} {
		pid, end := nstest.Process(t)
		f := descriptor(t, fmt.Sprintf("/proc/%d/ns/net", pid), flags)
		ref, err := newNamespaces(t).FromDescriptor(f, pid)
		check(t, err)
		check(t, f.Close())
		if canonical, err := Canonical(ref); canonical != ref || err != nil {
			t.Errorf("reference %q: canonical %q, %v", ref, canonical, err)
		}
		restarted := newNamespaces(t)
		ns, err := restarted.Open(ref)
		check(t, err)
		if ns.Ref() != ref {
			t.Errorf("opened %q as %q", ref, ns.Ref())
		}
		check(t, ns.Close())
		end()
		if _, err := restarted.Open(ref); !errors.Is(err, ErrNoNamespace) {
			t.Errorf("with its only process gone: %v", err)
		}
	}
}

func TestADescriptorsNamespaceIsFoundWhereItIsMounted(t *testing.T) {
	path := nstest.New(t)
	n := newNamespaces(t)
	ref, err := n.FromDescriptor(descriptor(t, path, unix.O_PATH), os.Getpid())
	check(t, err)
	elsewhere := filepath.Join(t.TempDir(), "else where")
	check(t, os.WriteFile(elsewhere, nil, 0o600))
	check(t, unix.Mount(path, elsewhere, "", unix.MS_BIND, ""))
	t.Cleanup(func() { check(t, unix.Unmount(elsewhere, unix.MNT_DETACH)) })
	nstest.Delete(t, path)
	open(t, n, ref)
	open(t, newNamespaces(t), ref)
}

func TestADescriptorThatCannotBeFoundAgainIsRefused(t *testing.T) {
	pid, end := nstest.Process(t)
	f := descriptor(t, fmt.Sprintf("/proc/%d/ns/net", pid), unix.O_RDONLY)
	end()
	if _, err := newNamespaces(t).FromDescriptor(f, pid); !errors.Is(err, ErrNoNamespace) {
		t.Errorf("error %v", err)
	}
	if _, err := newNamespaces(t).FromDescriptor(descriptor(t, "/proc/self/ns/net", unix.O_PATH), os.Getpid()); !errors.Is(err, ErrOwnNamespace) {
		t.Errorf("own: error %v", err)
	}
	if _, err := newNamespaces(t).FromDescriptor(descriptor(t, t.TempDir(), unix.O_PATH), os.Getpid()); !errors.Is(err, ErrNotNamespace) {
		t.Errorf("directory: error %v", err)
	}
}

func TestAnInodeThatIsUsedAgainIsNotTheSameNamespace(t *testing.T) {
	path := nstest.New(t)
	n := newNamespaces(t)
	name, err := n.FromDescriptor(descriptor(t, path, unix.O_PATH), os.Getpid())
	check(t, err)
	r, err := parseRef(name)
	check(t, err)
	other := r
	other.cookie++
	rebooted := r
	rebooted.boot = "00000000"
	for _, gone := range []ref{other, rebooted, other} { // one that was refused is open for a while
		if _, err := n.Open(gone.String()); !errors.Is(err, ErrNoNamespace) {
			t.Errorf("%v: error %v", gone, err)
		}
	}
}

func TestANamespacesNumberIsAskedForOnce(t *testing.T) {
	a, b := nstest.New(t), nstest.New(t)
	n := newNamespaces(t)
	number := func(path string) (asked, id int) {
		f, err := os.Open(path)
		check(t, err)
		defer f.Close()
		ref, err := n.FromDescriptor(f, os.Getpid())
		check(t, err)
		ns, err := n.Open(ref)
		check(t, err)
		before := len(n.numbers.by)
		id, err = ns.NSID()
		check(t, err)
		check(t, ns.close()) // not to be used again
		return len(n.numbers.by) - before, id
	}
	asked, first := number(a)
	if asked != 1 {
		t.Errorf("asked %d times at first", asked)
	}
	if asked, other := number(b); asked != 1 || other == first {
		t.Errorf("another namespace, asked for %d times, has number %d, the first %d", asked, other, first)
	}
	if asked, again := number(a); asked != 0 || again != first {
		t.Errorf("asked %d times again, number %d, before %d", asked, again, first)
	}
	// Another namespace may have the same path, and inode, later.
	nstest.Delete(t, a)
	nstest.At(t, a)
	if asked, _ := number(a); asked != 1 {
		t.Errorf("asked %d times for another namespace at the same path", asked)
	}
}

func TestNothingHereKeepsANamespaceAlive(t *testing.T) {
	n := newNamespaces(t)
	gone := make(chan int, 100)
	n.Subscribe(Subscriber{NamespaceGone: func(id int) { gone <- id }})
	check(t, n.Start())
	pid, end := nstest.Process(t)
	f := descriptor(t, fmt.Sprintf("/proc/%d/ns/net", pid), unix.O_PATH)
	ref, err := n.FromDescriptor(f, pid)
	check(t, err)
	check(t, f.Close())
	if !n.Presence(func(string, bool) {}).Watch("netns/" + ref) {
		t.Fatal("not there")
	}
	ns, err := n.Open(ref)
	check(t, err)
	id, err := ns.NSID()
	check(t, err)
	_, err = ns.Survey()
	check(t, err)
	check(t, ns.Close())
	end()
	wait(t, "the end of the namespace", func() bool { return <-gone == id })
}

// A socket that is opened while the thread is elsewhere would act elsewhere ever after.
func TestTheAgentsSocketsAreInItsOwnNamespace(t *testing.T) {
	path := nstest.New(t)
	n := newNamespaces(t)
	ns := open(t, n, path)
	check(t, n.visiting(func(enter func(fd int) error) error {
		check(t, enter(ns.fd))
		return n.at(func(a *conn) error {
			return n.at(func(b *conn) error {
				own, err := newConn(&n.mutations) // on this thread
				check(t, err)
				here, err1 := own.cookie()
				ca, err2 := a.cookie()
				cb, err3 := b.cookie()
				if here == ca || ca != cb {
					t.Errorf("cookies: %d of the namespace visited, %d and %d of the agent's sockets", here, ca, cb)
				}
				return errors.Join(err1, err2, err3, own.close())
			})
		})
	}))
}
