package linux

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"

	"go.patchbay.dev/plugins/linux/nstest"
)

// many makes connections between namespaces, several in each.
func many(t testing.TB, n *Namespaces, connections, namespaces int) (refs []string) {
	t.Helper()
	nstest.Need(t)
	dir := t.TempDir()
	for i := range namespaces {
		refs = append(refs, filepath.Join(dir, fmt.Sprint(i)))
		nstest.At(t, refs[i])
	}
	for i := range connections {
		var ends [2]End
		for j, side := range Sides {
			ns, err := n.Open(refs[(2*i+j)%namespaces])
			check(t, err)
			ends[j] = End{ns, fmt.Sprintf("nsm%d", i), Tag{fmt.Sprintf("c%d", i), side}.MAC(), 1500}
			_, err = ns.NSID()
			check(t, err)
		}
		check(t, n.CreatePair(ends[0], ends[1]))
		for j, e := range ends {
			l, err := e.NS.LinkByName(e.Name)
			check(t, err)
			_, err = e.NS.SetLink(l.Index, Change{Alias: Tag{fmt.Sprintf("c%d", i), Sides[j]}.String(), Up: true})
			check(t, err)
			own := netip.AddrFrom4([4]byte{10, byte(i >> 7), byte(i << 1), byte(j)})
			other := netip.AddrFrom4([4]byte{10, byte(i >> 7), byte(i << 1), byte(1 - j)})
			check(t, e.NS.ConfigureNew(l.Index, Config{
				Addresses: []netip.Prefix{netip.PrefixFrom(own, 32)},
				Routes:    []Route{{Prefix: netip.PrefixFrom(other, 32)}},
			}))
			check(t, e.NS.Close())
		}
	}
	return refs
}

// BenchmarkLook looks at everything, as at the agent's start.
func BenchmarkLook(b *testing.B) {
	for _, namespaces := range []int{2, 2000} {
		b.Run(fmt.Sprintf("1000 connections in %d namespaces", namespaces), func(b *testing.B) {
			n := newNamespaces(b)
			refs := many(b, n, 1000, namespaces)
			for b.Loop() {
				links, err := n.Links(none)
				check(b, err)
				if ours := slices.DeleteFunc(links, func(l Link) bool { return !slices.Contains(Sides[:], l.side()) }); len(ours) != 2000 {
					b.Fatalf("%d interfaces", len(ours))
				}
				surveys, err := n.Surveys(refs)
				check(b, err)
				if len(surveys) != namespaces {
					b.Fatalf("%d namespaces", len(surveys))
				}
			}
		})
	}
}

func (l Link) side() Side {
	tag, _ := ParseTag(l.Alias)
	return tag.Side
}
