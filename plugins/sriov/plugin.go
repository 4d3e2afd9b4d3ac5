// Package sriov keeps the virtual functions of a node's network cards: which there are, how
// they are, and to whom each belongs.
package sriov

import (
	"context"
	"errors"
	"log/slog"
	"sync"
)

// Options of a Plugin.
type Options struct {
	Config
	Tokens Tokens       // nil: there is no device plugin, and no token is good
	Log    *slog.Logger // nil: no log
}

// Plugin knows the node's virtual functions. Its methods may be called at the same time.
type Plugin struct {
	o Options

	mu      sync.Mutex
	devices map[string]*Device // by PCI address
	changed chan struct{}
}

// New checks the configuration and returns a Plugin that knows no device before Start. An
// error names the key of the configuration and the remedy.
func New(o Options) (*Plugin, error) {
	return &Plugin{o: o, devices: map[string]*Device{}, changed: make(chan struct{})}, nil
}

// Start looks for the first time, creates what is to be created, and looks again whenever
// something may have changed, until Stop.
func (p *Plugin) Start(context.Context) error { return nil }

// Stop ends the looking.
func (p *Plugin) Stop() {}

// Pools are the pools as configured.
func (p *Plugin) Pools() []Pool { return p.o.Pools }

// Devices are the virtual functions of all pools, sorted by pool and index, from memory.
func (p *Plugin) Devices() []Device { return nil }

// Changed is closed when Devices gives something else than before.
func (p *Plugin) Changed() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

// Claim gives a virtual function to owner, <connection>/<side> of a cross-connect, until
// Release or until it is on record and that ends. It gives the same again to the same. The
// error names the token, pool or device, and the remedy; no token is repeated in it.
func (p *Plugin) Claim(_ context.Context, owner string, want Want) (Device, error) {
	return Device{}, errors.New("no device")
}

// Release takes back what was claimed for owner and is not on record.
func (p *Plugin) Release(owner string) {}
