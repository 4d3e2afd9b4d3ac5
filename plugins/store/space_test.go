package store

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"golang.org/x/sys/unix"
)

// smallDisk mounts a file system of its own for the test.
func smallDisk(t *testing.T, size int) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Skip("a small disk needs the right to mount one:", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// ballast is a file that takes room.
type ballast struct {
	t    *testing.T
	path string
}

// fill takes all the room there is.
func (b ballast) fill() { b.fillTo(0) }

// fillTo leaves about so many bytes.
func (b ballast) fillTo(left int64) {
	b.t.Helper()
	f, err := os.OpenFile(b.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		b.t.Fatal(err)
	}
	defer f.Close()
	fits := func(size int64) bool {
		var fs unix.Statfs_t
		return unix.Fstatfs(int(f.Fd()), &fs) == nil && int64(fs.Bavail)*fs.Bsize-size >= left
	}
	// First in one go, then what is left of it.
	for size := int64(64 << 20); size >= 4096; size /= 2 {
		for end, _ := f.Seek(0, 2); fits(size) && unix.Fallocate(int(f.Fd()), 0, end, size) == nil; end, _ = f.Seek(0, 2) {
		}
	}
}

func (b ballast) drop() {
	b.t.Helper()
	if err := os.Remove(b.path); err != nil {
		b.t.Fatal(err)
	}
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t, 96<<20)
	b := ballast{t, filepath.Join(dir, "ballast")}
	c := Config{DataDir: filepath.Join(dir, "data"), Listen: "unix://" + filepath.Join(dir, "sock"), Log: testLog(t)}
	s := open(t, c)
	orchestrator := open(t, Config{Endpoints: []string{c.Listen}})
	v, _ := watch(t, s, "/")
	mustPut(t, s, "/a", "before")
	if _, err := s.PutLeased(t.Context(), "/leased", []byte("x"), time.Second); err != nil {
		t.Fatal(err)
	}
	values, _ := hold(t, s, "/held", time.Hour)
	values <- []byte("1")
	v.has(t, "/held", "1")

	b.fill()
	start := time.Now()
	_, put := s.Put(t.Context(), "/a", []byte("while it is full"))
	_, del := s.Delete(t.Context(), "/a")
	_, create := s.Create(t.Context(), "/b", nil)
	_, leased := s.PutLeased(t.Context(), "/b", nil, time.Minute)
	for what, err := range map[string]error{"put": put, "delete": del, "create": create, "put leased": leased} {
		if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "no space") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if took := time.Since(start); took > patience {
		t.Errorf("four requests took %v to fail", took)
	}
	if _, err := orchestrator.Put(t.Context(), "/a", nil); err == nil || !strings.Contains(err.Error(), "no space") {
		t.Errorf("put through the listener: %v", err)
	}
	if err := untilDown(t, s); !strings.Contains(err.Error(), "no space") {
		t.Error(err)
	}
	if kv, err := s.Get(t.Context(), "/a"); err != nil || string(kv.Value) != "before" {
		t.Errorf("reading goes on: %+v, %v", kv, err)
	}
	if _, err := s.PutLeased(t.Context(), "/held", []byte("1"), time.Hour); err != nil {
		t.Errorf("renewing a lease needs no room: %v", err)
	}
	v.has(t, "/leased", "") // etcd's own writes have room, and the watch lives

	b.drop()
	mustPut(t, s, "/a", "after")
	mustPut(t, orchestrator, "/b", "after")
	v.has(t, "/a", "after")
	v.has(t, "/b", "after")
	untilUp(t, s)
	if n := v.count(); n != 1 {
		t.Errorf("%d snapshots: the watch was interrupted", n)
	}
	s.Close()
}

func TestFullDiskAtStart(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t, 96<<20)
	b := ballast{t, filepath.Join(dir, "ballast")}
	c := Config{DataDir: filepath.Join(dir, "data"), Listen: "unix://" + filepath.Join(dir, "sock"), Log: testLog(t)}
	first := open(t, c)
	mustPut(t, first, "/a", "1")
	first.Close()
	b.fill()
	s := open(t, c)
	v, _ := watch(t, s, "/")
	if err := s.Up(); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "no space") {
		t.Error(err)
	}
	failsAtOnce(t, s)
	b.drop()
	v.has(t, "/a", "1")
	mustPut(t, s, "/a", "2")
	s.Close()
}

