package tunnel

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"go.patchbay.dev/models"
)

// Propose gives the mechanisms to offer the agent to, best first, of the types named and in
// their order. What they take on this node is held for id, instead of what was held for it
// before. Types that cannot be proposed are left out; when none is left, the error joins why.
// What is on record already, to the same node, is proposed first.
func (r *Room) Propose(id string, types []string, to *models.Agent, payload string) ([]*models.Mechanism, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget(id)
	var all []*models.Mechanism
	var held, why []string
	for _, name := range types {
		some, claims, err := r.propose(id, name, to, payload)
		if err != nil {
			why = append(why, name+": "+err.Error())
		}
		all, held = append(all, some...), append(held, claims...)
	}
	if len(all) == 0 {
		return nil, errors.New(strings.Join(why, "; "))
	}
	r.claims.set(r.claims.byRequest, id, held)
	r.proposed[id] = all
	return all, nil
}

// propose gives the alternatives of one type.
func (r *Room) propose(id, name string, to *models.Agent, payload string) (all []*models.Mechanism, held []string, err error) {
	k, own, err := r.serves(name, payload)
	if err != nil {
		return nil, nil, err
	}
	if why := lacks(to, k, payload); why != "" {
		return nil, nil, fmt.Errorf("node %s %s", to.GetNode(), why)
	}
	far := addressesOf(to)
	if m := r.recorded(id, name, own, far); m != nil {
		all = append(all, m) // its record holds what it takes
	}
	pairs := pair(own, far)
	if len(pairs) == 0 {
		return nil, nil, fmt.Errorf("node %s has the tunnel addresses %s and node %s %s: none of the same family", r.o.Node, list(own), to.GetNode(), list(far))
	}
	var why []string
	for _, p := range pairs {
		ends := Params{SrcIP: p[0].String(), DstIP: p[1].String()}
		some, err := k.Propose(ends, Choice{id, &r.claims})
		if len(some) > 0 {
			some = r.moved(id, name, some)
		}
		for _, params := range some {
			claims := k.Claims(params, Place{models.EndpointSide, payload, p[0], p[1]})
			if err = r.claims.check(id, claims); err != nil {
				continue
			}
			held = append(held, claims...)
			if m := mechanism(k, params); !slices.ContainsFunc(all, func(o *models.Mechanism) bool { return same(m, o) }) {
				all = append(all, m)
			}
		}
		if len(all) > 0 {
			return all, held, nil
		}
		why = append(why, err.Error())
	}
	return nil, nil, errors.New(strings.Join(why, ", "))
}

// moved puts before what is proposed the same with the numbers that the connection has on record:
// one that moves to another node keeps them if it can, and the kernel its device.
func (r *Room) moved(id, name string, some []Params) []Params {
	on := r.records[id][models.EndpointSide]
	if on.GetType() != name {
		return some
	}
	kept := maps.Clone(some[0])
	for key := range kept {
		if v, ok := on.Parameters[key]; ok && key != SrcIP && key != DstIP {
			kept[key] = v
		}
	}
	if maps.Equal(kept, some[0]) {
		return some
	}
	return slices.Insert(some, 0, kept)
}

// pair joins addresses of the same family, the best of ours first.
func pair(own, far []netip.Addr) (pairs [][2]netip.Addr) {
	for _, a := range own {
		for _, b := range far {
			if a.Is4() == b.Is4() && a != b {
				pairs = append(pairs, [2]netip.Addr{a, b})
			}
		}
	}
	return pairs
}

// recorded is the tunnel that id has on record at the endpoint's side, if both nodes still
// have its addresses.
func (r *Room) recorded(id, name string, own, far []netip.Addr) *models.Mechanism {
	m := r.records[id][models.EndpointSide]
	if m.GetType() != name {
		return nil
	}
	at, err := Params(m.Parameters).Place(models.EndpointSide, "")
	if err != nil || !slices.Contains(own, at.Local) || !slices.Contains(far, at.Remote) {
		return nil
	}
	return m
}

func mechanism(k Kind, p Params) *models.Mechanism {
	return &models.Mechanism{Type: k.Type(), Parameters: p}
}

// Accept completes a mechanism that the agent from proposes, and holds what it takes here for
// id; the error says why this node cannot take it. What is on record already is taken as it is.
func (r *Room) Accept(id string, m *models.Mechanism, from *models.Agent, payload string) (*models.Mechanism, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.accept(id, m, from, payload)
}

