package bridge

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/big"
	"net/netip"
	"slices"
	"time"

	"go.patchbay.dev/models"
)

// Admit lets a client into a bridge: it takes a MAC and an address of each subnet for the
// connection, those that it had or asks for if it may have them, and gives them with the
// bridge's gateways and MTU. What it asks for and cannot have is an error; one that wraps
// models.ErrFull says that nobody could. Release gives back what goes on no record.
func (p *Plugin) Admit(ctx context.Context, bridge, id string, asked []string) (m *models.Member, gateways []string, mtu uint32, err error) {
	p.mu.Lock()
	b := p.bridges[bridge].wanted()
	if b == nil {
		p.mu.Unlock()
		return nil, nil, 0, fmt.Errorf("bridge %s: %w", bridge, ErrNoBridge)
	}
	mtu = p.mtu(b)
	c := p.claims[bridge][id]
	p.mu.Unlock()
	had := c.has()
	m = &models.Member{Node: p.Keys.Node, Connection: id, Mac: p.macOf(id)}
	another := func(s string) bool {
		return !slices.ContainsFunc(had, func(o string) bool { return bare(o) == bare(s) })
	}
	if slices.ContainsFunc(asked, another) {
		if m.Addresses, err = fitting(b, asked); err == nil {
			err = p.claim(ctx, bridge, m)
		}
	} else {
		err = p.lease(ctx, b, m, had)
	}
	return m, b.Gateways, mtu, err
}

// Release has a connection have what is on its record, and nothing if that does not lead to
// the bridge: what Admit has taken since is given back.
func (p *Plugin) Release(bridge, id string) {
	if p.run.Err() != nil {
		return // the next agent finds what no record names
	}
	p.mu.Lock()
	record := p.of[id]
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(p.run, writeTimeout)
	defer cancel()
	var err error
	if record.bridge == bridge {
		err = p.claim(ctx, bridge, record.has)
	} else {
		err = p.release(ctx, bridge, id)
	}
	if err != nil {
		p.Log.Warn("addresses are given back later", "bridge", bridge, "connection", id, "err", err)
		time.AfterFunc(vniAgain, func() { p.Release(bridge, id) })
	}
}

// fitting checks the addresses that a client asks for, and gives them with the lengths of
// the bridge's prefixes.
func fitting(b *models.Bridge, asked []string) (list []string, err error) {
	for i, s := range asked {
		a := bare(s)
		n := slices.IndexFunc(b.Subnets, func(n string) bool { return netip.MustParsePrefix(n).Contains(a) })
		switch {
		case gateway(b, a):
			return nil, field(fmt.Sprintf("addresses[%d]", i), "%s is the gateway of bridge %s; ask for another", a, b.Name)
		case n < 0 && len(b.Subnets) > 0:
			return nil, field(fmt.Sprintf("addresses[%d]", i), "%s is in no subnet of bridge %s; ask for another, or for none", a, b.Name)
		case n >= 0 && !usable(netip.MustParsePrefix(b.Subnets[n]), a):
			return nil, field(fmt.Sprintf("addresses[%d]", i), "%s is the first or the last of %s; ask for another", a, b.Subnets[n])
		case n >= 0:
			s = netip.PrefixFrom(a, netip.MustParsePrefix(b.Subnets[n]).Bits()).String()
		}
		list = append(list, s)
	}
	return list, nil
}

// tries is how many addresses of a subnet are tried before those that are taken are listed.
const tries = 4

