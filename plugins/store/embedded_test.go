package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestKeptAcrossRestarts(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	var last int64
	for i := range 5 {
		s, err := Open(t.Context(), Config{DataDir: dir, Log: testLog(t)})
		if err != nil {
			t.Fatal(err)
		}
		if s.Revision() < last {
			t.Errorf("revision %d after a restart at %d", s.Revision(), last)
		}
		for k := range i {
			if kv, err := s.Get(t.Context(), fmt.Sprint("/k/", k)); err != nil || string(kv.Value) != fmt.Sprint(k) {
				t.Errorf("start %d: %+v, %v", i, kv, err)
			}
		}
		last = mustPut(t, s, fmt.Sprint("/k/", i), fmt.Sprint(i))
		s.Close()
	}
}

// More writes than a start replays, so that there are snapshots of the log, and at each
// of several starts another number of writes after the last one.
func TestRestartAfterManyWrites(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("thousands of writes")
	}
	dir := filepath.Join(t.TempDir(), "data")
	n := 0
	for _, more := range []int{1500, 700, 3100} {
		s, err := Open(t.Context(), Config{DataDir: dir, Log: testLog(t)})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		for w := range 50 {
			go func() {
				var err error
				for i := w; i < more && err == nil; i += 50 {
					_, err = s.Put(t.Context(), fmt.Sprint("/k/", n+i), nil)
				}
				done <- err
			}()
		}
		for range 50 {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		n += more
		if kvs, _, err := s.List(t.Context(), "/k/"); err != nil || len(kvs) != n {
			t.Fatalf("%d of %d keys, %v", len(kvs), n, err)
		}
		s.Close()
	}
}

func TestDataDirIsPrivate(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(string) error{
		"new":             func(string) error { return nil },
		"new, and deep":   func(dir string) error { return os.Remove(filepath.Dir(dir)) },
		"empty, but open": func(dir string) error { return os.Mkdir(dir, 0o755) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "parent", "data")
			if err := os.Mkdir(filepath.Dir(dir), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := prepare(dir); err != nil {
				t.Fatal(err)
			}
			open(t, Config{DataDir: dir})
			if mode := modeOf(t, dir); mode != 0o700|os.ModeDir {
				t.Errorf("mode %v", mode)
			}
		})
	}
	t.Run("a directory with other things in it keeps its mode", func(t *testing.T) {
		dir := t.TempDir()
		os.Chmod(dir, 0o755)
		os.WriteFile(filepath.Join(dir, "other"), nil, 0o644)
		open(t, Config{DataDir: dir})
		if dir, member := modeOf(t, dir), modeOf(t, filepath.Join(dir, "member")); dir != 0o755|os.ModeDir || member != 0o700|os.ModeDir {
			t.Errorf("modes %v, %v", dir, member)
		}
	})
}

func modeOf(t *testing.T, path string) os.FileMode {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fi.Mode()
}

func TestStartErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		prepare func(t *testing.T, dir string) error
		want    string
	}{
		"the directory is a file": {
			func(t *testing.T, dir string) error { return os.WriteFile(dir, nil, 0o600) },
			`etcd.data_dir: .*data: not a directory`,
		},
		"its parent is a file": {
			func(t *testing.T, dir string) error { return os.WriteFile(filepath.Dir(dir), nil, 0o600) },
			`etcd.data_dir: .*: not a directory`,
		},
		"its disk is read-only": {
			func(t *testing.T, dir string) error {
				fillDir(dir)
				if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
					return err
				}
				t.Cleanup(func() { unix.Unmount(dir, 0) })
				return unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
			},
			`etcd.data_dir: write to .*data: read-only file system`,
		},
		"another agent has it": {
			func(t *testing.T, dir string) error {
				os.MkdirAll(dir, 0o700)
				return held(t, dir)
			},
			`etcd.data_dir: lock .*data: in use by another process`,
		},
		"another etcd has it": {
			func(t *testing.T, dir string) error {
				fillDir(dir)
				return held(t, filepath.Join(dir, "member/snap/db"))
			},
			`etcd.data_dir .*: lock .*member/snap/db: in use by another process`,
		},
		"another etcd has its log": {
			func(t *testing.T, dir string) error {
				fillDir(dir)
				logs, _ := filepath.Glob(filepath.Join(dir, "member/wal/*.wal"))
				f, err := os.OpenFile(logs[0], os.O_RDWR, 0)
				if err != nil {
					return err
				}
				t.Cleanup(func() { f.Close() })
				return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
			},
			`etcd.data_dir .*: lock .*member/wal/.*: in use by another process`,
		},
		"the database is corrupt": {
			func(t *testing.T, dir string) error {
				fillDir(dir)
				return os.WriteFile(filepath.Join(dir, "member/snap/db"), make([]byte, 100000), 0o600)
			},
			`start etcd in etcd.data_dir .*: failed to open database: .*`,
		},
		"the log is corrupt": {
			func(t *testing.T, dir string) error {
				fillDir(dir)
				logs, _ := filepath.Glob(filepath.Join(dir, "member/wal/*.wal"))
				return os.WriteFile(logs[0], []byte(strings.Repeat("rubbish", 1000)), 0o600)
			},
			`start etcd in etcd.data_dir .*: .*`,
		},
		"the log is gone": {
			func(t *testing.T, dir string) error {
				fillDir(dir)
				logs, _ := filepath.Glob(filepath.Join(dir, "member/wal/*.wal"))
				return os.Truncate(logs[0], 0)
			},
			`start etcd in etcd.data_dir .*: .*`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "parent", "data")
			if name != "its parent is a file" {
				os.Mkdir(filepath.Dir(dir), 0o755)
			}
			if err := c.prepare(t, dir); errors.Is(err, unix.EPERM) {
				t.Skip("it needs the right to mount:", err)
			} else if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			s, err := Open(t.Context(), Config{DataDir: dir, Log: testLog(t)})
			if err == nil {
				s.Close()
			}
			if err == nil || !regexp.MustCompile(c.want).MatchString(err.Error()) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v", err)
			}
			if took := time.Since(start); took > patience {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// held keeps a file locked while the test lasts.
func held(t *testing.T, path string) error {
	f, err := lockFile(path, unix.LOCK_EX)
	if err == nil {
		t.Cleanup(func() { f.Close() })
	}
	return err
}

// fillDir makes a directory with something in it.
func fillDir(dir string) {
	s, err := Open(context.Background(), Config{DataDir: dir})
	if err != nil {
		panic(err)
	}
	s.Put(context.Background(), "/a", nil)
	s.Close()
}

func TestTwoAgents(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := Config{DataDir: filepath.Join(dir, "data"), Listen: "unix://" + filepath.Join(dir, "sock")}
	first := open(t, c)
	if _, err := Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), "etcd.data_dir") {
		t.Errorf("same directory: %v", err)
	}
	c.DataDir += "2"
	if _, err := Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), "etcd.listen") || !errors.Is(err, errInUse) {
		t.Errorf("same socket: %v", err)
	}
	mustPut(t, open(t, Config{Endpoints: []string{c.Listen}}), "/a", "the first one is untouched")
	first.Close()
	open(t, c)
}

