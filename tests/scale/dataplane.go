package main

import (
	"context"
	"iter"
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

// Join joins two ports.
func (d *dataplane) Join(x *models.CrossConnect, client, endpoint models.Port) ([]reconcile.Value, error) {
	return []reconcile.Value{{Key: kindFake + "/" + x.Id + "/join", Spec: client.Tag + " " + endpoint.Tag}}, nil
}

// mechanism is one whose interfaces are in memory.
type mechanism struct{ name string }

var _ crossconnect.Attacher = mechanism{}

// Type is its name.
func (m mechanism) Type() string { return m.name }

// Validate takes anything.
func (m mechanism) Validate(map[string]string) error { return nil }

// Status is that of an interface whose link is up.
func (m mechanism) Status(x *models.CrossConnect, side models.Side) *models.AttachmentStatus {
	return &models.AttachmentStatus{Mechanism: m.name, Interface: m.name + "-" + x.GetId(), LinkUp: true}
}

// Attach renders an interface.
func (m mechanism) Attach(x *models.CrossConnect, side models.Side) (models.Port, []reconcile.Value, error) {
	key := kindFake + "/" + x.Id + "/" + string(side)
	return models.Port{Key: key, Tag: models.Tag(x.Id, side), Ethernet: true}, []reconcile.Value{{Key: key, Spec: m.name}}, nil
}
