package endpoint

import (
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"slices"
)

// pool hands out addresses of one prefix, lowest first, two at a time: one for each end of
// a point-to-point link; or one, for what shares a link with all others. It is not safe for
// concurrent use.
type pool struct {
	prefix      netip.Prefix
	shared      bool       // one at a time
	first, last netip.Addr // that a host may have
	used        map[netip.Addr]bool
}

// pair is the two addresses of one connection; on a shared link, there is no endpoint's.
type pair struct{ client, endpoint netip.Addr }

func newPool(prefix netip.Prefix, shared bool) (*pool, error) {
	prefix = prefix.Masked()
	p := &pool{prefix: prefix, shared: shared, first: prefix.Addr(), last: lastOf(prefix), used: map[netip.Addr]bool{}}
	switch hosts := prefix.Addr().BitLen() - prefix.Bits(); {
	case hosts == 0:
		return nil, fmt.Errorf("%s holds one address; a connection needs two", prefix)
	case hosts == 1: // both are hosts' (RFC 3021, RFC 6164)
	case prefix.Addr().Is4():
		p.first, p.last = p.first.Next(), p.last.Prev() // network and broadcast
	default:
		p.first = p.first.Next() // subnet-router anycast (RFC 4291, 2.6.1)
	}
	return p, nil
}

// lastOf is the highest address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

var (
	errExhausted = errors.New("no two addresses are free")
	errFull      = errors.New("no address is free")
)

// take gives the lowest addresses that are free and in none of the excluded prefixes.
func (p *pool) take(excluded []netip.Prefix) (pair, error) {
	client, err := p.free(p.first, excluded)
	if err != nil {
		return pair{}, err
	}
	out := pair{client: client}
	if !p.shared {
		if out.endpoint, err = p.free(client.Next(), excluded); err != nil {
			return pair{}, err
		}
	}
	p.reserve(out)
	return out, nil
}

// free is the lowest address from a on that can be had.
func (p *pool) free(a netip.Addr, excluded []netip.Prefix) (netip.Addr, error) {
	for a.IsValid() && a.Compare(p.last) <= 0 {
		if i := slices.IndexFunc(excluded, func(e netip.Prefix) bool { return e.Contains(a) }); i >= 0 {
			a = lastOf(excluded[i]).Next() // not one by one: it may be large
			continue
		}
		if !p.used[a] {
			return a, nil
		}
		a = a.Next()
	}
	why := errExhausted
	if p.shared {
		why = errFull
	}
	return netip.Addr{}, fmt.Errorf("%s: %w; %d of %s in use", p.prefix, why, len(p.used), p.size())
}

func (p *pool) size() *big.Int {
	n := new(big.Int).SetBytes(p.last.AsSlice())
	n.Sub(n, new(big.Int).SetBytes(p.first.AsSlice()))
	return n.Add(n, big.NewInt(1))
}

// retake gives a pair out again that a connection had, if it is this pool's and free.
func (p *pool) retake(old pair) bool {
	for _, a := range old.addresses() {
		if !a.IsValid() || a.Compare(p.first) < 0 || a.Compare(p.last) > 0 || p.used[a] {
			return false
		}
	}
	if old.client == old.endpoint || p.shared == old.endpoint.IsValid() {
		return false
	}
	p.reserve(old)
	return true
}

func (x pair) addresses() []netip.Addr {
	if !x.endpoint.IsValid() {
		return []netip.Addr{x.client}
	}
	return []netip.Addr{x.client, x.endpoint}
}

func (p *pool) reserve(x pair) {
	for _, a := range x.addresses() {
		p.used[a] = true
	}
}

// giveBack frees a pair.
func (p *pool) giveBack(x pair) {
	for _, a := range x.addresses() {
		delete(p.used, a)
	}
}
