package tunnel

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"slices"
)

// claims are what connections take on this node: by a record, or for a request under way.
type claims struct {
	byRecord, byRequest map[string][]string // by id
	holders             map[string][]string // the ids, by claim; one twice: by both
}

func newClaims() claims {
	return claims{byRecord: map[string][]string{}, byRequest: map[string][]string{}, holders: map[string][]string{}}
}

// set replaces what is held for id in one of the two maps.
func (c *claims) set(in map[string][]string, id string, held []string) {
	for _, claim := range in[id] {
		ids := c.holders[claim]
		if i := slices.Index(ids, id); i >= 0 {
			ids = slices.Delete(ids, i, i+1)
		}
		if c.holders[claim] = ids; len(ids) == 0 {
			delete(c.holders, claim)
		}
	}
	delete(in, id)
	if len(held) == 0 {
		return
	}
	in[id] = held
	for _, claim := range held {
		c.holders[claim] = append(c.holders[claim], id)
	}
}

// check says which claim another connection than id holds.
func (c *claims) check(id string, wanted []string) error {
	for _, claim := range wanted {
		for _, holder := range c.holders[claim] {
			if holder != id {
				return fmt.Errorf("%s is taken by connection %q", claim, holder)
			}
		}
	}
	return nil
}

// Choice is how a kind chooses what is free on this node.
type Choice struct {
	ID     string // of the connection
	claims *claims
}

// attempts to find a number that is free by chance, before all are tried.
const attempts = 64

// Numbers chooses numbers from lo to hi whose claims are free. They are random, so that two
// nodes that choose at the same time hardly choose the same; the claims decide.
func (c Choice) Numbers(count int, lo, hi uint32, claim func(uint32) string) ([]uint32, error) {
	var chosen []uint32
	span := uint64(hi) - uint64(lo) + 1
	free := func(n uint32) bool { return len(c.claims.holders[claim(n)]) == 0 && !slices.Contains(chosen, n) }
	for range count {
		n := lo + uint32(random()%span)
		for tried := 0; tried < attempts && !free(n); tried++ {
			n = lo + uint32(random()%span)
		}
		for tried := uint64(0); tried < min(span, maxSearch) && !free(n); tried++ {
			n = lo + uint32((uint64(n-lo)+1)%span)
		}
		if !free(n) {
			break
		}
		chosen = append(chosen, n)
	}
	if chosen == nil {
		return nil, fmt.Errorf("all from %s to %s are taken", claim(lo), claim(hi))
	}
	return chosen, nil
}

// alternatives of which the other node takes the first that is free there, too.
const alternatives = 3

// Alternatives are p with several numbers, from 1 to hi, for a parameter that both nodes must
// have free, best first.
func (c Choice) Alternatives(p Params, parameter string, hi uint32, claim func(number string) string) (all []Params, err error) {
	numbers, err := c.Numbers(alternatives, 1, hi, func(n uint32) string { return claim(Itoa(n)) })
	for _, n := range numbers {
		all = append(all, p.With(parameter, Itoa(n)))
	}
	return all, err
}

// maxSearch bounds the search where nearly all is taken.
const maxSearch = 1 << 16

func random() uint64 {
	var b [8]byte
	rand.Read(b[:]) // it never fails
	return binary.NativeEndian.Uint64(b[:])
}