// The disk becomes full and free again under many writers: etcd never hits the wall, and
// nothing that was acknowledged is lost. Who fills it takes less than the reserve while a
// write is on its way.
func TestDiskThatFillsUnderWriters(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t, 128<<20)
	b := ballast{t, filepath.Join(dir, "ballast")}
	c := Config{DataDir: filepath.Join(dir, "data"), Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	s := open(t, c)
	var written atomic.Int64
	refused := make([]atomic.Int64, 8)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	last := make([]int, len(refused))
	for w := range last {
		wg.Go(func() {
			for i := 1; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				value := append(fmt.Appendf(nil, "%d ", i), bytes.Repeat([]byte("x"), 2000)...)
				_, err := s.Put(t.Context(), fmt.Sprint("/w/", w), value)
				switch {
				case err == nil:
					last[w] = i
					written.Add(1)
				case errors.Is(err, ErrUnavailable) && strings.Contains(err.Error(), "no space"):
					refused[w].Add(1)
					time.Sleep(time.Millisecond) // a client would not turn round at once either
				default:
					t.Error(err)
					return
				}
			}
		})
	}
	for range 5 {
		b.fillTo(reserve / 2)
		eventually(t, "all to be refused", more(refused, 1))
		comeToRest(t, s, c.DataDir)
		b.fill()
		eventually(t, "refused writes", more(refused, 12))
		b.drop()
		done := written.Load()
		eventually(t, "writes", func() bool { return written.Load() > done+200 })
	}
	close(stop)
	wg.Wait()
	s.Close()
	again := open(t, c)
	for w, i := range last {
		kv, err := again.Get(t.Context(), fmt.Sprint("/w/", w))
		if err != nil || !strings.HasPrefix(string(kv.Value), fmt.Sprint(i, " ")) {
			t.Errorf("writer %d: %.10s, acknowledged was %d, %v", w, kv.Value, i, err)
		}
	}
	again.Close()
}

// comeToRest waits until all writes that were admitted are done, and the snapshot that they may
// have brought about, so that who fills the disk does not take its place. Its own write may be
// the one that does.
func comeToRest(t *testing.T, s *Store, dataDir string) {
	t.Helper()
	for {
		newest := newestSnapshot(t, dataDir)
		if _, err := s.session.client.Revoke(t.Context(), 1); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			t.Fatal(err)
		}
		status, err := s.session.client.Status(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		if status.RaftIndex <= newest+snapshotCount {
			return
		}
	}
}

// newestSnapshot is the place in etcd's log at which the last snapshot was begun.
func newestSnapshot(t *testing.T, dataDir string) (index uint64) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dataDir, "member", "snap", "*.snap"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	var term uint64
	if _, err := fmt.Sscanf(filepath.Base(files[len(files)-1]), "%x-%x.snap", &term, &index); err != nil {
		t.Fatal(err)
	}
	return index
}

// more tells whether each of these has grown by so much since.
func more(counts []atomic.Int64, by int64) func() bool {
	want := make([]int64, len(counts))
	for i := range counts {
		want[i] = counts[i].Load() + by
	}
	return func() bool {
		for i := range counts {
			if counts[i].Load() < want[i] {
				return false
			}
		}
		return true
	}
}

// Somebody else has taken what was etcd's own: its log cannot be written any more. The
// process ends, saying so, and the next one goes on when there is room.
func TestTheWall(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t, 96<<20)
	b := ballast{t, filepath.Join(dir, "ballast")}
	cmd, said := withLeased(t, dir, func(func()) {
		punch(t, filepath.Join(dir, "data/member/wal"))
		b.fill()
	})
	// The key that expires is a write of etcd's own.
	if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(said, "what is programmed stays") || strings.Contains(said, "goroutine") {
		t.Errorf("%v, and it said:\n%s", cmd.ProcessState, said)
	}
	b.drop()
	goesOn(t, dir)
}

// A snapshot of the log, which etcd's own writes bring about, has its place on a full disk.
func TestSnapshotOnAFullDisk(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t, 96<<20)
	b := ballast{t, filepath.Join(dir, "ballast")}
	var watch *os.File
	seen := make(chan error, 1)
	cmd, said := withLeased(t, dir, func(end func()) {
		b.fill()
		watch = watchWrites(t, filepath.Join(dir, "data/member/snap"))
		go func() {
			seen <- await(watch, ".snap")
			end()
		}()
	})
	if watch == nil {
		t.Fatalf("%v, and it said:\n%s", cmd.ProcessState, said)
	}
	watch.Close()
	if err := <-seen; err != nil || !cmd.ProcessState.Success() || strings.Contains(said, "snap file") {
		t.Errorf("%v, %v, and it said:\n%s", err, cmd.ProcessState, said)
	}
	b.drop()
	goesOn(t, dir)
}

