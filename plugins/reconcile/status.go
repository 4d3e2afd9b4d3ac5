package reconcile

import (
	"fmt"
	"slices"
	"strings"
)

// State of a value or a group.
type State int

const (
	// Applying is work in progress, or waits for what is.
	Applying State = iota
	// Pending waits for something that nobody is working on, or that has failed; what can
	// be done is done.
	Pending
	// Applied is there as wanted. What is not wanted any more is deleted.
	Applied
	// Failed was tried and is tried again, or can never be done as it is.
	Failed
	// Gone is not wanted and not there.
	Gone
)

// String returns the state in lower case, as it stands in metrics.
func (s State) String() string {
	if s < Applying || s > Gone {
		return fmt.Sprintf("state(%d)", int(s))
	}
	return [...]string{"applying", "pending", "applied", "failed", "gone"}[s]
}

// Status says how far a group has got.
type Status struct {
	Group    string
	Revision int64 // of the last Change of the group
	State    State
	Reason   string // Pending: which key waits for what, or for which fact; Failed: which key and why
	Err      error  // Failed: the error behind the reason
}

// Status returns the status of a group as it is now; false: there is no such group, or
// it is gone.
func (e *Engine) Status(group string) (Status, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	g := e.groups[group]
	if g == nil {
		return Status{}, false
	}
	return g.status(), true
}

// gist is what two statuses are compared by.
func (s Status) gist() Status {
	s.Err = nil
	return s
}

func (g *group) status() Status {
	s := Status{Group: g.id, Revision: g.revision, State: g.state()}
	switch s.State {
	case Failed:
		s.Err = g.by[Failed][0].problem()
		s.Reason = s.Err.Error()
	case Pending:
		s.Reason = g.by[Pending][0].v.reason()
	}
	return s
}

// problem returns why a claim is Failed.
func (c *claim) problem() error {
	switch {
	case c.v.owner != c:
		return fmt.Errorf("%s: the group %q wants it already", c.v.key, c.v.owner.group.id)
	case c.bad != nil:
		return c.bad
	default:
		return c.v.err
	}
}

// reason returns why a value is Pending: at the end of what waits for one another is
// something that does not, or the beginning.
func (v *value) reason() string {
	path := []string{v.key}
	from, end := v, v
	for end.wait.on != nil && len(path) <= 100 {
		from, end = end, end.wait.on
		if i := slices.Index(path, end.key); i >= 0 {
			return "dependencies go round in a circle: " + strings.Join(append(path[i:], end.key), " → ")
		}
		path = append(path, end.key)
	}
	what := end.key
	if end.kind.facts != nil {
		what = end.kind.words + " " + strings.TrimPrefix(end.key, end.kind.name+"/")
	}
	switch {
	case end.state == Pending && end.kind.err != nil:
		return fmt.Sprintf("%s waits until it is known what exists: %v", end.key, end.kind.err)
	case end.state == Failed:
		what += ", which failed"
	case end.kind.descriptor == nil && end.kind.facts == nil:
		what += fmt.Sprintf(", and there is neither a descriptor nor a source of facts for the kind %q", end.kind.name)
	}
	if from.step == vacate {
		return fmt.Sprintf("%s waits for the end of %s", from.key, what)
	}
	if end.kind.facts != nil {
		return "waits for " + what // whichever does: an operator knows the fact, and need not know the key
	}
	return fmt.Sprintf("%s waits for %s", from.key, what)
}

// report hands the groups that changed to OnStatus, if there is anything to say.
func (e *Engine) report() {
	for _, g := range e.changed {
		g.reviewed = false
		s := g.state()
		if s == Gone && !g.gone {
			g.gone = true
			delete(e.groups, g.id)
		}
		if s != Applying && !g.queued && e.opts.OnStatus != nil {
			g.queued = true
			e.news.push(g)
		}
	}
	clear(e.changed)
	e.changed = e.changed[:0]
}

// tell calls OnStatus until there is no news. A group that has gone on meanwhile is told
// as it is then. It takes over the lock and releases it.
func (e *Engine) tell() {
	e.telling = true
	e.settle()
	e.hire()
	for e.news.len() > 0 {
		g := e.news.pop()
		g.queued = false
		s := g.status()
		if s.State == Applying || s.gist() == g.told {
			continue
		}
		g.told = s.gist()
		e.mu.Unlock()
		e.opts.OnStatus(s)
		e.mu.Lock()
	}
	e.telling = false
	e.unlock()
}
