package sriov

import (
	"fmt"
	"slices"
	"strings"
)

// seen is what a look found of a virtual function.
type seen struct {
	pool  string
	card  physical // without its virtual functions
	vf    virtual
	there bool
}

// Look reads sysfs, creates virtual functions where that is configured and there are none, and tells
// of what has changed. Devices is up to date when it returns.
func (p *Plugin) Look() {
	p.looking.Lock()
	defer p.looking.Unlock()
	cards, err := p.sys.cards()
	if err != nil {
		p.log.Warn("virtual functions were not looked at", "err", err)
		return
	}
	if p.createAll(cards) {
		if cards, err = p.sys.cards(); err != nil {
			p.log.Warn("virtual functions were not looked at", "err", err)
			return
		}
	}
	found, problems := p.sort(cards)
	again := p.take(found, problems)
	p.facts.update(found, again)
	p.inspect(found)
}

// createAll creates virtual functions where that is asked for and there are none. A card that has just come is
// left alone until the next look: it may still be under the kernel's rescan of its bus, and some
// kernels' locks (Linux 6.12.117 is one) stop each other for ever if it is told to create meanwhile.
func (p *Plugin) createAll(cards []physical) (created bool) {
	before := p.settled
	p.settled = map[string]bool{}
	for _, pf := range cards {
		if p.settled[pf.pci] = pf.name != ""; !p.settled[pf.pci] || before != nil && !before[pf.pci] {
			continue
		}
		for _, pool := range p.o.Pools {
			if pool.Count == 0 || !pool.takes(pf) || len(pf.vfs) >= pool.Count {
				continue
			}
			why := ""
			if err := p.sys.create(pf, pool.Count); err != nil {
				why = err.Error()
			} else {
				created = true
				p.log.Info("virtual functions created", "pf", pf.pci, "count", pool.Count)
			}
			if why != p.tried[pf.pci] && why != "" {
				p.log.Warn("virtual functions were not created", "pool", pool.Name, "err", why)
			}
			p.tried[pf.pci] = why
			break
		}
	}
	return created
}

// sort gives each virtual function to the first pool that takes it.
func (p *Plugin) sort(cards []physical) (found map[string]seen, problems map[string]string) {
	found, problems = map[string]seen{}, map[string]string{}
	for _, pool := range p.o.Pools {
		in, _ := ranges(pool.VFs) // checked
		matches, devices := 0, 0
		for _, pf := range cards {
			if !pool.takes(pf) {
				continue
			}
			matches++
			if why := p.tried[pf.pci]; why != "" && pool.Count > 0 {
				problems[pool.Name] = why
			}
			for _, vf := range pf.vfs {
				if !in(vf.index) {
					continue
				}
				devices++
				if other, taken := found[vf.pci]; taken {
					if problems[pool.Name] != "" {
						continue
					}
					problems[pool.Name] = fmt.Sprintf("pool %s has %s already, which this one takes, too; narrow vfs, or the cards, of one", other.pool, vf.pci)
					continue
				}
				card := pf
				card.vfs = nil
				found[vf.pci] = seen{pool: pool.Name, card: card, vf: vf, there: true}
			}
		}
		switch {
		case matches == 0:
			problems[pool.Name] = "no card on this node matches it, or none that can have virtual functions; look at lspci, and at its pf, pci, vendor and device"
		case devices == 0 && problems[pool.Name] == "":
			problems[pool.Name] = "its cards have no virtual functions of those indexes; set count, or write to sriov_numvfs"
		}
	}
	return found, problems
}

// take makes what was found what is known, and returns those that have come again since
// the last look: they have forgotten everything.
func (p *Plugin) take(found map[string]seen, problems map[string]string) (again []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for pci, was := range p.seen {
		now, ok := found[pci]
		switch {
		case ok && was.there && now.vf.stamp != was.vf.stamp:
			again = append(again, pci)
		case !ok && p.owners[pci].name != "":
			was.there = false
			found[pci] = was
		}
	}
	for pool, why := range problems {
		if p.problems[pool] != why {
			p.log.Warn("a pool is not complete", "pool", pool, "reason", why)
		}
	}
	p.seen, p.problems = found, problems
	p.list()
	return again
}

// list makes the devices of what is known, and tells if they have changed. p.mu is held.
func (p *Plugin) list() {
	all := make([]Device, 0, len(p.seen))
	for pci, s := range p.seen {
		d := Device{ID: pci, Pool: s.pool, PF: s.card.name, Card: s.card.pci, VF: s.vf.index, NUMA: s.vf.numa, Driver: s.vf.driver, Group: s.vf.group, Owner: p.owners[pci].name}
		d.Why = why(s, d.Owner != "")
		d.Healthy = d.Why == ""
		all = append(all, d)
	}
	place := func(name string) int { return slices.IndexFunc(p.o.Pools, func(x Pool) bool { return x.Name == name }) }
	slices.SortFunc(all, func(a, b Device) int {
		if n := place(a.Pool) - place(b.Pool); n != 0 {
			return n
		}
		if n := strings.Compare(a.Card, b.Card); n != 0 {
			return n
		}
		return a.VF - b.VF
	})
	if !slices.Equal(all, p.devices) {
		p.devices = all
		p.tell()
	}
}

// why says what is wrong with a virtual function; empty: nothing. One that somebody owns is
// where its owner wants it.
func why(s seen, owned bool) string {
	switch {
	case !s.there:
		return "it is gone: its card was taken out, or sriov_numvfs was changed"
	case s.card.name == "":
		return "its physical function " + s.card.pci + " has no interface here: its driver is not loaded, or it is in another network namespace"
	case !s.card.up:
		return "its physical function is down; set it up: ip link set " + s.card.name + " up"
	case owned:
		return ""
	case s.vf.driver != "" && s.vf.driver != DriverVFIO && s.vf.netdev == "":
		return "its interface is in another network namespace: somebody else uses it"
	case s.vf.master != "":
		return "its interface is a port of " + s.vf.master + ": somebody else uses it"
	}
	return ""
}
