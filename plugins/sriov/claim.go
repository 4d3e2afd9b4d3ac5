package sriov

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"go.patchbay.dev/models"
)

// owner is who has a virtual function.
type owner struct {
	name     string // <connection>/<side>
	onRecord bool   // else it was claimed for a request that is under way
}

// Owner is the name of one end of a connection, as Claim takes it.
func Owner(id string, side models.Side) string { return id + "/" + string(side) }

// Refusals of Claim. What wraps them names the device or pool.
var (
	// ErrInUse: somebody has it.
	ErrInUse = errors.New("is in use")
	// ErrUnhealthy: it cannot be given away now.
	ErrUnhealthy = errors.New("is not healthy")
	// ErrNoneFree: the pool has none that could be given away.
	ErrNoneFree = errors.New("has no free virtual function")
	// ErrUnknown: there is no such pool, device or token here.
	ErrUnknown = errors.New("is not known here")
)

// MaxToken is the longest token in bytes.
const MaxToken = 253

// Claim gives a virtual function to owner, see Owner, until Release or until it is on record
// and that ends. It gives the same again to the same. The error names the pool or device, and the remedy; it does
// not repeat a token.
func (p *Plugin) Claim(_ context.Context, name string, want Want) (Device, error) {
	if len(p.o.Pools) == 0 {
		return Device{}, errNoPools
	}
	id := ""
	if want.Token != "" {
		pool, device, err := p.token(want.Token)
		if err != nil {
			return Device{}, err
		}
		if want.Pool != "" && want.Pool != pool {
			return Device{}, fmt.Errorf("the token is for pool %s, not %s; leave the pool out", pool, want.Pool)
		}
		want.Pool, id = pool, device
	} else if p.o.Tokens != nil && p.o.Tokens.Counts(want.Pool) {
		return Device{}, fmt.Errorf("the virtual functions of pool %s are given away by kubelet; pass on the token that the container's environment has, or name a pool without a domain", want.Pool)
	}
	if _, ok := p.Pool(want.Pool); !ok {
		return Device{}, fmt.Errorf("pool %q %w; this node has %s", clip(want.Pool), ErrUnknown, p.names())
	}
	d, err := p.hold(name, id, want)
	if err != nil || !p.current(d) { // what is given away must be so now, and what has just come is there
		p.mu.Lock()
		if p.owners[d.ID] == (owner{name: name}) && err == nil {
			delete(p.owners, d.ID)
		}
		p.mu.Unlock()
		p.Look()
		d, err = p.hold(name, id, want)
	}
	return d, err
}

// hold chooses a device and gives it to name.
func (p *Plugin) hold(name, id string, want Want) (Device, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d, err := p.choose(name, id, want)
	if err != nil {
		return Device{}, err
	}
	if p.owners[d.ID].name == "" {
		p.owners[d.ID] = owner{name: name}
		p.list()
	}
	d.Owner = name
	return d, nil
}

// current tells whether a device is as it was seen last.
func (p *Plugin) current(d Device) bool {
	p.mu.Lock()
	was := p.seen[d.ID]
	p.mu.Unlock()
	now, ok := p.sys.virtual(d.ID)
	now.index = was.vf.index
	return ok && now == was.vf && p.sys.netdevUp(was.card.pci, was.card.name) == was.card.up
}

// token verifies a token; what is no token that anybody hands out is not looked up.
func (p *Plugin) token(token string) (pool, id string, err error) {
	odd := func(c rune) bool { return c <= ' ' || c > '~' || c == '/' || c == '\\' }
	switch {
	case p.o.Tokens == nil:
		return "", "", errors.New("the token cannot be verified: this node has no device plugin; name the pool instead")
	case len(token) > MaxToken || strings.ContainsFunc(token, odd):
		return "", "", fmt.Errorf("the token is none of this node's device plugin (%d bytes); pass on what the environment has, unchanged", len(token))
	}
	return p.o.Tokens.Device(token)
}

// choose finds the device: id, or the best that is free of a pool. p.mu is held.
func (p *Plugin) choose(name, id string, want Want) (Device, error) {
	var best *Device
	var whys []string
	rank := func(d *Device) int {
		switch {
		case d.Owner == name:
			return 0
		case want.Near != "" && d.Card == p.seen[want.Near].card.pci:
			return 1
		case want.NUMA >= 0 && d.NUMA == want.NUMA:
			return 2
		}
		return 3
	}
	for i := range p.devices {
		d := &p.devices[i]
		if d.Pool != want.Pool || id != "" && d.ID != id {
			continue
		}
		if err := p.free(d, name); err != nil {
			if id != "" {
				return Device{}, err
			}
			whys = append(whys, err.Error())
		} else if best == nil || rank(d) < rank(best) {
			best = d
		}
	}
	switch {
	case best != nil:
		return *best, nil
	case id != "":
		return Device{}, fmt.Errorf("device %s of pool %s %w: it is gone", id, want.Pool, ErrUnknown)
	case len(whys) == 0:
		return Device{}, fmt.Errorf("pool %s %w: %s", want.Pool, ErrNoneFree, p.problems[want.Pool])
	}
	return Device{}, fmt.Errorf("pool %s %w: %s", want.Pool, ErrNoneFree, strings.Join(whys, "; "))
}

