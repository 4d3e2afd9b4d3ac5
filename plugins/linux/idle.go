package linux

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// linger is for how long a namespace stays open after its last use: a connection is
	// made in several steps, and to enter a namespace costs as much as a step. It is short,
	// as what is open keeps the namespace alive.
	linger = 300 * time.Millisecond
	// maxIdle bounds how many stay open.
	maxIdle = 256
	// fresh is for how long a look at where a namespace lies is believed: less than a connection takes, whose
	// steps would each look. One that ends meanwhile ends as one would right after the look.
	fresh = 5 * time.Millisecond
)

// idleNamespaces were opened and may be used again. Each is one user's at a time.
type idleNamespaces struct {
	mu    sync.Mutex
	byID  map[identity][]*Namespace
	order []*Namespace // by the time since when they are idle
	timer *time.Timer  // nil while there are none
}

// reuse takes a namespace that is open still. Its inode cannot be another's meanwhile.
func (n *Namespaces) reuse(id identity, ref string) *Namespace {
	p := &n.opened
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.byID[id]
	if len(list) == 0 {
		return nil
	}
	ns := list[len(list)-1]
	p.forget(ns)
	ns.ref = ref
	return ns
}

// reuseNamed takes the namespace of a descriptor that is open still, if others than the agent
// keep it, too. Not that of a path, which may lead elsewhere by now.
func (n *Namespaces) reuseNamed(ref string) *Namespace {
	if !strings.HasPrefix(ref, inodeScheme) {
		return nil
	}
	p := &n.opened
	p.mu.Lock()
	i := slices.IndexFunc(p.order, func(ns *Namespace) bool { return ns.ref == ref })
	if i < 0 {
		p.mu.Unlock()
		return nil
	}
	ns := p.order[i]
	p.forget(ns)
	p.mu.Unlock()
	if ns.lies(n.finder.path(ns.id)) {
		return ns
	}
	if err := ns.close(); err != nil {
		n.log.Warn("close a network namespace", "key", ref, "err", err)
	}
	return nil
}

// keep leaves a namespace open for the next user; false: it is the caller's to close.
func (n *Namespaces) keep(ns *Namespace) bool {
	p := &n.opened
	p.mu.Lock()
	defer p.mu.Unlock()
	if ns.c == nil || ns.c.failed || len(p.order) >= maxIdle || n.closed {
		return false
	}
	if p.byID == nil {
		p.byID = map[identity][]*Namespace{}
	}
	ns.since = time.Now()
	p.byID[ns.id] = append(p.byID[ns.id], ns)
	p.order = append(p.order, ns)
	if p.timer == nil {
		p.timer = time.AfterFunc(linger, n.tire)
	}
	return true
}

// tire closes those that nobody has used for long enough.
func (n *Namespaces) tire() {
	p := &n.opened
	p.mu.Lock()
	var old []*Namespace
	for len(p.order) > 0 && (n.closed || time.Since(p.order[0].since) >= linger) {
		old = append(old, p.order[0])
		p.forget(p.order[0])
	}
	p.timer = nil
	if len(p.order) > 0 {
		p.timer = time.AfterFunc(time.Until(p.order[0].since.Add(linger)), n.tire)
	}
	p.mu.Unlock()
	for _, ns := range old {
		if err := ns.close(); err != nil {
			n.log.Warn("close a network namespace", "key", ns.ref, "err", err)
		}
	}
}

// forget takes a namespace out of those that are idle.
func (p *idleNamespaces) forget(ns *Namespace) {
	without := func(list []*Namespace) []*Namespace {
		for i, o := range list {
			if o == ns {
				return append(list[:i:i], list[i+1:]...)
			}
		}
		return list
	}
	p.order = without(p.order)
	if p.byID[ns.id] = without(p.byID[ns.id]); len(p.byID[ns.id]) == 0 {
		delete(p.byID, ns.id)
	}
}

// close closes a namespace that nobody will use again.
func (ns *Namespace) close() error {
	err := unix.Close(ns.fd)
	if ns.c != nil {
		err = errors.Join(err, ns.c.close())
	}
	return err
}
