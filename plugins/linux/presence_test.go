package linux

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"go.patchbay.dev/plugins/linux/nstest"
)

// wait calls f, which may block, again and again until it returns true, for 10 s at most.
func wait(t testing.TB, what string, f func() bool) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !f() {
		}
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatalf("no sign of %s in 10 s", what)
	}
}

// watcher notes what is observed of one namespace.
type watcher struct {
	t    *testing.T
	p    *Presence
	key  string
	news chan bool
}

func watch(t *testing.T, ref string, present bool) *watcher {
	t.Helper()
	n := newNamespaces(t)
	w := &watcher{t: t, key: "netns/" + ref, news: make(chan bool, 1000)}
	w.p = n.Presence(func(key string, present bool) {
		if key == w.key {
			w.news <- present
		}
	})
	check(t, n.Start())
	if got := w.p.Watch(w.key); got != present {
		t.Fatalf("at first, %s is present: %v", ref, got)
	}
	return w
}

// expect waits for exactly these observations.
func (w *watcher) expect(when string, want ...bool) {
	w.t.Helper()
	for _, present := range want {
		select {
		case got := <-w.news:
			if got != present {
				w.t.Fatalf("%s: observed %v, want %v", when, got, want)
			}
		case <-time.After(10 * time.Second):
			w.t.Fatalf("%s: nothing observed, want %v", when, want)
		}
	}
}

// quiet checks that nothing more was observed, once everything that happened was handled.
func (w *watcher) quiet() {
	w.t.Helper()
	w.p.lookAgain()
	select {
	case got := <-w.news:
		w.t.Fatalf("observed %v, want nothing", got)
	default:
	}
}

func TestANamespaceThatIPNetnsMakesAndDeletesIsNoticed(t *testing.T) {
	nstest.Need(t)
	name := fmt.Sprintf("patchbay-test-%d-presence", os.Getpid())
	netns := func(verb string) { nstest.Run(t, "/proc/self/ns/net", "ip", "netns", verb, name) }
	w := watch(t, "/run/netns/"+name, false)
	t.Cleanup(func() { nstest.Delete(t, "/run/netns/"+name) })
	for range 3 {
		netns("add")
		w.expect("added", true)
		netns("delete")
		w.expect("deleted", false)
	}
	w.quiet()
}

func TestTheMomentOfTheMountIsWhatCounts(t *testing.T) {
	nstest.Need(t)
	path := filepath.Join(t.TempDir(), "ns")
	other := nstest.New(t)
	w := watch(t, path, false)
	check(t, os.WriteFile(path, nil, 0o600))
	w.quiet()
	check(t, unix.Mount(other, path, "", unix.MS_BIND, ""))
	w.expect("mounted", true)
	check(t, unix.Unmount(path, unix.MNT_DETACH))
	w.expect("unmounted", false)
	check(t, os.Remove(path))
	w.quiet()
}

func TestADirectoryThatDoesNotExistYetIsWaitedFor(t *testing.T) {
	nstest.Need(t)
	top := t.TempDir()
	deep := filepath.Join(top, "a", "b", "c")
	w := watch(t, filepath.Join(deep, "ns"), false)
	for range 2 {
		check(t, os.MkdirAll(deep, 0o700))
		nstest.At(t, filepath.Join(deep, "ns"))
		w.expect("made", true)
		nstest.Delete(t, filepath.Join(deep, "ns"))
		w.expect("deleted", false)
		check(t, os.RemoveAll(filepath.Join(top, "a")))
	}
	w.quiet()
}

func TestANamespaceMadeAnewUnderTheSameNameIsAnother(t *testing.T) {
	path := nstest.New(t)
	w := watch(t, path, true)
	w.p.telling.Lock() // nothing is looked at meanwhile
	nstest.Delete(t, path)
	nstest.At(t, path)
	w.p.telling.Unlock()
	w.expect("made anew", false, true)
	// And when no event tells, what is found does.
	check(t, unix.Unmount(path, unix.MNT_DETACH))
	check(t, unix.Mount(nstest.New(t), path, "", unix.MS_BIND, ""))
	w.expect("another one mounted there", false, true)
}

