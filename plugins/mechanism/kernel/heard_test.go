package kernel

import (
	"testing"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/linux"
)

// What the kernel tells after an interface was looked at, and before what was seen is noted, it tells
// only once. Nor does it tell again what was missed.
func TestALinkThatComesUpUnheardIsUp(t *testing.T) {
	for name, f := range map[string]func(m *Mechanism, p pair, now [2]linux.Link){
		"while something is done to it": func(m *Mechanism, p pair, now [2]linux.Link) {
			m.pairs.begin(p.key)
			m.heard(now[0], false)
			m.heard(now[1], false)
			m.pairs.set(p.key, p.spec, p.links, true)
			m.end(p.key)
		},
		"while all is looked at": func(m *Mechanism, p pair, now [2]linux.Link) {
			m.heard(now[0], false)
			m.heard(now[1], false)
			m.replace(KindVeth, []*pair{&p})
		},
		"while too much happens": func(m *Mechanism, p pair, _ [2]linux.Link) {
			m.replace(KindVeth, []*pair{&p})
			m.missed()
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := two(t)
			n := deaf(t)
			x := full(a, b)
			n.want(x)
			p, _ := n.m.pairs.get(vethKey(x.Id))
			var now [2]linux.Link
			n.wait("the kernel to say that both are up", func() bool {
				var err error
				for i := range now {
					now[i], err = n.ns.LinkAt(p.links[i].Place)
					check(t, err)
				}
				return now[0].Running && now[1].Running
			})
			n.m.pairs.forget(p.key)
			p.links[0].Running, p.links[1].Running = false, false
			f(n.m, p, now)
			n.wait("both to be up", func() bool {
				return n.m.Status(x, models.ClientSide).LinkUp && n.m.Status(x, models.EndpointSide).LinkUp
			})
		})
	}
}
