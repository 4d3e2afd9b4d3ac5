package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// forkTime is how long a file may stay locked after its last close: a process that was
// forked meanwhile has it, too, up to its exec.
const forkTime = 300 * time.Millisecond

// lockDataDir makes the directory and takes it for this process. Waiting for who has it
// is what etcd would do, without end.
func lockDataDir(dir string) (unlock func(), err error) {
	if err := makeDataDir(dir); err != nil {
		return nil, fmt.Errorf("etcd.data_dir: %w", err)
	}
	if err := unix.Access(dir, unix.W_OK); err != nil {
		return nil, fmt.Errorf("etcd.data_dir: write to %s: %w", dir, err)
	}
	var lock *os.File
	err = afterForks(func() (err error) {
		lock, err = lockFile(dir, unix.LOCK_EX|unix.LOCK_NB)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("etcd.data_dir: %w", err)
	}
	return func() { lock.Close() }, nil
}

// awaitFiles makes sure that no etcd has its files in the directory open: the database
// is locked with flock(2), the log with fcntl(2).
func awaitFiles(dir string) error {
	db := filepath.Join(dir, "member", "snap", "db")
	logs, err := filepath.Glob(filepath.Join(dir, "member", "wal", "*.wal"))
	if err != nil {
		return err
	}
	return afterForks(func() error {
		f, err := lockFile(db, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			err = f.Close()
		}
		for i := 0; i < len(logs) && err == nil; i++ {
			err = unlocked(logs[i])
		}
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	})
}

// afterForks repeats what finds a file in use, for a moment.
func afterForks(f func() error) error {
	for end := time.Now().Add(forkTime); ; time.Sleep(forkTime / 30) {
		if err := f(); !errors.Is(err, errInUse) || time.Now().After(end) {
			return err
		}
	}
}

// makeDataDir makes the directory for nobody else's eyes. One that was there before and
// holds nothing but etcd's files is closed too.
func makeDataDir(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	err := os.Mkdir(dir, 0o700)
	if err == nil || !errors.Is(err, os.ErrExist) {
		return err
	}
	fi, err := os.Stat(dir)
	if err != nil || fi.Mode().Perm() == 0o700 {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if len(entries) > 1 || len(entries) == 1 && entries[0].Name() != "member" {
		return nil
	}
	return os.Chmod(dir, 0o700)
}

// errInUse is of a file or directory that another process has locked.
var errInUse = errors.New("in use by another process")

// lockFile opens and locks (flock(2)) a file or directory; closing it unlocks it.
func lockFile(path string, how int) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errInUse
		}
		return nil, &os.PathError{Op: "lock", Path: path, Err: err}
	}
	return f, nil
}

// unlocked is nil when nobody has a lock of fcntl(2) on a file.
func unlocked(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lock); err != nil {
		return &os.PathError{Op: "look at the lock of", Path: path, Err: err}
	}
	if lock.Type != unix.F_UNLCK {
		return &os.PathError{Op: "lock", Path: path, Err: errInUse}
	}
	return nil
}
