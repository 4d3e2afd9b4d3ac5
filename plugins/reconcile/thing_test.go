package reconcile

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"
)

// thingDescriptor makes things of one kind in the world, for one life of an agent.
type thingDescriptor struct {
	*world
	kind string
	life int // hides world.life
}

// step lets time pass in the middle of a call and then perhaps fail. With the lock.
func (d thingDescriptor) step() error {
	if d.slowness > 0 {
		pause := time.Duration(d.rand.Int64N(int64(d.slowness)))
		d.mu.Unlock()
		time.Sleep(pause)
		d.mu.Lock()
	}
	switch {
	case d.life != d.world.life:
		return errDead
	case d.chance(d.failures / 10):
		panic("out of the blue")
	case d.chance(d.failures):
		return errWorld
	default:
		return nil
	}
}

// begin checks what holds for every call that changes the world. With the lock.
func (d thingDescriptor) begin(key string, needs []string) (end func()) {
	if d.life != d.world.life {
		return func() {}
	}
	d.calls[key]++
	if !d.known[key] {
		d.breach("a call for %s, which is neither wanted nor found", key)
	}
	if d.busy[key] {
		d.breach("two calls at once for %s", key)
	}
	d.busy[key] = true
	for _, need := range needs {
		if _, fact := d.facts[need]; !fact && !d.damaged[need] && !d.exists(need) {
			d.breach("%s is made before %s, which it needs", key, need)
		}
	}
	return func() {
		if d.life == d.world.life {
			d.busy[key] = false
		}
	}
}

func (w *world) exists(key string) bool {
	for at := range w.things {
		if at.key == key {
			return true
		}
	}
	return false
}

// Create adds the missing parts one by one. It looks at its own place only and takes no
// part away, for the engine promises that there is nothing else.
func (d thingDescriptor) Create(_ context.Context, key string, s spec) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.begin(key, s.Needs)()
	at := where{key, s.Place}
	for other, o := range d.things {
		if other.key == key && (other != at || !subset(o.Parts, s.Parts)) && d.life == d.world.life {
			d.breach("create %s %v, but there is %v of another attempt", key, s, o)
		}
	}
	if err := d.step(); err != nil {
		return err
	}
	d.things[at] = spec{s.Place, d.things[at].Parts, s.Needs}
	if err := d.add(at, s.Parts); err != nil {
		return err
	}
	delete(d.damaged, key)
	return d.step()
}

func (d thingDescriptor) add(at where, parts string) error {
	for _, part := range parts {
		if err := d.step(); err != nil {
			return err
		}
		t, there := d.things[at]
		if !there {
			return fmt.Errorf("%s is not there", at.key)
		}
		if !strings.ContainsRune(t.Parts, part) {
			t.Parts = sorted(t.Parts + string(part))
		}
		d.things[at] = t
	}
	return nil
}

// Update adds and removes only what differs between old and new.
func (d thingDescriptor) Update(_ context.Context, key string, old, new spec) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.begin(key, new.Needs)()
	if old.Place != new.Place {
		return fmt.Errorf("another place: %w", ErrRecreate)
	}
	at := where{key, old.Place}
	t, there := d.things[at]
	if !there {
		return fmt.Errorf("it is not there: %w", ErrRecreate)
	}
	if !subset(t.Parts, old.Parts+new.Parts) && d.life == d.world.life {
		d.breach("update %s from %v to %v, but there is %v", key, old, new, t)
	}
	if err := d.step(); err != nil {
		return err
	}
	t.Needs = union(t.Needs, new.Needs)
	d.things[at] = t
	if err := d.add(at, new.Parts); err != nil {
		return err
	}
	if err := d.step(); err != nil {
		return err
	}
	t, there = d.things[at]
	if !there {
		return fmt.Errorf("%s is not there", key)
	}
	t.Parts = strings.Map(func(r rune) rune {
		if strings.ContainsRune(old.Parts, r) && !strings.ContainsRune(new.Parts, r) {
			return -1
		}
		return r
	}, t.Parts)
	t.Needs = new.Needs
	d.things[at] = t
	return d.step()
}

// Delete takes one part after the other, at its own place only.
func (d thingDescriptor) Delete(_ context.Context, key string, s spec) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.begin(key, nil)()
	for at, t := range d.things {
		if slices.Contains(t.Needs, key) && !d.unknown[kindOf(at.key)] && d.life == d.world.life {
			d.breach("delete %s while %s stands on it", key, at.key)
		}
	}
	at := where{key, s.Place}
	for {
		if err := d.step(); err != nil {
			return err
		}
		t, there := d.things[at]
		if !there {
			return nil
		}
		if t.Parts == "" {
			delete(d.things, at)
			return d.step()
		}
		t.Parts = t.Parts[1:]
		d.things[at] = t
	}
}

func (d thingDescriptor) Retrieve(ctx context.Context, want iter.Seq2[string, spec]) ([]Found[spec], error) {
	for key := range want {
		if kindOf(key) != d.kind {
			return nil, fmt.Errorf("%s is not of kind %s", key, d.kind)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked[d.kind]++
	if err := d.step(); err != nil {
		return nil, err
	}
	var all []Found[spec]
	for at, t := range d.things {
		if kindOf(at.key) != d.kind {
			continue
		}
		if d.busy[at.key] {
			d.breach("%s is being worked on while its kind is retrieved", at.key)
		}
		d.known[at.key] = true
		all = append(all, Found[spec]{at.key, t})
	}
	if d.asked[d.kind] == 1 {
		delete(d.unknown, d.kind)
	}
	return all, nil
}

func (d thingDescriptor) Dependencies(_ string, s spec) []string { return s.Needs }
func (d thingDescriptor) Equal(found, want spec) bool            { return found.equal(want) }

func subset(a, of string) bool {
	return !strings.ContainsFunc(a, func(r rune) bool { return !strings.ContainsRune(of, r) })
}

func sorted(s string) string {
	r := []rune(s)
	slices.Sort(r)
	return string(slices.Compact(r))
}

func union(a, b []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(slices.Concat(a, b))))
}
