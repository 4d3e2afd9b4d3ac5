package main

import (
	"context"
	"fmt"
	"iter"
	"net/netip"
	"sync"
	"time"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/crossconnect"
	"go.patchbay.dev/plugins/reconcile"
)

// kindFake is the engine's kind of everything here.
const kindFake = "fake"

// dataplane is one in memory: what is made is there after a time, as with a real one.
type dataplane struct {
	takes time.Duration
	mu    sync.Mutex
	made  map[string]string
}

func newDataplane(takes time.Duration) *dataplane {
	return &dataplane{takes: takes, made: map[string]string{}}
}

func (d *dataplane) set(key, spec string) error {
	time.Sleep(d.takes) // what a real one would take
	d.mu.Lock()
	defer d.mu.Unlock()
	d.made[key] = spec
	return nil
}

// Create makes a value.
func (d *dataplane) Create(_ context.Context, key, spec string) error { return d.set(key, spec) }

// Update changes it.
func (d *dataplane) Update(_ context.Context, key, _, spec string) error { return d.set(key, spec) }

// Delete removes it.
func (d *dataplane) Delete(_ context.Context, key, _ string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.made, key)
	return nil
}

// Retrieve lists all.
func (d *dataplane) Retrieve(context.Context, iter.Seq2[string, string]) (all []reconcile.Found[string], _ error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for key, spec := range d.made {
		all = append(all, reconcile.Found[string]{Key: key, Spec: spec})
	}
	return all, nil
}

// Dependencies: none.
func (d *dataplane) Dependencies(string, string) []string { return nil }

// Equal compares.
func (d *dataplane) Equal(found, want string) bool { return found == want }

// kernelTunnels has every address of a node, and the kernel's devices of every kind.
type kernelTunnels struct{}

func (kernelTunnels) Supports(string) string         { return "" }
func (kernelTunnels) Address(netip.Addr) (int, bool) { return 1500, true }

// kernel is the mechanism KERNEL, whose interfaces are in memory.
type kernel struct{}

var (
	_ crossconnect.Pairer = kernel{}
	_ crossconnect.Placer = kernel{}
)

// Type is its name on the wire.
func (kernel) Type() string { return "KERNEL" }

// Validate takes anything.
func (kernel) Validate(map[string]string) error { return nil }

// Status is that of an interface whose link is up.
func (kernel) Status(x *models.CrossConnect, side models.Side) *models.AttachmentStatus {
	return &models.AttachmentStatus{Mechanism: "KERNEL", Interface: "nsm0", LinkUp: true}
}

// Pair renders a link of two workloads.
func (kernel) Pair(x *models.CrossConnect) ([]reconcile.Value, error) {
	return []reconcile.Value{{Key: kindFake + "/" + x.Id + "/pair", Spec: ""}}, nil
}

// Place renders a tunnel that ends at a workload.
func (kernel) Place(x *models.CrossConnect, side models.Side, device models.Device) ([]reconcile.Value, error) {
	return []reconcile.Value{{Key: kindFake + "/" + x.Id + "/" + string(side), Spec: fmt.Sprint(device)}}, nil
}
