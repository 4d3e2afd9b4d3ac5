package kernel

import (
	"fmt"
	"slices"

	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/reconcile"
)

// pairsIn makes pairs of the interfaces that were seen, and takes them for all there are.
func (m *Mechanism) pairsIn(l *look, wanted map[string]Veth) []reconcile.Found[Veth] {
	g := gathering{look: l, wanted: wanted, byMAC: map[linux.MAC]linux.Tag{}, byTag: map[linux.Tag][]linux.Link{}}
	for key, spec := range wanted {
		for i, tag := range tagsOf(key) {
			g.byMAC[spec.Ends[i].MAC] = tag
		}
	}
	l.links(g.add)
	known := g.pairs()
	m.replace(KindVeth, known)
	found := make([]reconcile.Found[Veth], len(known))
	for i, p := range known {
		found[i] = reconcile.Found[Veth]{Key: p.key, Spec: p.spec}
	}
	return found
}

// A gathering puts ends together.
type gathering struct {
	look    *look
	wanted  map[string]Veth
	byMAC   map[linux.MAC]linux.Tag
	byTag   map[linux.Tag][]linux.Link
	strange []linux.Link // of ours, but of which connection?
}

// add sorts an interface by its tag or, if the agent died before it set one, by its address.
func (g *gathering) add(l linux.Link) {
	if !l.Veth() {
		return // see tapDescriptor and deviceDescriptor
	}
	tag, ok := linux.ParseTag(l.Alias)
	if !ok && l.Alias == "" {
		tag, ok = g.byMAC[l.MAC]
	}
	if !ok {
		g.strange = append(g.strange, l)
		return
	}
	g.byTag[tag] = append(g.byTag[tag], l)
}

// byKey puts the ends that may belong together under the key of their pair.
func (g *gathering) byKey() map[string][2][]linux.Link {
	all := map[string][2][]linux.Link{}
	for tag, links := range g.byTag {
		if w, port := tag.Workload(); port {
			all[portKey(w)] = [2][]linux.Link{nil, links}
		}
	}
	for tag, links := range g.byTag {
		w, port := tag.Workload()
		if port {
			continue
		}
		for _, l := range links {
			key, i := vethKey(tag.ID), sideIndex(tag.Side)
			if outer := all[portKey(w)][1]; slices.ContainsFunc(outer, func(o linux.Link) bool { return joined(l, o) }) {
				key, i = portKey(w), 0
			}
			ends := all[key]
			ends[i] = append(ends[i], l)
			all[key] = ends
		}
	}
	return all
}

// pairs returns all pairs: one for each connection, and under keys that nobody wants
// what else is there.
func (g *gathering) pairs() (all []*pair) {
	for key, ends := range g.byKey() {
		a, b, ok := g.choose(key, ends)
		if ok {
			all = append(all, g.pair(key, [2]linux.Link{a, b}))
		}
		for i := range ends {
			for _, l := range ends[i] {
				if !ok || (l.Place != a.Place && l.Place != b.Place) {
					g.strange = append(g.strange, l)
				}
			}
		}
	}
	for _, l := range g.strange {
		key := vethKey(fmt.Sprintf(":%d:%d", l.NSID, l.Index))
		all = append(all, &pair{key: key, spec: Veth{broken: true}, links: [2]linux.Link{l}})
	}
	return all
}

// choose finds the two ends that are joined; of several pairs, the one where it is wanted.
func (g *gathering) choose(key string, ends [2][]linux.Link) (a, b linux.Link, ok bool) {
	for _, x := range ends[0] {
		for _, y := range ends[1] {
			if !joined(x, y) {
				continue
			}
			if !ok || (g.look.ref(g.wanted[key].Ends[0].NetNS, x) == g.wanted[key].Ends[0].NetNS && g.look.ref(g.wanted[key].Ends[1].NetNS, y) == g.wanted[key].Ends[1].NetNS) {
				a, b, ok = x, y, true
			}
		}
	}
	return a, b, ok
}

// pair describes what was found as a spec.
func (g *gathering) pair(key string, links [2]linux.Link) *pair {
	p := &pair{key: key, links: links, spec: Veth{MTU: links[0].MTU, Bridged: isPort(key) && links[1].Master != 0}}
	for i, tag := range tagsOf(key) {
		l := links[i]
		p.spec.Ends[i] = End{NetNS: g.look.ref(g.wanted[key].Ends[i].NetNS, l), Name: l.Name, MAC: l.MAC}
		_, port := tag.Workload()
		if (!l.Up && !port) || l.Alias != tag.String() || l.MTU != p.spec.MTU {
			p.spec.broken = true
		}
	}
	return p
}

// makerOf is the key of the value that makes an interface with a tag: of a pair that of one
// to the forwarder only if that is wanted.
func makerOf(l linux.Link, tag linux.Tag, wanted string) string {
	switch {
	case l.Tun():
		return tapKey(tag)
	case l.Device != nil:
		return deviceKey(tag)
	case l.Parent != "":
		return vfKey(tag)
	case wanted == portKey(tag):
		return wanted
	}
	return vethKey(tag.ID)
}

// configsIn describes what is set on the interfaces that were seen.
func configsIn(l *look, wanted map[string]IPConfig) []reconcile.Found[IPConfig] {
	found := map[string]IPConfig{}
	for ref, s := range l.surveys {
		for _, link := range s.Links {
			tag, ok := linux.ParseTag(link.Alias)
			if _, port := tag.Workload(); !ok || port {
				continue
			}
			key := ipKey(tag)
			want, isWanted := wanted[key]
			spec := IPConfig{NetNS: ref, Name: link.Name, Maker: makerOf(link, tag, want.Maker), Config: s.With(link.Index, want.Addresses)}
			here := l.byRef[want.NetNS] == s
			if here {
				spec.NetNS = want.NetNS
			}
			_, twice := found[key]
			if here || (!twice && (isWanted || !spec.Config.Equal(linux.Config{}))) {
				found[key] = spec
			}
		}
		if s.Stale > 0 {
			found[KindIPConfig+"/:"+ref] = IPConfig{NetNS: ref}
		}
	}
	all := make([]reconcile.Found[IPConfig], 0, len(found))
	for key, spec := range found {
		all = append(all, reconcile.Found[IPConfig]{Key: key, Spec: spec})
	}
	return all
}
