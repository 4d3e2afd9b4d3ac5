package linux

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// A Survey is what is ours in one namespace.
type Survey struct {
	NSID  int
	Links []Link // their peers are not known here
	// Configs by interface index, of all interfaces of ours.
	Configs map[int]Config
	// Unmarked are the addresses on interfaces of ours that do not carry our mark, by
	// interface index: the workload's own or, on kernels before 5.18, perhaps ours.
	Unmarked map[int][]netip.Prefix
	// Stale counts the rules whose interface is gone, see [Namespace.DeleteStale].
	Stale int
}

// Surveys looks through the namespaces with these references, several at a time and each
// once, however many references lead to it and however many interfaces it holds. A
// reference that leads to no namespace that may be used has no entry.
func (n *Namespaces) Surveys(refs []string) (map[string]*Survey, error) {
	var (
		all  sync.WaitGroup
		work = surveys{n: n, byRef: map[string]*Survey{}, byID: map[identity]*Survey{}}
		errs = make(chan error, runtime.GOMAXPROCS(0))
		size = max(1, (len(refs)+cap(errs)-1)/cap(errs))
	)
	for part := range slices.Chunk(refs, size) {
		all.Go(func() {
			errs <- n.visiting(func(enter func(fd int) error) error {
				var failed error
				for _, ref := range part {
					failed = errors.Join(failed, work.visit(ref, enter))
				}
				return failed
			})
		})
	}
	all.Wait()
	close(errs)
	var failed error
	for err := range errs {
		failed = errors.Join(failed, err)
	}
	return work.byRef, failed
}

// surveys are being made.
type surveys struct {
	n     *Namespaces
	mu    sync.Mutex
	byRef map[string]*Survey
	byID  map[identity]*Survey
}

// visit adds the survey of one namespace.
func (w *surveys) visit(ref string, enter func(fd int) error) error {
	ns, err := w.n.Open(ref)
	if err != nil {
		return unlessUnusable(err)
	}
	if s, first := w.claim(ref, ns.id); first {
		err = ns.enter(enter)
		if err == nil {
			err = ns.surveyInto(s)
		}
	}
	return errors.Join(err, ns.Close())
}

// claim returns the survey of a namespace and whether it is the caller's to fill.
func (w *surveys) claim(ref string, id identity) (s *Survey, first bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, known := w.byID[id]
	if !known {
		s = &Survey{Configs: map[int]Config{}, Unmarked: map[int][]netip.Prefix{}}
		w.byID[id] = s
	}
	w.byRef[ref] = s
	return s, !known
}

// unlessUnusable drops an error that says of a reference that nothing of ours can be there.
func unlessUnusable(err error) error {
	for _, e := range []error{ErrBadRef, ErrNoNamespace, ErrNotNamespace, ErrSymlink, ErrOwnNamespace} {
		if errors.Is(err, e) {
			return nil
		}
	}
	return err
}

// Survey looks through the namespace once, however many interfaces it holds.
func (ns *Namespace) Survey() (*Survey, error) {
	s := &Survey{Configs: map[int]Config{}, Unmarked: map[int][]netip.Prefix{}}
	return s, ns.surveyInto(s)
}

func (ns *Namespace) surveyInto(s *Survey) error {
	nsid, err := ns.NSID()
	if err != nil {
		return err
	}
	c, err := ns.conn()
	if err != nil {
		return err
	}
	s.NSID = nsid
	all, err := ns.n.listed(c, Own)
	if err == nil {
		alive := tables(all)
		s.Links = ns.n.ours(all, nsid, false)
		if err = ns.complete(s.Links); err == nil {
			err = c.survey(s, alive)
		}
	}
	if err != nil {
		return fmt.Errorf("look through network namespace %q: %w", ns.ref, err)
	}
	return nil
}

