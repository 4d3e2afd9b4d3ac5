package linux

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// watchMask are the changes of a directory that can bring or take a namespace in it.
const watchMask = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO |
	unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR

// A directory is watched by inotify for the sake of names in it.
type directory struct {
	wd    int
	names map[string]map[*watched]bool
}

// anchor has the kernel tell of changes at a namespace's path: by the directory it lies
// in or, while that does not exist, by the nearest one above that does; for a process's
// namespace by the process.
func (p *Presence) anchor(w *watched) {
	if magic.MatchString(w.at) {
		p.anchorProcess(w)
		return
	}
	for {
		wd, name, err := p.nearest(w.at)
		if err != nil {
			p.n.log.Warn("a network namespace's coming and going will not be noticed", "key", w.key, "err", err)
			return
		}
		p.move(w, wd, name)
		// What was missing may have come before the watch was there.
		if next, _, err := p.nearest(w.at); err == nil && next == wd {
			return
		}
	}
}

// nearest watches the deepest directory that exists on the way to a path, and gives
// the name in it that leads on.
func (p *Presence) nearest(to string) (wd int, name string, err error) {
	for dir := to; dir != "/"; {
		dir, name = path.Dir(dir), path.Base(dir)
		wd, err = unix.InotifyAddWatch(p.waiter.inotify, dir, watchMask)
		if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR) {
			break
		}
	}
	if err != nil {
		return 0, "", fmt.Errorf("watch the directories of %q: %w", to, err)
	}
	return wd, name, nil
}

// move puts a watched namespace under a directory.
func (p *Presence) move(w *watched, wd int, name string) {
	if w.dir != nil && w.dir.wd == wd && w.name == name {
		return
	}
	p.leaveDirectory(w, wd)
	d := p.dirs[wd]
	if d == nil {
		d = &directory{wd: wd, names: map[string]map[*watched]bool{}}
		p.dirs[wd] = d
	}
	if d.names[name] == nil {
		d.names[name] = map[*watched]bool{}
	}
	d.names[name][w] = true
	w.dir, w.name = d, name
}

// leaveDirectory forgets where a namespace is watched for; the watch ends with the last
// name, except that of the directory keep.
func (p *Presence) leaveDirectory(w *watched, keep int) {
	d := w.dir
	if d == nil {
		return
	}
	w.dir = nil
	delete(d.names[w.name], w)
	if len(d.names[w.name]) == 0 {
		delete(d.names, w.name)
	}
	if len(d.names) == 0 && d.wd != keep {
		p.drop(d)
	}
}

// drop ends the watch of a directory, which the kernel may have ended already (EINVAL).
func (p *Presence) drop(d *directory) {
	delete(p.dirs, d.wd)
	if _, err := unix.InotifyRmWatch(p.waiter.inotify, uint32(d.wd)); err != nil && !errors.Is(err, unix.EINVAL) {
		p.n.log.Warn("end the watch of a directory", "err", err)
	}
}

// leave ends everything that watches for w.
func (p *Presence) leave(w *watched) {
	p.leaveDirectory(w, -1)
	p.leaveProcess(w)
}

// happened takes what inotify has to tell: struct inotify_event and a name, repeatedly.
func (p *Presence) happened(b []byte) {
	for len(b) >= unix.SizeofInotifyEvent {
		wd := int(int32(binary.NativeEndian.Uint32(b)))
		mask := binary.NativeEndian.Uint32(b[4:])
		end := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(b[12:]))
		if end > len(b) {
			return
		}
		name := strings.TrimRight(string(b[unix.SizeofInotifyEvent:end]), "\x00")
		b = b[end:]
		if mask&unix.IN_Q_OVERFLOW != 0 {
			p.lookAgain()
			continue
		}
		p.change(func() []observation { return p.inDirectory(wd, mask, name) })
	}
}

// inDirectory looks at those that an event is about.
func (p *Presence) inDirectory(wd int, mask uint32, name string) (news []observation) {
	d := p.dirs[wd]
	if d == nil {
		return nil
	}
	const ended = unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_IGNORED | unix.IN_UNMOUNT
	if mask&ended != 0 {
		p.drop(d)
		for _, some := range d.names {
			for w := range some {
				w.dir = nil
				p.anchor(w)
				news = append(news, p.check(w, false)...)
			}
		}
		return news
	}
	// A namespace whose name went away is gone even if the name is there again by now.
	const went = unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO
	for w := range d.names[name] {
		p.anchor(w)
		news = append(news, p.check(w, mask&went != 0)...)
	}
	return news
}