// watchWrites has the kernel tell what is written to the files of a folder.
func watchWrites(t *testing.T, dir string) *os.File {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err == nil {
		_, err = unix.InotifyAddWatch(fd, dir, unix.IN_MODIFY)
	}
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), "inotify")
}

// await waits until something is written to a file whose name has this end, or the watch is closed.
func await(watch *os.File, suffix string) error {
	for b := make([]byte, 4096); ; {
		n, err := watch.Read(b)
		if err != nil || bytes.Contains(b[:n], []byte(suffix)) {
			return err
		}
	}
}

// withLeased runs the helper of this name. When its keys are there, ready is called, which may end it.
func withLeased(t *testing.T, dir string, ready func(end func())) (*exec.Cmd, string) {
	t.Helper()
	cmd := helper(t, "leased", dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(patience, func() { cmd.Process.Kill() }).Stop()
	var said strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if lines.Text() == "ready" {
			ready(func() { in.Close() })
		}
		said.WriteString(lines.Text() + "\n")
	}
	cmd.Wait() // ProcessState says how it ended
	return cmd, said.String()
}

// goesOn is what the next process on the helper's directory finds and can do.
func goesOn(t *testing.T, dir string) {
	t.Helper()
	s := open(t, Config{DataDir: filepath.Join(dir, "data"), Log: testLog(t)})
	if kv, err := s.Get(t.Context(), "/a"); err != nil || string(kv.Value) != "kept" {
		t.Errorf("%+v, %v", kv, err)
	}
	mustPut(t, s, "/a", "and on")
	s.Close()
}

// punch takes the blocks that logs have beyond what is written.
func punch(t *testing.T, dir string) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(logs) == 0 {
		t.Fatal(logs, err)
	}
	for _, path := range logs {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		end := (int64(len(bytes.TrimRight(content, "\x00"))) + 4095) &^ 4095
		if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, end, int64(len(content))-end); err != nil {
			t.Fatal(err)
		}
	}
}

func TestQuota(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	c := Config{DataDir: dir, Log: testLog(t), tuning: tuning{quota: 8 << 20, every: 10 * time.Millisecond}}
	s := open(t, c)
	var err error
	n := 0
	for ; err == nil && n < 1000; n++ {
		_, err = s.Put(t.Context(), fmt.Sprint("/big/", n), make([]byte, 100_000))
	}
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "quota") {
		t.Fatalf("after %d puts: %v", n, err)
	}
	if err := untilDown(t, s); !strings.Contains(err.Error(), "quota") {
		t.Error(err)
	}
	s.Close()
	s = open(t, c) // the alarm is on record
	v, _ := watch(t, s, "/")
	if err := untilDown(t, s); !strings.Contains(err.Error(), "quota") {
		t.Error(err)
	}
	if _, err := s.Get(t.Context(), "/big/0"); err != nil {
		t.Errorf("reading goes on: %v", err)
	}
	for i := range n {
		if _, err := s.Delete(t.Context(), fmt.Sprint("/big/", i)); err != nil {
			t.Fatalf("deleting goes on: %v", err)
		}
	}
	untilUp(t, s)
	mustPut(t, s, "/a", "after")
	v.has(t, "/a", "after")
}

// A database that was large once and is not any more gives back its memory and disk.
func TestDatabaseShrinks(t *testing.T) {
	t.Parallel()
	const limit = 4 << 20
	s := open(t, Config{
		DataDir: filepath.Join(t.TempDir(), "data"), Log: testLog(t),
		tuning: tuning{keep: 10, step: 10, every: 10 * time.Millisecond, large: limit},
	})
	size := func() int64 {
		r, err := s.session.client.Status(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		return r.DbSize
	}
	grown := false
	for range 100 {
		mustPut(t, s, "/big", string(make([]byte, 1<<20)))
		if grown = size() > limit; grown {
			break
		}
	}
	if !grown {
		t.Fatal("the database never was large")
	}
	eventually(t, "a small database", func() bool {
		mustPut(t, s, "/big", "small")
		return size() < limit/2
	})
	mustPut(t, s, "/big", "still works")
}
