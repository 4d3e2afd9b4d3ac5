package bridge

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// What three nodes end in follows from the records alone, whatever came before: members,
// bridges, tunnel addresses that come and go, agents that restart in between.
func TestWhateverHappenedTheRecordsDecide(t *testing.T) {
	for range 4 {
		seed := rand.Uint64()
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			w := newWalk(t, rand.New(rand.NewPCG(seed, 0)))
			for range 3 {
				for range 25 {
					w.step()
				}
				w.check()
			}
			w.end()
		})
	}
}

// walk is a random one through the lives of three nodes.
type walk struct {
	t       *testing.T
	r       *rand.Rand
	nodes   []*node
	bridges map[string]bool
	members map[*node]map[string]string // bridge by id
}

func newWalk(t *testing.T, r *rand.Rand) *walk {
	etcd := newEtcd(t)
	w := &walk{t: t, r: r, bridges: map[string]bool{}, members: map[*node]map[string]string{}}
	for i := range 3 {
		n := newNode(t, etcd, fmt.Sprint("n", i+1), fmt.Sprint("192.0.2.", i+1))
		w.nodes = append(w.nodes, n)
		w.members[n] = map[string]string{}
	}
	return w
}

func (w *walk) step() {
	n := w.nodes[w.r.IntN(3)]
	name := []string{"lan1", "lan2"}[w.r.IntN(2)]
	id := fmt.Sprint("m", w.r.IntN(4))
	switch w.r.IntN(12) {
	case 0, 1, 2, 3:
		n.member(name, id, "")
		w.members[n][id] = name
	case 4, 5, 6:
		remove(w.t, n.etcd, n.keys.CrossConnect(id))
		delete(w.members[n], id)
	case 7, 8:
		n.apply(name, []string{"", `,"flooding":false`, `,"interconnect":"external"`, `,"macAge":61`}[w.r.IntN(4)])
		n.apply(name, "") // whatever it was for a moment
		w.bridges[name] = true
	case 9:
		remove(w.t, n.etcd, n.keys.Bridge(name))
		delete(w.bridges, name)
	case 10:
		n.becomes(func(v *Node) { v.Addresses = nil })
		n.becomes(func(v *Node) { v.Addresses = addresses([]string{"192.0.2." + n.name[1:]}) })
	case 11:
		n.stop()
		n.start()
	}
}

// in tells which members of a bridge a node has.
func (w *walk) in(n *node, name string) (ids []string) {
	for _, id := range slices.Sorted(maps.Keys(w.members[n])) {
		if w.members[n][id] == name {
			ids = append(ids, id)
		}
	}
	return ids
}

// check waits until every node has what the records say, and no more.
func (w *walk) check() {
	w.t.Helper()
	etcd, prefix := w.nodes[0].etcd, w.nodes[0].keys.Prefix
	for _, n := range w.nodes {
		var domains, ports, tunnels, has []string
		for _, name := range []string{"lan1", "lan2"} {
			ids := w.in(n, name)
			for _, id := range ids {
				has = append(has, name+"/"+id)
			}
			if len(ids) == 0 || !w.bridges[name] {
				continue
			}
			domains = append(domains, name)
			for _, id := range ids {
				ports = append(ports, name+"/"+id)
			}
			for _, other := range w.nodes {
				if other != n && len(w.in(other, name)) > 0 {
					tunnels = append(tunnels, name+"/192.0.2."+other.name[1:])
				}
			}
		}
		exactly(w.t, strings.Join(domains, " "), func() string { return n.plane.keys("domain/") })
		exactly(w.t, strings.Join(ports, " "), func() string { return n.plane.keys("port/") })
		exactly(w.t, strings.Join(tunnels, " "), func() string { return n.plane.keys("tunnel/") })
		exactly(w.t, strings.Join(domains, " "), func() string { return etcdKeys(w.t, etcd, n.keys.NodeBridges()) })
		// A member whose bridge has never been there takes nothing yet, one whose bridge has gone keeps what it has.
		eventually(w.t, "nothing more", func() string {
			for _, key := range strings.Fields(etcdKeys(w.t, etcd, n.keys.Members())) {
				if !slices.Contains(has, key) {
					return key + " is taken"
				}
			}
			return "nothing more"
		})
	}
	for _, name := range []string{"lan1", "lan2"} {
		exactly(w.t, "one number", func() string { return w.numbers(name) })
	}
	eventually(w.t, "no more", func() string {
		if all := strings.Fields(etcdKeys(w.t, etcd, prefix+"vnis/")); len(all) > 2 {
			return fmt.Sprint(all)
		}
		return "no more"
	})
}

// numbers tells whether all nodes that are in a bridge have one VNI for it.
func (w *walk) numbers(name string) string {
	var all []string
	for _, n := range w.nodes {
		if len(w.in(n, name)) > 0 && w.bridges[name] {
			_, s := n.bridges.Lookup(name)
			all = append(all, fmt.Sprint(s.GetVni()))
		}
	}
	if slices.Contains(all, "0") || len(slices.Compact(all)) > 1 {
		return fmt.Sprint(all)
	}
	return "one number"
}

// end deletes all; nothing is left.
func (w *walk) end() {
	w.t.Helper()
	for _, n := range w.nodes {
		for id := range w.members[n] {
			remove(w.t, n.etcd, n.keys.CrossConnect(id))
		}
	}
	for _, n := range w.nodes {
		exactly(w.t, "", func() string { return n.plane.keys("") })
		exactly(w.t, "", func() string { return etcdKeys(w.t, n.etcd, n.keys.BridgeStatuses()) })
		exactly(w.t, "", func() string { return etcdKeys(w.t, n.etcd, n.keys.Prefix+"nodes/") })
		exactly(w.t, "", func() string { return etcdKeys(w.t, n.etcd, n.keys.Prefix+"addresses/") })
	}
}
