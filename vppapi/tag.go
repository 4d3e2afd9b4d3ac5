package vppapi

import (
	"fmt"
	"math/big"
	"slices"
	"strings"
)

// MaxTag is the longest tag in bytes that VPP keeps (string tag[64], with its final zero).
const MaxTag = 63

// A tag patchbay:<id>:<side> is longer than that when its id has more than 45 bytes. VPP then
// keeps the id, which is of 38 characters, as a number in the 94 that can be printed, and of
// the side the first letter. Nothing is lost, so that an agent that starts again reads from VPP
// whose an interface is; whoever calls this room sees whole tags only.
const (
	tagPrefix = "patchbay:"
	idDigits  = "abcdefghijklmnopqrstuvwxyz0123456789-."
	maxID     = 63
	firstKept = '!' // of the 94
	lastKept  = '~'
)

var tagSides = []struct{ whole, kept string }{{":client", ":c"}, {":endpoint", ":e"}}

var (
	idBase   = big.NewInt(int64(len(idDigits)))
	keptBase = big.NewInt(lastKept - firstKept + 1)
)

// checkTag says that VPP cannot keep a tag.
func checkTag(tag string) error {
	if len(keptTag(tag)) > MaxTag {
		return fmt.Errorf("tag %q has %d bytes; VPP keeps %d", tag, len(tag), MaxTag)
	}
	return nil
}

// keptTag is a tag as VPP keeps it, or, if it cannot, as it is.
func keptTag(tag string) string {
	rest, ours := strings.CutPrefix(tag, tagPrefix)
	if len(tag) <= MaxTag || !ours {
		return tag
	}
	for _, side := range tagSides {
		if id, ok := strings.CutSuffix(rest, side.whole); ok && len(id) <= maxID && strings.Trim(id, idDigits) == "" {
			return tagPrefix + keptID(id) + side.kept
		}
	}
	return tag
}

// wholeTag is the tag that VPP keeps so.
func wholeTag(kept string) string {
	rest, ours := strings.CutPrefix(kept, tagPrefix)
	for _, side := range tagSides {
		if id, ok := strings.CutSuffix(rest, side.kept); ours && ok {
			if tag := tagPrefix + wholeID(id) + side.whole; keptTag(tag) == kept {
				return tag
			}
		}
	}
	return kept
}

// keptID writes an id, whose characters are digits from 1 on, as a number.
func keptID(id string) string {
	n, digit := new(big.Int), new(big.Int)
	for _, c := range []byte(id) {
		digit.SetInt64(int64(strings.IndexByte(idDigits, c)) + 1)
		n.Add(n.Mul(n, idBase), digit)
	}
	var kept []byte
	for n.Sign() > 0 {
		n.DivMod(n, keptBase, digit)
		kept = append(kept, byte(firstKept+digit.Int64()))
	}
	slices.Reverse(kept)
	return string(kept)
}

// wholeID reads what keptID wrote.
func wholeID(kept string) string {
	n, digit, one := new(big.Int), new(big.Int), big.NewInt(1)
	for _, c := range []byte(kept) {
		digit.SetInt64(int64(c) - firstKept)
		n.Add(n.Mul(n, keptBase), digit)
	}
	var id []byte
	for n.Sign() > 0 {
		n.DivMod(n.Sub(n, one), idBase, digit)
		id = append(id, idDigits[digit.Int64()])
	}
	slices.Reverse(id)
	return string(id)
}
