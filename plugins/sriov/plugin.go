// Package sriov keeps the virtual functions of a node's network cards: which there are, how
// they are, and to whom each belongs; and makes one ready for whoever has it.
package sriov

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// lookEvery is how often the plugin looks for what nobody tells of: a number of VFs that
// was changed, a card that was taken out, a driver that was changed.
const lookEvery = time.Second

// Options of a Plugin.
type Options struct {
	Config
	Kernel Kernel
	Write  func(file, value string) error // writes a file of sysfs; nil: as any file
	Tokens Tokens                         // nil: there is no device plugin, and no token is good
	Log    *slog.Logger                   // nil: no log
}

// Plugin knows the node's virtual functions. Its methods may be called at the same time.
type Plugin struct {
	o     Options
	log   *slog.Logger
	sys   tree
	vfio  string // where the kernel has the devices of IOMMU groups
	homes Notes[Home]
	facts facts
	// lost tells the engine of damage.
	lost func(key string)

	looking sync.Mutex      // one look at a time
	settled map[string]bool // of the last look: physical functions that had an interface; nil: there was none

	mu       sync.Mutex
	devices  []Device          // sorted by pool, card and index
	seen     map[string]seen   // by PCI address, also of what is gone and owned
	owners   map[string]owner  // by PCI address
	applied  map[string]VF     // what was made ready, by PCI address
	problems map[string]string // by pool
	tried    map[string]string // by PF: why it got no virtual functions
	changed  chan struct{}

	stop context.CancelFunc
	done sync.WaitGroup
}

// New checks the configuration and returns a Plugin that knows no device before Start. An
// error names the key of the configuration and the remedy.
func New(o Options) (*Plugin, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	p := &Plugin{
		o: o, log: o.Log, sys: newTree(o.Sysfs), vfio: "/dev/vfio", homes: Notes[Home]{o.RunDir}, lost: func(string) {},
		seen: map[string]seen{}, owners: map[string]owner{}, applied: map[string]VF{}, problems: map[string]string{}, tried: map[string]string{},
		changed: make(chan struct{}),
	}
	if o.Write != nil {
		p.sys.write = o.Write
	}
	p.facts.plugin, p.facts.watched = p, map[string]bool{}
	return p, nil
}

// Start looks for the first time, creates what is to be created, and looks again all the
// time, until Stop.
func (p *Plugin) Start(ctx context.Context) error {
	if len(p.o.Pools) == 0 {
		return nil
	}
	p.Look()
	ctx, p.stop = context.WithCancel(ctx)
	p.done.Go(func() {
		tick := time.NewTicker(lookEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				p.Look()
			case <-ctx.Done():
				return
			}
		}
	})
	return nil
}

// Stop ends the looking.
func (p *Plugin) Stop() {
	if p.stop != nil {
		p.stop()
	}
	p.done.Wait()
}

// Pool is one of them by its name.
func (p *Plugin) Pool(name string) (Pool, bool) {
	i := slices.IndexFunc(p.o.Pools, func(x Pool) bool { return x.Name == name })
	if i < 0 {
		return Pool{}, false
	}
	return p.o.Pools[i], true
}

// Devices are the virtual functions of all pools, sorted by pool and index, from memory.
func (p *Plugin) Devices() []Device {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.devices)
}

// Changed is closed when Devices gives something else than before.
func (p *Plugin) Changed() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

// tell wakes those who wait for a change. p.mu is held.
func (p *Plugin) tell() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// errNoPools is for who asks on a node that has none.
var errNoPools = errors.New("this node has no pools of virtual functions; configure sriov.pools")