func (c *conn) survey(s *Survey, alive map[uint32]bool) error {
	index := 0 // all
	for _, l := range s.Links {
		s.Configs[l.Index] = Config{}
	}
	if len(s.Links) == 1 {
		index = s.Links[0].Index
	}
	found, err := c.look(index, len(s.Links) > 0)
	if err != nil {
		return err
	}
	for _, a := range found.addresses {
		s.edit(a.index, func(cfg *Config) {
			if a.ours {
				cfg.Addresses = append(cfg.Addresses, a.prefix)
			} else {
				s.Unmarked[a.index] = append(s.Unmarked[a.index], a.prefix)
			}
		})
	}
	for _, r := range found.routes {
		s.edit(r.index, func(cfg *Config) { cfg.Routes = append(cfg.Routes, r.route) })
	}
	for _, n := range found.neighbors {
		s.edit(n.index, func(cfg *Config) { cfg.Neighbors = append(cfg.Neighbors, n.neighbor) })
	}
	owner := make(map[uint32]int, len(s.Links))
	for _, l := range s.Links {
		owner[tableBits(l)] = l.Index
	}
	for _, r := range found.rules {
		bits := r.table >> policyBits
		if index, ok := owner[bits]; ok {
			s.edit(index, func(cfg *Config) { cfg.Rules = append(cfg.Rules, r.rule) })
		} else if !alive[bits] {
			s.Stale++
		}
	}
	return nil
}

func (s *Survey) edit(index int, f func(cfg *Config)) {
	if cfg, ok := s.Configs[index]; ok {
		f(&cfg)
		s.Configs[index] = cfg
	}
}

// tableBits are what the tables of an interface's policies have in common.
func tableBits(l Link) uint32 { return Table(l.Index, 1) >> policyBits }

// tables of the interfaces that are there, whoever made them.
func tables(links []Link) map[uint32]bool {
	m := make(map[uint32]bool, len(links))
	for _, l := range links {
		m[tableBits(l)] = true
	}
	return m
}

// With is the survey's view of one interface, counting as ours the unmarked addresses
// among the wanted.
func (s *Survey) With(index int, want []netip.Prefix) Config {
	cfg := s.Configs[index]
	for _, p := range s.Unmarked[index] {
		if slices.Contains(want, p) {
			cfg.Addresses = append(cfg.Addresses, p)
		}
	}
	return cfg
}

// everything found in a namespace, of one interface or of all.
type everything struct {
	addresses []foundAddress
	routes    []foundRoute
	neighbors []foundNeighbor
	rules     []foundRule
}

// look finds what there is on an interface, or on all when index is 0. Rules are those
// of the namespace; onLinks is false when they are all that matters.
func (c *conn) look(index int, onLinks bool) (e everything, err error) {
	if onLinks {
		var errs [3]error
		e.addresses, errs[0] = c.addresses(index)
		e.routes, errs[1] = c.routes(index)
		e.neighbors, errs[2] = c.neighbors(index)
		if err := errors.Join(errs[:]...); err != nil {
			return e, err
		}
	}
	e.rules, err = c.rules()
	return e, err
}

// config is what we have set on an interface, given what we did and want to.
func (ns *Namespace) config(index int, was, want Config) (cfg Config, err error) {
	c, err := ns.conn()
	if err != nil {
		return cfg, err
	}
	found, err := c.look(index, true)
	if absent(err) {
		err = ErrNoLink
	}
	if err != nil {
		return cfg, fmt.Errorf("look at interface %d in network namespace %q: %w", index, ns.ref, err)
	}
	for _, a := range found.addresses {
		unmarked := slices.Contains(want.Addresses, a.prefix) ||
			(!ns.n.marksAddresses && slices.Contains(was.Addresses, a.prefix))
		if a.index == index && (a.ours || unmarked) {
			cfg.Addresses = append(cfg.Addresses, a.prefix)
		}
	}
	for _, r := range found.routes {
		cfg.Routes = append(cfg.Routes, r.route)
	}
	for _, n := range found.neighbors {
		cfg.Neighbors = append(cfg.Neighbors, n.neighbor)
	}
	for _, r := range found.rules {
		if _, ok := policyOf(r.table, index); ok {
			cfg.Rules = append(cfg.Rules, r.rule)
		}
	}
	return cfg, nil
}

// DeleteStale deletes the rules of ours whose interface is gone.
func (ns *Namespace) DeleteStale() error {
	c, err := ns.conn()
	if err != nil {
		return err
	}
	// Rules first: the interface of one that is found now and is not stale is found after.
	rules, err1 := c.rules()
	links, err2 := ns.n.listed(c, Own)
	if err := cmp.Or(err1, err2); err != nil {
		return fmt.Errorf("look for rules in network namespace %q: %w", ns.ref, err)
	}
	alive := tables(links)
	var todo []step
	for _, r := range rules {
		if !alive[r.table>>policyBits] {
			todo = append(todo, step{ruleOfTable(unix.RTM_DELRULE, 0, r.table, r.rule), "delete", r.rule})
		}
	}
	return ns.apply(0, todo)
}