func TestWhatCannotBeUsedIsPresentSoThatOpeningSaysWhy(t *testing.T) {
	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o600))
	check(t, os.Symlink("/run/netns/x", filepath.Join(dir, "link")))
	n := newNamespaces(t)
	p := n.Presence(func(string, bool) {})
	for _, ref := range []string{dir, filepath.Join(dir, "file"), filepath.Join(dir, "link"), "/proc/self/ns/net"} {
		if !p.Watch("netns/" + ref) {
			t.Errorf("%s is not present", ref)
		}
		p.Unwatch("netns/" + ref)
	}
}

func TestTheEndOfAProcessEndsItsNamespace(t *testing.T) {
	pid, end := nstest.Process(t)
	w := watch(t, fmt.Sprintf("/proc/%d/ns/net", pid), true)
	end()
	w.expect("the process has ended", false)
	w.quiet()
}

func TestTheEndOfADescriptorsNamespaceIsNoticed(t *testing.T) {
	pid, end := nstest.Process(t)
	f := descriptor(t, fmt.Sprintf("/proc/%d/ns/net", pid), unix.O_PATH)
	ref, err := newNamespaces(t).FromDescriptor(f, pid)
	check(t, err)
	w := watch(t, ref, true)
	end()
	w.quiet() // the descriptor keeps it
	check(t, f.Close())
	w.expect("the last that kept it is gone", false)
	w.quiet()
	watch(t, ref, false)
}

func TestUnwatchForgetsEverything(t *testing.T) {
	pid, _ := nstest.Process(t)
	path := nstest.New(t)
	n := newNamespaces(t)
	p := n.Presence(func(string, bool) {})
	for range 3 {
		keys := []string{fmt.Sprintf("netns//proc/%d/ns/net", pid), "netns/" + path, "netns//no/such/dir/ns", "netns/nonsense:"}
		for _, key := range keys {
			p.Watch(key)
			p.Watch(key)
		}
		for _, key := range keys {
			p.Unwatch(key)
			p.Unwatch(key)
		}
		if len(p.refs)+len(p.dirs)+len(p.pids) != 0 {
			t.Fatalf("left over: %v %v %v", p.refs, p.dirs, p.pids)
		}
	}
}

// The last that is told of each must be how it is, however watches and changes interleave.
func TestTheLastWordIsRightUnderChurn(t *testing.T) {
	nstest.Need(t)
	dir := t.TempDir()
	other := nstest.New(t)
	n := newNamespaces(t)
	var mu sync.Mutex // as the engine's lock: held over Watch and in observe
	told := map[string]bool{}
	p := n.Presence(func(key string, present bool) {
		mu.Lock()
		defer mu.Unlock()
		if _, watched := told[key]; watched {
			told[key] = present
		}
	})
	check(t, n.Start())
	var all sync.WaitGroup
	for i := range 4 {
		path := filepath.Join(dir, fmt.Sprint(i))
		key := "netns/" + path
		all.Go(func() {
			for j := range 50 {
				err := os.WriteFile(path, nil, 0o600)
				err = errors.Join(err, unix.Mount(other, path, "", unix.MS_BIND, ""))
				if j%7 != 6 || i%2 == 0 {
					err = errors.Join(err, unix.Unmount(path, unix.MNT_DETACH), os.Remove(path))
				}
				if err != nil {
					t.Error(err)
				}
				if j%7 == 6 && i%2 == 1 {
					break
				}
			}
		})
		all.Go(func() {
			for range 200 {
				mu.Lock()
				told[key] = p.Watch(key)
				mu.Unlock()
				mu.Lock()
				delete(told, key)
				p.Unwatch(key)
				mu.Unlock()
			}
			mu.Lock()
			told[key] = p.Watch(key)
			mu.Unlock()
		})
	}
	all.Wait()
	t.Cleanup(func() {
		for i := range 4 {
			nstest.Delete(t, filepath.Join(dir, fmt.Sprint(i)))
		}
	})
	wait(t, "the truth", func() bool {
		time.Sleep(time.Millisecond)
		mu.Lock()
		defer mu.Unlock()
		return !told["netns/"+dir+"/0"] && told["netns/"+dir+"/1"] && !told["netns/"+dir+"/2"] && told["netns/"+dir+"/3"]
	})
}
