package main

import (
	"context"
	"os"
	"sync"

	"github.com/networkservicemesh/api/pkg/api/networkservice/mechanisms/common"

	"go.patchbay.dev/agent/cmd/patchbay/endpoint"
	"go.patchbay.dev/plugins/linux"
)

// ports are the interfaces of an endpoint's connections.
type ports struct {
	mu      sync.Mutex
	names   map[string]bool
	changed chan struct{} // of size one
}

func newPorts() *ports { return &ports{names: map[string]bool{}, changed: make(chan struct{}, 1)} }

// event takes in what becomes of a connection.
func (p *ports) event(e endpoint.Event) {
	name := e.Connection.GetMechanism().GetParameters()[common.InterfaceNameKey]
	p.mu.Lock()
	defer p.mu.Unlock()
	if !e.Up {
		delete(p.names, name)
		return
	}
	p.names[name] = true
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

func (p *ports) has(name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.names[name]
}

// bridge has them be ports of a bridge in the namespace until leave is called, and waits until
// that is there.
func (p *ports) bridge(ctx context.Context, ns *os.File, name string, problem func(error)) (leave func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	made, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- linux.KeepBridge(ctx, ns, name, p.has, p.changed, func() { close(made) }, problem)
	}()
	select {
	case <-made:
	case err := <-ended:
		cancel()
		return nil, err
	}
	return func() {
		cancel()
		if err := <-ended; err != nil {
			problem(err)
		}
	}, nil
}