// Every write that was acknowledged before a kill is there after it, and the dead one's
// socket is no hindrance.
func TestKill(t *testing.T) {
	rounds := 5
	if testing.Short() {
		rounds = 1
	}
	dir := t.TempDir()
	socket := filepath.Join(dir, "etcd.sock")
	for round := range rounds {
		acknowledged := map[string]int{}
		cmd := helper(t, "churn", dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			key, i, _ := strings.Cut(lines.Text(), " ")
			if acknowledged[key], err = strconv.Atoi(i); err != nil {
				t.Error(lines.Text())
				break
			}
			if n == 50+round*77 {
				cmd.Process.Kill() // and read on what it had printed by then
			}
		}
		cmd.Process.Kill()
		cmd.Wait()
		if _, err := os.Stat(socket); err != nil {
			t.Error("no socket is left over, which is what this test is about:", err)
		}
		s := open(t, Config{DataDir: filepath.Join(dir, "data"), Listen: "unix://" + socket, Log: testLog(t)})
		for key, i := range acknowledged {
			kv, err := s.Get(t.Context(), key)
			// The one write that was under way may have been done or not.
			if got, _ := strconv.Atoi(string(kv.Value)); err != nil || got != i && got != i+50 {
				t.Errorf("round %d: %s is %s, %d was acknowledged, %v", round, key, kv.Value, i, err)
			}
		}
		s.Close()
		// A killed one leaves its socket; one that was closed does not.
		if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
			t.Error("after Close:", err)
		}
	}
}

func TestOldRevisionsAreDropped(t *testing.T) {
	t.Parallel()
	s := open(t, Config{
		DataDir: filepath.Join(t.TempDir(), "data"), Log: testLog(t),
		tuning: tuning{keep: 50, step: 50, every: 10 * time.Millisecond},
	})
	v, _ := watch(t, s, "/k")
	for i := range 1000 {
		mustPut(t, s, "/k", fmt.Sprint(i))
	}
	eventually(t, "fewer than 101 revisions", func() bool {
		_, err := s.session.client.Get(t.Context(), "/k", withRev(s.Revision()-101)...)
		_, young := s.session.client.Get(t.Context(), "/k", withRev(s.Revision()-40)...)
		return err != nil && young == nil
	})
	v.has(t, "/k", "999")
}

// What etcd says while it runs reaches the log; its advice at a start does not.
func TestQuietLog(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	s := open(t, Config{
		DataDir: filepath.Join(t.TempDir(), "data"),
		Log:     slog.New(slog.NewTextHandler(&log, nil)),
	})
	mustPut(t, s, "/a", "b")
	s.Close()
	if lines := strings.Split(strings.TrimSpace(log.String()), "\n"); len(lines) != 1 || !strings.Contains(lines[0], "etcd is available") {
		t.Error(log.String())
	}
}

func TestGivingUp(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	g := newGuard(slog.New(slog.NewTextHandler(&log, nil)), nil)
	exit := make(chan int, 1)
	g.exit = func(code int) { exit <- code }
	g.running.Store(true)
	after := true
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.logger().Fatal("failed to save the log")
		after = false
	}()
	<-done
	if code := <-exit; code != 1 || !after {
		t.Errorf("exit %d, went on: %v", code, !after)
	}
	if !strings.Contains(log.String(), "failed to save the log") || !strings.Contains(log.String(), "what is programmed stays") {
		t.Error(log.String())
	}
}