// accept is Accept; r.mu is held.
func (r *Room) accept(id string, m *models.Mechanism, from *models.Agent, payload string) (*models.Mechanism, error) {
	k, own, err := r.serves(m.GetType(), payload)
	if err != nil {
		return nil, err
	}
	if why := lacks(from, k, payload); why != "" {
		return nil, fmt.Errorf("node %s proposes it and %s", from.GetNode(), why)
	}
	p := Params(maps.Clone(m.GetParameters()))
	src, err := p.address(SrcIP)
	if err != nil {
		return nil, err
	}
	if far := addressesOf(from); !slices.Contains(far, src) {
		return nil, field(SrcIP, "%s is not a tunnel address of node %s, which has %s", src, from.GetNode(), list(far))
	}
	if p, err = r.dst(p, src, own); err != nil {
		return nil, err
	}
	if on := r.records[id][models.ClientSide]; on.GetType() == k.Type() && p.within(on.GetParameters()) {
		p = maps.Clone(on.Parameters) // a refresh
	} else if p, err = k.Accept(p, Choice{id, &r.claims}); err != nil {
		return nil, err
	}
	if err := Validate(k, p); err != nil {
		return nil, err
	}
	at, err := p.Place(models.ClientSide, payload)
	if err != nil {
		return nil, err
	}
	claims := k.Claims(p, at)
	if len(k.Parameters()) == 0 && at.Remote.Less(at.Local) {
		r.yield(claims)
	}
	if err := r.claims.check(id, claims); err != nil {
		return nil, fmt.Errorf("on node %s, %w", r.o.Node, err)
	}
	r.forget(id)
	r.claims.set(r.claims.byRequest, id, claims)
	r.agreed[id] = mechanism(k, p)
	return mechanism(k, maps.Clone(p)), nil
}

// yield gives up what this node holds for a proposal that is not agreed, for a node that asks
// for the same: where there can be one tunnel between two addresses and both nodes propose it
// at the same moment, both would refuse. The lower address wins, which both see alike.
func (r *Room) yield(wanted []string) {
	same := func(claim string) bool { return slices.Contains(wanted, claim) }
	for id := range r.proposed {
		if held := r.claims.byRequest[id]; r.agreed[id] == nil && slices.ContainsFunc(held, same) {
			r.claims.set(r.claims.byRequest, id, slices.DeleteFunc(slices.Clone(held), same))
		}
	}
}

// dst settles at which of our addresses the tunnel ends.
func (r *Room) dst(p Params, src netip.Addr, own []netip.Addr) (Params, error) {
	if p[DstIP] == "" {
		for _, a := range own {
			if a.Is4() == src.Is4() {
				return p.With(DstIP, a.String()), nil
			}
		}
		return nil, field(SrcIP, "%s is of a family in which node %s has no tunnel address; it has %s", src, r.o.Node, list(own))
	}
	dst, err := p.address(DstIP)
	if err == nil && !slices.Contains(own, dst) {
		err = field(DstIP, "%s is not a tunnel address of node %s, which has %s", dst, r.o.Node, list(own))
	}
	return p, err
}

// Agreed says why what the agent to has answered is not one of what was proposed for id. Of
// what was held for id, what was answered stays held.
func (r *Room) Agreed(id string, answered *models.Mechanism, to *models.Agent) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := Params(answered.GetParameters())
	proposed := r.proposed[id]
	if m := r.records[id][models.EndpointSide]; m != nil {
		proposed = append(slices.Clip(proposed), m)
	}
	if !slices.ContainsFunc(proposed, func(m *models.Mechanism) bool {
		return m.Type == answered.GetType() && Params(m.Parameters).within(p)
	}) {
		return fmt.Errorf("node %s has answered %s with %v, which was not proposed", to.GetNode(), answered.GetType(), p)
	}
	k := r.kind(answered.GetType())
	if err := Validate(k, p); err != nil {
		return fmt.Errorf("node %s has answered %s: %w", to.GetNode(), answered.GetType(), err)
	}
	at, err := p.Place(models.EndpointSide, "")
	if err != nil {
		return err
	}
	if far := addressesOf(to); !slices.Contains(far, at.Remote) {
		return fmt.Errorf("node %s has answered %s with %s %s, which is not a tunnel address of it; it has %s", to.GetNode(), answered.GetType(), DstIP, at.Remote, list(far))
	}
	claims := k.Claims(p, at) // held since they were proposed, unless they were given up
	if err := r.claims.check(id, claims); err != nil {
		return fmt.Errorf("on node %s, meanwhile, %w", r.o.Node, err)
	}
	r.claims.set(r.claims.byRequest, id, union(r.claims.byRequest[id], claims))
	r.agreed[id] = mechanism(k, maps.Clone(p))
	return nil
}

func union(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}
