package kernel

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.patchbay.dev/plugins/linux"
)

// lookAge is for how long a look serves a second reader: both kinds of values are
// retrieved together, and one look has all that either wants.
const lookAge = time.Second

// looks are shared by those who retrieve at the same time.
type looks struct {
	changes atomic.Uint64 // of the world by us
	mu      sync.Mutex
	last    *look
}

// A look is all that is ours in the kernel.
type look struct {
	done    chan struct{}
	changes uint64
	began   time.Time
	err     error
	asked   []string // references, sorted
	byRef   map[string]*linux.Survey
	hidden  []linux.Link // in namespaces that nobody can open
}

// touch notes that an operation has changed something.
func (s *looks) touch() { s.changes.Add(1) }

// look looks at the namespaces with these references and at all others that hold
// something of ours. A look that began after the last operation ended is as good as new.
func (m *Mechanism) look(refs []string) (*look, error) {
	slices.Sort(refs)
	refs = slices.Compact(refs)
	s := &m.looks
	s.mu.Lock()
	l := s.last
	if l != nil && l.changes == s.changes.Load() && time.Since(l.began) < lookAge {
		s.mu.Unlock()
		if <-l.done; l.covers(refs) {
			return l, l.err
		}
		s.mu.Lock()
	}
	l = &look{done: make(chan struct{}), changes: s.changes.Load(), began: time.Now(), asked: refs}
	s.last = l
	s.mu.Unlock()
	l.err = l.take(m.ns, refs)
	close(l.done)
	return l, l.err
}

// located is a spec that names the namespaces where it is to be.
type located interface{ refs() []string }

// lookFor looks where what is wanted is to be, and gives that by key.
func lookFor[S located](m *Mechanism, want iter.Seq2[string, S]) (*look, map[string]S, error) {
	wanted := maps.Collect(want)
	var refs []string
	for _, spec := range wanted {
		refs = append(refs, spec.refs()...)
	}
	l, err := m.look(refs)
	return l, wanted, err
}

// covers tells whether the look went well and looked at all these namespaces.
func (l *look) covers(refs []string) bool {
	return l.err == nil && !slices.ContainsFunc(refs, func(ref string) bool {
		_, asked := slices.BinarySearch(l.asked, ref)
		return !asked
	})
}

func (l *look) take(ns *linux.Namespaces, refs []string) (err error) {
	if l.byRef, err = ns.Surveys(refs); err != nil {
		return err
	}
	known := map[int]bool{}
	for _, s := range l.byRef {
		known[s.NSID] = true
	}
	others, err := ns.Links(func(nsid int) bool { return known[nsid] })
	if err != nil || len(others) == 0 {
		return err
	}
	return l.add(ns, others)
}

// add looks at the namespaces of links that are wanted by nobody we know.
func (l *look) add(ns *linux.Namespaces, links []linux.Link) error {
	in := map[int]bool{}
	for _, link := range links {
		in[link.NSID] = true
	}
	refs, err := ns.Locate(in)
	if err != nil {
		return err
	}
	more, err := ns.Surveys(refs)
	if err != nil {
		return err
	}
	for ref, s := range more {
		l.byRef[ref] = s
		delete(in, s.NSID)
	}
	for _, link := range links {
		if in[link.NSID] {
			l.hidden = append(l.hidden, link)
		}
	}
	return nil
}

// ref is a reference to the namespace that an interface is in: the one that is wanted, if it
// leads there, else one that leads nowhere.
func (l *look) ref(wanted string, link linux.Link) string {
	if s := l.byRef[wanted]; s != nil && s.NSID == link.NSID {
		return wanted
	}
	return fmt.Sprintf(":%d", link.NSID)
}

// links calls f with every interface of ours.
func (l *look) links(f func(linux.Link)) {
	for _, s := range l.surveys {
		for _, link := range s.Links {
			f(link)
		}
	}
	for _, link := range l.hidden {
		f(link)
	}
}

// surveys yields each survey once, with a reference to its namespace.
func (l *look) surveys(yield func(ref string, s *linux.Survey) bool) {
	seen := map[*linux.Survey]bool{}
	for ref, s := range l.byRef {
		if !seen[s] {
			seen[s] = true
			if !yield(ref, s) {
				return
			}
		}
	}
}
