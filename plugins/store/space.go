package store

import (
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"

	"go.etcd.io/etcd/server/v3/storage/backend"
	"golang.org/x/sys/unix"
)

const (
	// reserve is what a write must leave of the disk: two segments of the log (etcd
	// allocates the next one while it fills one) and as much for the database, its
	// compaction and whoever else fills the disk at that moment. etcd itself has no answer
	// to a full disk but to end the process.
	reserve = 4 * segmentBytes

	// ahead is how much of the database beyond its present end has blocks on the disk, so
	// that what is on its way from the log to the database finds room there.
	ahead = 16 << 20

	// spareBytes is what a snapshot of etcd's log may take: one kilobyte or two and its entry in the folder. Every so
	// many writes, its own included (an expired lease is one), etcd begins such a file.
	spareBytes = 64 << 10
)

// room is the room on the disk of the data directory.
type room struct {
	dir  string
	full atomic.Bool     // there was none when it was looked at last
	db   backend.Backend // once etcd runs
}

// admit is nil when a write has room. After a time without any it first sees to the
// database, which may have grown up to its blocks' end meanwhile.
func (r *room) admit() error {
	if err := r.check(); err != nil {
		r.full.Store(true)
		return err
	}
	if !r.full.Load() {
		return nil
	}
	return r.backUp()
}

// check is nil when a write has room.
func (r *room) check() error { return r.checkFor(0) }

// checkFor is nil when there is room for so many bytes, too.
func (r *room) checkFor(bytes int64) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(r.dir, &fs); err != nil {
		return unavailable("etcd.data_dir %s: %s", r.dir, err)
	}
	free := fs.Bavail * uint64(fs.Bsize)
	switch {
	case free < reserve+uint64(bytes):
		return unavailable("no space on the disk of etcd.data_dir %s: less than %d MiB are free", r.dir, reserve>>20)
	case fs.Files > 0 && fs.Ffree < 16:
		return unavailable("no space on the disk of etcd.data_dir %s: no inodes are free", r.dir)
	case fs.Flags&unix.ST_RDONLY != 0:
		return unavailable("the disk of etcd.data_dir %s is mounted read-only", r.dir)
	}
	return nil
}

// backUp gives the database blocks on the disk as far as it may grow up to the next call.
// A file system that cannot do so is no error: it only makes a full disk more dangerous.
func (r *room) backUp() error {
	f, err := os.OpenFile(filepath.Join(r.dir, "member", "snap", "db"), os.O_RDWR, 0)
	if err != nil {
		return unavailable("etcd.data_dir: %s", err)
	}
	defer f.Close()
	err = errors.Join(allocate(f, unix.FALLOC_FL_KEEP_SIZE, r.db.Size()+ahead), r.putBy())
	if err != nil {
		r.full.Store(true)
		return unavailable("no space on the disk of etcd.data_dir %s: %s", r.dir, err)
	}
	r.full.Store(false)
	return nil
}

// putBy has the spare for the next snapshot lie in a file.
func (r *room) putBy() error {
	f, err := os.OpenFile(r.spare(), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	return allocate(f, 0, spareBytes)
}

// spend gives the spare to a snapshot that etcd is about to write, if it has no other room.
func (r *room) spend() {
	if r.check() != nil {
		r.full.Store(true) // the next write that is admitted puts another by
		os.Remove(r.spare())
	}
}

// spare is the file that they lie in.
func (r *room) spare() string { return filepath.Join(r.dir, "spare") }

// allocate gives a file blocks from its beginning on, where the file system can.
func allocate(f *os.File, mode uint32, size int64) error {
	err := unix.Fallocate(int(f.Fd()), mode, 0, size)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	return err
}