// free says why a device cannot be given to name. p.mu is held.
func (p *Plugin) free(d *Device, name string) error {
	switch {
	case d.Owner == name && name != "":
		return nil // whatever became of it, it is not another that it gets
	case d.Owner != "":
		return fmt.Errorf("device %s %w by the %s; close that, or ask for another", d.ID, ErrInUse, reads(d.Owner))
	case !d.Healthy:
		return fmt.Errorf("device %s %w: %s", d.ID, ErrUnhealthy, d.Why)
	case d.Owner == "" && d.Driver == DriverVFIO && p.open(d.Group):
		return fmt.Errorf("device %s %w: a program has /dev/vfio/%d open", d.ID, ErrInUse, d.Group)
	}
	return nil
}

// reads is how an owner is spoken of.
func reads(name string) string {
	id, side, _ := strings.Cut(name, "/")
	return fmt.Sprintf("%s of connection %q", side, id)
}

// open tells whether a program has the functions of an IOMMU group: one at a time may.
func (p *Plugin) open(group int) bool {
	f, err := os.OpenFile(filepath.Join(p.vfio, strconv.Itoa(group)), os.O_RDWR, 0)
	if err == nil {
		f.Close()
	}
	return errors.Is(err, syscall.EBUSY)
}

// Release takes back what was claimed for the ends of a connection and is not on record.
func (p *Plugin) Release(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop(id, func(o owner) bool { return !o.onRecord })
}

// drop takes back what a connection has, as far as f says so. p.mu is held.
func (p *Plugin) drop(id string, f func(owner) bool) {
	for pci, o := range p.owners {
		if of, _, _ := strings.Cut(o.name, "/"); of == id && f(o) {
			delete(p.owners, pci)
		}
	}
	p.list()
}

// Recorded takes in what is on record of a cross-connect, nil: nothing any more. Subscribe it
// to the events of plugins/crossconnect.
func (p *Plugin) Recorded(id string, x *models.CrossConnect) {
	if len(p.o.Pools) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop(id, func(o owner) bool { return o.onRecord || x == nil })
	for _, side := range []models.Side{models.ClientSide, models.EndpointSide} {
		pci := x.At(side).GetMechanism().GetParameters()[ParamPCI]
		if pci != "" && !p.owners[pci].onRecord {
			p.owners[pci] = owner{name: Owner(id, side), onRecord: true}
		}
	}
	p.list()
}

// owner is who has a virtual function; empty: nobody.
func (p *Plugin) owner(pci string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.owners[pci].name
}

func (p *Plugin) names() string {
	var names []string
	for _, x := range p.o.Pools {
		names = append(names, x.Name)
	}
	return strings.Join(names, ", ")
}

// Explain says, a line each, which device of a pool a client would get now, and why not each of the others; not free:
// it would get none.
func (p *Plugin) Explain(pool string) (lines []string, free bool, err error) {
	if _, ok := p.Pool(pool); !ok {
		return nil, false, fmt.Errorf("pool %q %w; this node has %s", clip(pool), ErrUnknown, p.names())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	taken := "it would be taken: the first that is free; one beside the other end's, or on the NUMA node of the workload, comes before it"
	for i := range p.devices {
		d := &p.devices[i]
		if d.Pool != pool {
			continue
		}
		why := taken
		if err := p.free(d, ""); err != nil {
			why = err.Error()
		} else {
			taken, free = "free, and after the one that would be taken", true
		}
		lines = append(lines, fmt.Sprintf("%s, virtual function %d of %s, NUMA node %d: %s", d.ID, d.VF, d.PF, d.NUMA, why))
	}
	if why := p.problems[pool]; why != "" {
		lines = append(lines, "pool "+pool+": "+why)
	}
	if p.o.Tokens != nil && p.o.Tokens.Counts(pool) {
		lines = append(lines, "pool "+pool+": kubelet chooses; a connection claims what it gave away by the token that the container's environment has")
	}
	return lines, free, nil
}

// clip keeps what a client sent from filling a message.
func clip(s string) string { return s[:min(len(s), 80)] }
