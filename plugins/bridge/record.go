package bridge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/store"
)

// batch takes in what the watch of the bridges delivers.
func (p *Plugin) batch(b store.Batch) {
	p.mu.Lock()
	touched := map[*bridge]bool{}
	kept := map[string]bool{}
	for _, kv := range b.Puts {
		if name, err := models.Name(p.Keys.Bridges(), kv.Key); err != nil {
			p.Log.Warn("a key that is no record", "key", kv.Key, "err", err)
		} else if kept[name] = true; p.put(name, kv) {
			touched[p.bridges[name]] = true
		}
	}
	var gone []string
	for _, key := range b.Deletes {
		if name, err := models.Name(p.Keys.Bridges(), key); err == nil {
			gone = append(gone, name)
		}
	}
	for name := range p.bridges {
		if b.Snapshot && !kept[name] {
			gone = append(gone, name)
		}
	}
	for _, name := range gone {
		if b := p.bridges[name]; b != nil && (b.record != nil || b.invalid != "") {
			b.record, b.desired, b.invalid, b.deleted, b.revision = nil, nil, "", true, 0
			touched[b] = true
		}
	}
	for _, b := range p.review() {
		touched[b] = true
	}
	services, changed := p.serve()
	var again []*bridge
	for b := range touched {
		if b.mesh != nil {
			p.apply(b)
			p.tell(b)
			again = append(again, b)
		}
		p.forget(b)
	}
	p.mu.Unlock()
	p.again(again)
	if changed {
		p.Serves(services)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.revision = max(p.revision, b.Revision)
	close(p.changed)
	p.changed = make(chan struct{})
	select {
	case <-p.read:
	default:
		close(p.read) // the first batch is a snapshot
	}
}

// put takes in a record and reports whether it is new. p.mu is held.
func (p *Plugin) put(name string, kv store.KV) bool {
	b := p.bridge(name)
	if b.revision == kv.Revision {
		return false
	}
	b.revision, b.created, b.deleted = kv.Revision, kv.Created, false
	b.record, b.invalid = nil, ""
	m := &models.Bridge{}
	err := models.Unmarshal(kv.Value, m)
	if err == nil {
		err = models.OfKey("name", &m.Name, name)
	}
	if err == nil {
		err = models.ValidateBridge(m)
	}
	if err != nil {
		b.invalid = models.OneLine(err.Error())
		p.Log.Warn("bridge refused", "bridge", name, "err", b.invalid)
		return true
	}
	b.record = m
	return true
}

// review looks anew which records are valid beside each other and on this node, and gives
// the bridges of which that has changed. Of two that cannot both be, the one that was there
// first is: every node comes to the same end. p.mu is held.
func (p *Plugin) review() (changed []*bridge) {
	t := newTaken()
	for _, b := range p.inOrder() {
		err := t.check(b.record)
		if err == nil {
			t.add(b.record)
			err = p.fits(b.record)
		}
		why := ""
		if err != nil {
			why = models.OneLine(err.Error())
		}
		if why != b.invalid || err == nil && b.desired != b.record {
			changed = append(changed, b)
			if b.invalid = why; why != "" {
				p.Log.Warn("bridge refused", "bridge", b.name, "err", why)
			} else {
				b.desired = b.record
			}
		}
	}
	return changed
}

// inOrder are the bridges that are valid by themselves, those that were there first before
// others. p.mu is held.
func (p *Plugin) inOrder() (all []*bridge) {
	for _, b := range p.bridges {
		if b.record != nil {
			all = append(all, b)
		}
	}
	slices.SortFunc(all, func(a, b *bridge) int {
		return cmp.Or(cmp.Compare(a.created, b.created), cmp.Compare(a.name, b.name))
	})
	return all
}

// serve gives which bridge answers which network service, one that is valid before one that
// was, and tells whether that has changed. p.mu is held.
func (p *Plugin) serve() (services map[string]string, changed bool) {
	services = map[string]string{}
	for _, valid := range []bool{true, false} {
		for _, b := range p.bridges {
			s := b.desired.GetService()
			if _, taken := services[s]; s != "" && !taken && (b.invalid == "") == valid {
				services[s] = b.name
			}
		}
	}
	changed = !maps.Equal(services, p.services)
	p.services = services
	return services, changed
}

// fits says why this node cannot have a bridge that is otherwise valid. p.mu is held.
func (p *Plugin) fits(b *models.Bridge) error {
	for i, s := range b.Subnets {
		subnet := netip.MustParsePrefix(s)
		for _, own := range p.node.Subnets {
			if gateway(b, own.Addr()) || !subnet.Overlaps(own) {
				continue
			}
			return field(fmt.Sprintf("subnets[%d]", i), "%s overlaps %s of node %s; use another prefix", s, own, p.Keys.Node)
		}
	}
	if most := p.most(b); most != 0 && int(b.Mtu) > most {
		return field("mtu", "%d does not fit: the underlay of node %s leaves %d bytes; use at most that, or interconnect external", b.Mtu, p.Keys.Node, most)
	}
	return nil
}

// gateway tells whether an address is one of a bridge's own.
func gateway(b *models.Bridge, a netip.Addr) bool {
	return slices.ContainsFunc(b.Gateways, func(s string) bool { return netip.MustParsePrefix(s).Addr() == a })
}

// Check says why a bridge would be refused; a *models.FieldError names the field.
func (p *Plugin) Check(ctx context.Context, m *models.Bridge) error {
	if err := models.ValidateBridge(m); err != nil {
		return err
	}
	p.mu.Lock()
	t := newTaken()
	for _, b := range p.inOrder() {
		if b.name != m.Name && t.check(b.record) == nil {
			t.add(b.record)
		}
	}
	err := cmp.Or(t.check(m), p.fits(m))
	p.mu.Unlock()
	if err != nil || m.Vni == 0 {
		return err
	}
	owner, _, err := p.ownerOf(ctx, m.Vni)
	if err == nil && owner != "" && owner != m.Name {
		return field("vni", "%d is that of bridge %q; choose another, or 0 to have one allocated", m.Vni, owner)
	}
	if errors.Is(err, store.ErrUnavailable) {
		return nil // the write will say so
	}
	return err
}

// taken is what bridges have that no other can have.
type taken struct {
	services map[string]string // bridge by service
	vnis     map[uint32]string // bridge by VNI
	subnets  []subnet          // in order; none overlaps
}

type subnet struct {
	netip.Prefix
	bridge string
}

func newTaken() *taken { return &taken{services: map[string]string{}, vnis: map[uint32]string{}} }

// check says what of a bridge is another's.
func (t *taken) check(b *models.Bridge) error {
	if other := t.services[b.Service]; other != "" && b.Service != "" {
		return field("service", "%q is answered by bridge %q; choose another name", b.Service, other)
	}
	if other := t.vnis[b.Vni]; other != "" && b.Vni != 0 {
		return field("vni", "%d is that of bridge %q; choose another, or 0 to have one allocated", b.Vni, other)
	}
	for i, s := range b.Subnets {
		prefix := netip.MustParsePrefix(s)
		at, _ := t.find(prefix)
		for _, j := range []int{at - 1, at} { // of disjoint ones, only the neighbours can overlap
			if j >= 0 && j < len(t.subnets) && t.subnets[j].Overlaps(prefix) {
				return field(fmt.Sprintf("subnets[%d]", i), "%s overlaps %s of bridge %q; use another prefix", s, t.subnets[j].Prefix, t.subnets[j].bridge)
			}
		}
	}
	return nil
}

func (t *taken) add(b *models.Bridge) {
	if b.Service != "" {
		t.services[b.Service] = b.Name
	}
	if b.Vni != 0 {
		t.vnis[b.Vni] = b.Name
	}
	for _, s := range b.Subnets {
		prefix := netip.MustParsePrefix(s)
		at, _ := t.find(prefix)
		t.subnets = slices.Insert(t.subnets, at, subnet{prefix, b.Name})
	}
}

func (t *taken) find(p netip.Prefix) (int, bool) {
	return slices.BinarySearchFunc(t.subnets, p, func(s subnet, p netip.Prefix) int { return s.Addr().Compare(p.Addr()) })
}

func field(name, format string, args ...any) error {
	return &models.FieldError{Field: name, Reason: fmt.Sprintf(format, args...)}
}