// lease takes an address of each subnet, first what the member had. What it had of a subnet
// that is not the bridge's any more it keeps.
func (p *Plugin) lease(ctx context.Context, b *models.Bridge, m *models.Member, had []string) error {
	keep := map[int]netip.Addr{} // by subnet
	var others []string
	for _, s := range had {
		a := bare(s)
		if i := slices.IndexFunc(b.Subnets, func(n string) bool { return netip.MustParsePrefix(n).Contains(a) }); i >= 0 && !gateway(b, a) {
			keep[i] = a
		} else {
			others = append(others, s)
		}
	}
	chosen := make([]chooser, len(b.Subnets))
	for i, s := range b.Subnets {
		chosen[i] = newChooser(b, netip.MustParsePrefix(s), p.Keys.Node+"/"+m.Connection)
		if a, ok := keep[i]; ok {
			chosen[i].at = a
		} else if !chosen[i].fits(nil) {
			return chosen[i].full()
		}
	}
	for tried := 0; ; tried++ {
		m.Addresses = nil
		for _, c := range chosen {
			m.Addresses = append(m.Addresses, netip.PrefixFrom(c.at, c.subnet.Bits()).String())
		}
		m.Addresses = append(m.Addresses, others...)
		err := p.claim(ctx, b.Name, m)
		var taken *takenError
		if !errors.As(err, &taken) {
			return err
		}
		i := slices.IndexFunc(chosen, func(c chooser) bool { return c.at.String() == taken.address })
		if i < 0 {
			return err
		}
		var known map[netip.Addr]bool
		if tried >= tries {
			if known, err = p.taken(ctx, b.Name); err != nil {
				return err
			}
		}
		if !chosen[i].next(known) {
			return chosen[i].full()
		}
	}
}

// taken lists the addresses of all members of a bridge.
func (p *Plugin) taken(ctx context.Context, bridge string) (map[netip.Addr]bool, error) {
	prefix := p.Keys.Addresses(bridge)
	kvs, _, err := p.Store.List(ctx, prefix)
	if err != nil {
		return nil, err
	}
	all := map[netip.Addr]bool{}
	for _, kv := range kvs {
		if s, err := models.Name(prefix, kv.Key); err == nil {
			if a, err := netip.ParseAddr(s); err == nil {
				all[a] = true
			}
		}
	}
	return all, nil
}

// chooser goes through the addresses of a subnet, from one that depends on who asks: the same
// connection is likely to get the same again, and two nodes hardly try the same.
type chooser struct {
	bridge *models.Bridge
	subnet netip.Prefix
	at     netip.Addr
	left   int // how many steps there are yet, as far as they can be counted
}

func newChooser(b *models.Bridge, subnet netip.Prefix, who string) chooser {
	h := fnv.New128a()
	h.Write([]byte(b.Name + " " + subnet.String() + " " + who))
	host := subnet.Addr().BitLen() - subnet.Bits()
	mask := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), uint(host)), big.NewInt(1))
	n := new(big.Int).SetBytes(subnet.Addr().AsSlice())
	n.Or(n, new(big.Int).And(new(big.Int).SetBytes(h.Sum(nil)), mask))
	at, _ := netip.AddrFromSlice(n.FillBytes(make([]byte, subnet.Addr().BitLen()/8)))
	c := chooser{bridge: b, subnet: subnet, at: at, left: 1 << min(host, 20)}
	if !c.fits(nil) {
		c.next(nil)
	}
	return c
}

// next goes on to the next address that is not known to be taken; false: there is none.
func (c *chooser) next(taken map[netip.Addr]bool) bool {
	for ; c.left > 0; c.left-- {
		if c.at = c.at.Next(); !c.subnet.Contains(c.at) {
			c.at = c.subnet.Addr()
		}
		if c.fits(taken) {
			return true
		}
	}
	return false
}

func (c *chooser) full() error {
	return fmt.Errorf("subnet %s of bridge %s %w: every address is taken; give the bridge one with a shorter prefix, which those that are taken stay in", c.subnet, c.bridge.Name, models.ErrFull)
}

func (c *chooser) fits(taken map[netip.Addr]bool) bool {
	return usable(c.subnet, c.at) && !gateway(c.bridge, c.at) && !taken[c.at]
}

// usable tells whether an interface can have an address of a subnet: not the first, which is
// the network's (IPv4) or the routers' (RFC 4291, 2.6.1), nor IPv4's last, broadcast, but on
// a link of two (RFC 3021, RFC 6164).
func usable(subnet netip.Prefix, a netip.Addr) bool {
	if subnet.Bits() >= a.BitLen()-1 {
		return true
	}
	return a != subnet.Addr() && (a.Is6() || subnet.Contains(a.Next()))
}
