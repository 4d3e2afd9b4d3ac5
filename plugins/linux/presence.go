package linux

import (
	"errors"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// factKind begins the keys of the facts: netns/<reference>.
const factKind = "netns/"

// Presence tells which of the namespaces that somebody waits for or uses are there. An
// event is only the occasion to look; what counts is what is found. It holds no
// namespace open.
type Presence struct {
	n       *Namespaces
	waiter  waiter
	telling sync.Mutex // held while observations are told, so that they are told in order
	observe func(key string, present bool)

	mu   sync.Mutex
	refs map[string]*watched
	dirs map[int]*directory // by inotify's watch descriptor
	pids map[int]*watched   // by pidfd
}

// A watched namespace.
type watched struct {
	key  string
	ref  ref
	seen stamp
	// half: a file lies there that a namespace may be about to be mounted on.
	half bool
	dir  *directory // where inotify watches for it, nil if nowhere
	name string     // the name in dir that matters
	pid  int        // pidfd of the process whose namespace it is, or -1
	nsid int        // of one that came as a descriptor, or Own
	at   string     // the path that is watched, empty if none is
}

// A stamp tells one namespace at a path from the next; zero is none.
type stamp struct {
	there   bool
	id      identity
	mount   uint64 // STATX_MNT_ID
	changed unix.StatxTimestamp
}

// An observation is what the subscriber has yet to hear.
type observation struct {
	key     string
	present bool
}

func newPresence(n *Namespaces) (*Presence, error) {
	p := &Presence{n: n, refs: map[string]*watched{}, dirs: map[int]*directory{}, pids: map[int]*watched{}}
	return p, p.waiter.open()
}

// Presence gives the source of the facts netns/<reference>, in the canonical spelling.
// Observe is told each change, in order and never from within Watch; there is one.
func (n *Namespaces) Presence(observe func(key string, present bool)) *Presence {
	n.presence.telling.Lock()
	defer n.presence.telling.Unlock()
	n.presence.observe = observe
	return n.presence
}

// Watch begins to watch the fact with this key and tells whether it holds now. What is
// there but cannot be used (a symbolic link, another kind of file) counts as present:
// who opens it is told why not.
func (p *Presence) Watch(key string) (present bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w, ok := p.refs[key]; ok {
		return w.seen.there
	}
	r, err := parseRef(strings.TrimPrefix(key, factKind))
	if err != nil {
		return true
	}
	w := &watched{key: key, ref: r, pid: -1, nsid: Own, at: r.path}
	p.refs[key] = w
	if r.path == "" {
		w.seen = p.arrive(w)
		return w.seen.there
	}
	p.anchor(w)
	w.seen, w.half = p.look(w)
	return w.seen.there
}

// Unwatch ends what Watch began.
func (p *Presence) Unwatch(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w, ok := p.refs[key]; ok {
		p.leave(w)
		delete(p.refs, key)
	}
}

// arrive looks for a namespace that came as a descriptor. The kernel tells of the end
// of a namespace by its nsid, so it is given one.
func (p *Presence) arrive(w *watched) stamp {
	ns, err := p.n.Open(w.ref.String())
	if err != nil {
		return stamp{there: !errors.Is(err, ErrNoNamespace)}
	}
	w.nsid, err = ns.NSID()
	if err = errors.Join(err, ns.Close()); err != nil {
		p.n.log.Warn("the end of a network namespace will not be noticed", "key", w.key, "err", err)
	}
	if p.n.taps {
		// Who makes taps keeps their namespaces alive, so that its end is not told.
		p.leave(w)
		if w.at = p.n.finder.path(w.ref.id); w.at != "" {
			p.anchor(w)
		}
	}
	return stamp{there: true, id: w.ref.id}
}

// look finds what is at a path.
func (p *Presence) look(w *watched) (s stamp, half bool) {
	const want = unix.STATX_TYPE | unix.STATX_SIZE | unix.STATX_INO | unix.STATX_CTIME | unix.STATX_MNT_ID
	flags := unix.AT_SYMLINK_NOFOLLOW
	isMagic := magic.MatchString(w.ref.path)
	if isMagic {
		flags = 0
	}
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, w.ref.path, flags, want, &st); err != nil {
		return stamp{}, false
	}
	id := identity{unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino}
	if id.dev != p.n.own.dev && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size == 0 {
		return stamp{}, true
	}
	if isMagic { // the kernel makes these anew now and then, with new times
		return stamp{there: true, id: id}, false
	}
	return stamp{there: true, id: id, mount: st.Mnt_id, changed: st.Ctime}, false
}

// check looks again and returns what is to be told. If replaced, what was there is
// known to be gone, whatever is there now.
func (p *Presence) check(w *watched, replaced bool) (news []observation) {
	was := w.seen
	if w.ref.path == "" {
		if w.seen = p.arrive(w); was.there && !w.seen.there {
			p.leave(w)
			news = append(news, observation{w.key, false})
		}
		return news
	}
	w.seen, w.half = p.look(w)
	if was.there && (replaced || w.seen != was) {
		news = append(news, observation{w.key, false})
	}
	if w.seen.there && (replaced || w.seen != was) {
		news = append(news, observation{w.key, true})
	}
	return news
}

// change runs f on the state and tells what comes of it.
func (p *Presence) change(f func() []observation) {
	p.telling.Lock()
	defer p.telling.Unlock()
	p.mu.Lock()
	news := f()
	p.mu.Unlock()
	if p.observe == nil {
		return
	}
	last := map[string]bool{}
	for _, o := range news {
		p.observe(o.key, o.present)
		last[o.key] = o.present
	}
	for key, present := range last {
		p.settle(key, present)
	}
}

// settle makes sure that the last word on a key is how it is: meanwhile the watch may
// have been ended and another begun, which then heard what was meant for the first.
func (p *Presence) settle(key string, told bool) {
	for {
		p.mu.Lock()
		w, ok := p.refs[key]
		present := ok && w.seen.there
		p.mu.Unlock()
		if !ok || present == told {
			return
		}
		told = present
		p.observe(key, present)
	}
}

// namespaceGone is called when the namespace with an nsid has ended.
func (p *Presence) namespaceGone(nsid int) {
	p.change(func() (news []observation) {
		for _, w := range p.refs {
			if w.nsid != nsid || !w.seen.there {
				continue
			}
			// The word may come late, when another namespace has the number.
			w.nsid = Own
			if w.seen = p.arrive(w); !w.seen.there {
				news = append(news, observation{w.key, false})
			}
		}
		return news
	})
}

// lookAgain looks at all paths.
func (p *Presence) lookAgain() {
	p.change(func() (news []observation) {
		for _, w := range p.refs {
			if w.at != "" {
				p.anchor(w)
				news = append(news, p.check(w, false)...)
			}
		}
		return news
	})
}

// missed is called when namespaces may have ended unheard. One that came as a
// descriptor and cannot be opened any more lives on as long as its nsid does.
func (p *Presence) missed() {
	ids, err := p.n.nsids(none)
	if err != nil {
		p.n.log.Warn("the end of network namespaces may have been missed", "err", err)
		return
	}
	p.change(func() (news []observation) {
		for _, w := range p.refs {
			if w.nsid != Own && !slices.Contains(ids, w.nsid) {
				w.seen, w.nsid = stamp{}, Own
				news = append(news, observation{w.key, false})
			}
		}
		return news
	})
}

// mounted is called when something was mounted or unmounted.
func (p *Presence) mounted() {
	p.change(func() (news []observation) {
		for _, w := range p.refs {
			if w.half {
				news = append(news, p.check(w, false)...)
			}
		}
		return news
	})
}
