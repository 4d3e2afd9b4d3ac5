package bridge

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"google.golang.org/protobuf/proto"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/store"
)

// claim is what a member of this node has in etcd: its MAC and its addresses, each a key that
// only one member of the bridge can have.
type claim struct {
	mu      sync.Mutex     // one change at a time
	member  *models.Member // nil: nothing yet
	dropped bool           // it is the member's no more
}

// has gives the addresses of a claim, which may be nil.
func (c *claim) has() []string {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.member.GetAddresses()
}

// takenError says whose an address is that a member asks for.
type takenError struct {
	address, bridge string
	by              *models.Member
}

func (e *takenError) Error() string {
	return fmt.Sprintf("%s is that of connection %q on node %s in bridge %s; give one of the two another", e.address, e.by.GetConnection(), e.by.GetNode(), e.bridge)
}

// hold gives the claim of a member with its mu held, a new one if the bridge has room for it on
// this node.
func (p *Plugin) hold(bridge, id string) (*claim, error) {
	for {
		c, err := p.claimOf(bridge, id)
		if err != nil {
			return nil, err
		}
		if c.mu.Lock(); !c.dropped {
			return c, nil
		}
		c.mu.Unlock() // whoever had it before has dropped it
	}
}

func (p *Plugin) claimOf(bridge, id string) (*claim, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.claims[bridge]
	if c := all[id]; c != nil {
		return c, nil
	}
	b := p.bridges[bridge]
	if limit := int(b.wanted().GetMemberLimit()); limit != 0 && len(all) >= limit && b.desired.GetUplink() != id {
		return nil, fmt.Errorf("bridge %s %w: it has its %d members on node %s; raise its memberLimit, or take one away", bridge, models.ErrFull, limit, p.Keys.Node)
	}
	if all == nil {
		all = map[string]*claim{}
		p.claims[bridge] = all
	}
	all[id] = &claim{}
	return all[id], nil
}

// drop forgets a claim that has nothing. p.mu is not held, c.mu is.
func (p *Plugin) drop(bridge, id string, c *claim) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.member == nil && p.claims[bridge][id] == c {
		delete(p.claims[bridge], id)
		c.dropped = true
	}
	if b := p.bridges[bridge]; b != nil {
		p.tell(b)
	}
}

// claim takes for a member what it is to have, instead of what it had. The error is a
// *takenError where another has some of it; then nothing has changed.
func (p *Plugin) claim(ctx context.Context, bridge string, want *models.Member) error {
	c, err := p.hold(bridge, want.Connection)
	if err != nil {
		return err
	}
	defer c.mu.Unlock()
	defer p.drop(bridge, want.Connection, c)
	if proto.Equal(c.member, want) {
		return nil
	}
	data, err := models.Marshal(want)
	if err != nil {
		return err
	}
	key := p.Keys.Member(bridge, want.Connection)
	for {
		puts := []store.KV{{Key: key, Value: data}}
		var absent []store.KV
		had := addressesOf(c.member)
		for _, a := range addressesOf(want) {
			kv := store.KV{Key: p.Keys.Address(bridge, a), Value: data}
			if puts = append(puts, kv); !slices.Contains(had, a) {
				absent = append(absent, store.KV{Key: kv.Key})
			}
		}
		_, err := p.Store.WriteIf(ctx, absent, puts, p.keys(bridge, except(had, addressesOf(want))))
		if err == nil {
			c.member = want
			return nil
		}
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
		mine, err := p.find(ctx, bridge, want)
		if err != nil {
			return err
		}
		// What it has already, by a write whose answer was lost, is known from now on.
		c.member = &models.Member{Node: want.Node, Connection: want.Connection, Mac: c.member.GetMac(), Addresses: c.member.GetAddresses()}
		for _, a := range mine {
			if a == want.Mac {
				c.member.Mac = a
			} else {
				c.member.Addresses = append(c.member.Addresses, a)
			}
		}
	}
}

// find tells which of the addresses that a member wants are there and its own; the error says
// that one is another's.
func (p *Plugin) find(ctx context.Context, bridge string, want *models.Member) (mine []string, err error) {
	for _, a := range addressesOf(want) {
		kv, err := p.Store.Get(ctx, p.Keys.Address(bridge, a))
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		by := &models.Member{}
		if err := models.Unmarshal(kv.Value, by); err != nil || by.Node != want.Node || by.Connection != want.Connection {
			return nil, &takenError{a, bridge, by}
		}
		mine = append(mine, a)
	}
	return mine, nil
}

// release gives back all that a member has.
func (p *Plugin) release(ctx context.Context, bridge, id string) error {
	p.mu.Lock()
	c := p.claims[bridge][id]
	p.mu.Unlock()
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.member == nil {
		return nil
	}
	if _, err := p.Store.Write(ctx, nil, append(p.keys(bridge, addressesOf(c.member)), p.Keys.Member(bridge, id))); err != nil {
		return err
	}
	c.member = nil
	p.drop(bridge, id, c)
	return nil
}

func (p *Plugin) keys(bridge string, addresses []string) (keys []string) {
	for _, a := range addresses {
		keys = append(keys, p.Keys.Address(bridge, a))
	}
	return keys
}

// addressesOf are the addresses by which a member stands in etcd: its MAC, then its IP
// addresses without the lengths of their prefixes.
func addressesOf(m *models.Member) (all []string) {
	if m.GetMac() != "" {
		all = append(all, m.Mac)
	}
	for _, s := range m.GetAddresses() {
		if ip, err := models.ParsePrefix(s); err == nil {
			all = append(all, ip.Addr().String())
		}
	}
	return all
}

func except(list, without []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(without, s) })
}

// bare is an address without the length of its prefix.
func bare(s string) netip.Addr {
	p, _ := models.ParsePrefix(s) // it was checked
	return p.Addr()
}
