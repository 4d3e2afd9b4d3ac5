package linux

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// A Config is what is set on an interface by us. The order in its lists means nothing.
type Config struct {
	Addresses []netip.Prefix
	Routes    []Route
	Neighbors []Neighbor
	Rules     []Rule
}

// Equal tells whether two configurations hold the same.
func (c Config) Equal(o Config) bool {
	return same(c.Addresses, o.Addresses) && same(c.Routes, o.Routes) &&
		same(c.Neighbors, o.Neighbors) && same(c.Rules, o.Rules)
}

func same[T comparable](a, b []T) bool {
	if slices.Equal(a, b) {
		return true
	}
	gone, missing := diff(a, b)
	return len(gone) == 0 && len(missing) == 0
}

// diff tells what of have is not wanted and what of want is not there.
func diff[T comparable](have, want []T) (gone, missing []T) {
	in := make(map[T]bool, len(have)) // true: wanted as well
	for _, v := range have {
		in[v] = false
	}
	for _, v := range want {
		if _, ok := in[v]; !ok {
			missing = append(missing, v)
		}
		in[v] = true
	}
	for _, v := range have {
		if !in[v] {
			gone = append(gone, v)
		}
	}
	return gone, missing
}

// A step is one change of a configuration.
type step struct {
	request
	verb string
	what fmt.Stringer
}

// steps lists the changes from one configuration to another: first all that goes, so
// that nothing stands in the way, then what comes, each after what it needs.
func steps(index int, have, want Config) []step {
	noRules, rules := diff(have.Rules, want.Rules)
	noRoutes, routes := diff(have.Routes, want.Routes)
	noNeighbors, neighbors := diff(have.Neighbors, want.Neighbors)
	noAddresses, addresses := diff(have.Addresses, want.Addresses)
	slices.SortStableFunc(routes, viaLast)
	var all []step
	all = plan(all, index, unix.RTM_DELRULE, "delete", noRules, ruleRequest)
	all = plan(all, index, unix.RTM_DELROUTE, "delete", noRoutes, routeRequest)
	all = plan(all, index, unix.RTM_DELNEIGH, "delete", noNeighbors, neighborRequest)
	all = plan(all, index, unix.RTM_DELADDR, "delete", noAddresses, addressRequest)
	all = plan(all, index, unix.RTM_NEWADDR, "add", addresses, addressRequest)
	all = plan(all, index, unix.RTM_NEWROUTE, "add", routes, routeRequest)
	all = plan(all, index, unix.RTM_NEWNEIGH, "add", neighbors, neighborRequest)
	return plan(all, index, unix.RTM_NEWRULE, "add", rules, ruleRequest)
}

func plan[T fmt.Stringer](all []step, index, kind int, verb string, items []T, f func(kind, flags, index int, item T) request) []step {
	flags := 0
	if verb == "add" {
		flags = unix.NLM_F_CREATE | unix.NLM_F_EXCL
	}
	for _, item := range items {
		all = append(all, step{f(kind, flags, index, item), verb, item})
	}
	return all
}

// Configure brings what we set on an interface to what is wanted. It looks at what is
// there, by the kernel's marks, and changes only what differs. Kernels before 5.18 mark
// no addresses; there, those of was that are not wanted are taken off as well.
func (ns *Namespace) Configure(index int, was, want Config) error {
	return ns.configure(index, was, want, func(c Config) Config { return c })
}

// SetAddresses is Configure for addresses alone; the rest stays as it is.
func (ns *Namespace) SetAddresses(index int, was, want []netip.Prefix) error {
	return ns.configure(index, Config{Addresses: was}, Config{Addresses: want}, func(c Config) Config { return Config{Addresses: c.Addresses} })
}

// configure changes that part of what is there.
func (ns *Namespace) configure(index int, was, want Config, part func(Config) Config) error {
	for try := 0; ; try++ {
		have, err := ns.config(index, was, want)
		if err != nil {
			return err
		}
		have = part(have)
		todo := steps(index, have, want)
		if len(todo) == 0 {
			return nil
		}
		// An address that goes takes others of its subnet and routes along, so look again.
		if err := ns.apply(index, todo); err != nil || try == 3 || !slices.ContainsFunc(todo, takesAlong) {
			return err
		}
	}
}

func takesAlong(s step) bool { return s.Type == unix.RTM_DELADDR }

// Addresses are those of ours on an interface, and those among want that are there unmarked.
func (ns *Namespace) Addresses(index int, want []netip.Prefix) ([]netip.Prefix, error) {
	c, err := ns.config(index, Config{}, Config{Addresses: want})
	return c.Addresses, err
}

// ConfigureNew sets up an interface that has just been made, where nothing is to be found.
func (ns *Namespace) ConfigureNew(index int, want Config) error {
	return ns.apply(index, steps(index, Config{}, want))
}

// apply does the steps and says of each that fails why.
func (ns *Namespace) apply(index int, todo []step) error {
	if len(todo) == 0 {
		return nil
	}
	errs, err := ns.send(todo)
	if err == nil && ipv6Disabled(todo, errs) {
		if err = ns.enableIPv6(index); err == nil {
			return ns.again(todo, errs)
		}
	}
	if err != nil {
		return fmt.Errorf("network namespace %q: %w", ns.ref, err)
	}
	return ns.failures(todo, errs)
}

// again repeats the steps that failed.
func (ns *Namespace) again(todo []step, errs []error) error {
	var left []step
	for i, e := range errs {
		if e != nil {
			left = append(left, todo[i])
		}
	}
	errs, err := ns.send(left)
	return errors.Join(err, ns.failures(left, errs))
}

func (ns *Namespace) send(todo []step) ([]error, error) {
	c, err := ns.conn()
	if err != nil {
		return nil, err
	}
	reqs := make([]request, len(todo))
	for i, s := range todo {
		reqs[i] = s.request
	}
	return c.do(reqs...)
}

// failures joins what went wrong. That there was nothing to delete did not.
func (ns *Namespace) failures(todo []step, errs []error) error {
	var failed []error
	for i, e := range errs {
		if e == nil || (todo[i].verb == "delete" && goneAlready(e)) {
			continue
		}
		if errors.Is(e, unix.EEXIST) {
			e = fmt.Errorf("%w: the workload or another connection has it already", e)
		}
		failed = append(failed, fmt.Errorf("%s %s in network namespace %q: %w", todo[i].verb, todo[i].what, ns.ref, e))
	}
	return errors.Join(failed...)
}

// goneAlready tells whether the kernel refuses to delete because there is nothing to delete.
func goneAlready(err error) bool {
	return slices.ContainsFunc([]error{unix.ENOENT, unix.ESRCH, unix.EADDRNOTAVAIL, unix.ENODEV},
		func(e error) bool { return errors.Is(err, e) })
}
