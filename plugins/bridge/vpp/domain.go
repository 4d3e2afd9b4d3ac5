package vpp

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"go.patchbay.dev/plugins/bridge"
	"go.patchbay.dev/plugins/reconcile"
	"go.patchbay.dev/vppapi"
)

// Domain is the spec of a bridge domain. Values are compared with ==.
type Domain struct {
	Bridge                                       string
	Learn, Flood, UnknownUnicast, ARPTermination bool
	MACAge                                       uint8  // minutes
	number                                       uint32 // found: of a second one with the same tag
}

func domainKey(name string) string { return KindDomain + "/" + name }

// Tag marks the bridge domain of a bridge in VPP.
func Tag(name string) string { return tagPrefix + name }

const tagPrefix = "patchbay:"

func domainOf(d bridge.Domain) Domain {
	return Domain{Bridge: d.Name, Learn: d.Learn, Flood: d.Flood, UnknownUnicast: d.UnknownUnicast, ARPTermination: d.ARPTermination,
		MACAge: uint8(min((d.MACAge+time.Minute-1)/time.Minute, 255))}
}

func (s Domain) at(number uint32) vppapi.Bridge {
	return vppapi.Bridge{Number: number, Tag: Tag(s.Bridge), Learn: s.Learn, Flood: s.Flood, UnknownUnicast: s.UnknownUnicast, ARPTermination: s.ARPTermination, MACAge: s.MACAge}
}

// number of a bridge's domain, if it is there.
func (p *Dataplane) number(name string) (uint32, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, ok := p.numbers[name]
	return n, ok
}

// there is number for those who need it.
func (p *Dataplane) there(name string) (uint32, error) {
	if n, ok := p.number(name); ok {
		return n, nil
	}
	return 0, fmt.Errorf("VPP has no bridge domain of bridge %q", name)
}

func (p *Dataplane) note(name string, number uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.numbers[name] = number
}

func (p *Dataplane) forget(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.numbers, name)
}

func (p *Dataplane) forgetAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.numbers)
}

// candidates are the numbers that a bridge's domain may have, in order. They are derived
// from its name, so that one that was made before is found without listing all.
func candidates(name string) iter.Seq[uint32] {
	sum := sha256.Sum256([]byte(name))
	first := binary.BigEndian.Uint32(sum[:]) % vppapi.MaxBridge
	return func(yield func(uint32) bool) {
		for i := range uint32(vppapi.MaxBridge) {
			if !yield((first+i)%vppapi.MaxBridge + 1) {
				return
			}
		}
	}
}

// domains makes bridge domains.
type domains struct{ *Dataplane }

func (d domains) Dependencies(string, Domain) []string { return nil }

// Equal compares by content.
func (d domains) Equal(found, want Domain) bool { return found == want }

// Create makes the bridge domain, or mends the one that is there.
func (d domains) Create(ctx context.Context, _ string, spec Domain) error {
	if err := d.create(ctx, spec); err != nil {
		return fmt.Errorf("bridge domain: %w", err)
	}
	return nil
}

func (d domains) create(ctx context.Context, spec Domain) error {
	if n, ok := d.number(spec.Bridge); ok {
		return d.vpp.SetBridge(ctx, spec.at(n))
	}
	for n := range candidates(spec.Bridge) {
		err := d.vpp.CreateBridge(ctx, spec.at(n))
		if vppapi.Exists(err) {
			ours, e := d.ours(ctx, n, spec.Bridge)
			if e == nil && !ours {
				continue
			}
			if err = e; err == nil { // of an attempt before
				err = d.vpp.SetBridge(ctx, spec.at(n))
			}
		}
		if err == nil {
			d.note(spec.Bridge, n)
		}
		return err
	}
	return errors.New("VPP has no number left for it")
}

// ours tells whether the bridge domain of a number is that of a bridge.
func (d domains) ours(ctx context.Context, number uint32, name string) (bool, error) {
	found, err := d.vpp.Bridges(ctx, number)
	return err == nil && len(found) == 1 && found[0].Tag == Tag(name), err
}

// Update changes everything in place.
func (d domains) Update(ctx context.Context, key string, _, new Domain) error {
	return d.Create(ctx, key, new)
}

// Delete deletes the bridge domain. Its ports are gone.
func (d domains) Delete(ctx context.Context, _ string, spec Domain) error {
	if d.vpp.Gone() {
		return nil
	}
	number, known := spec.number, spec.number != 0
	if !known {
		number, known = d.number(spec.Bridge)
	}
	if !known {
		var err error
		if number, known, err = d.find(ctx, spec.Bridge); err != nil {
			return fmt.Errorf("bridge domain: %w", err)
		}
	}
	if !known {
		return nil
	}
	if err := d.vpp.DeleteBridge(ctx, number); err != nil {
		return fmt.Errorf("bridge domain: %w", err)
	}
	if spec.number == 0 {
		d.forget(spec.Bridge)
	}
	return nil
}

// find looks where an attempt may have made it.
func (d domains) find(ctx context.Context, name string) (number uint32, ok bool, err error) {
	for n := range candidates(name) {
		found, err := d.vpp.Bridges(ctx, n)
		if err != nil || len(found) == 0 {
			return 0, false, err
		}
		if found[0].Tag == Tag(name) {
			return n, true, nil
		}
	}
	return 0, false, nil
}

// Retrieve finds all bridge domains of ours by their tags.
func (d domains) Retrieve(ctx context.Context, _ iter.Seq2[string, Domain]) ([]reconcile.Found[Domain], error) {
	if d.vpp.Gone() {
		d.forgetAll()
		return nil, nil
	}
	found, err := d.vpp.Bridges(ctx, vppapi.AllBridges)
	if err != nil {
		return nil, fmt.Errorf("find bridge domains: %w", err)
	}
	numbers := map[string]uint32{}
	var all []reconcile.Found[Domain]
	for _, f := range found {
		name, ours := strings.CutPrefix(f.Tag, tagPrefix)
		if !ours {
			continue
		}
		spec := Domain{Bridge: name, Learn: f.Learn, Flood: f.Flood, UnknownUnicast: f.UnknownUnicast, ARPTermination: f.ARPTermination, MACAge: f.MACAge}
		key := domainKey(name)
		if _, twice := numbers[name]; twice {
			spec.number, key = f.Number, fmt.Sprintf("%s/:%d", KindDomain, f.Number)
		} else {
			numbers[name] = f.Number
		}
		all = append(all, reconcile.Found[Domain]{Key: key, Spec: spec})
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.numbers = numbers
	return all, nil
}
