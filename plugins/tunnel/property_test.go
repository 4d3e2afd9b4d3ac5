package tunnel_test

import (
	"fmt"
	"maps"
	"math/rand"
	"slices"
	"testing"

	"go.patchbay.dev/models"
)

// connection is one between two nodes, on its way.
type connection struct {
	a, b     *node
	kind     string
	proposed []*models.Mechanism
	done     *models.Mechanism
}

// However requests of several nodes, failures, restarts and closes come between each other,
// no node has anything twice, and what was given back can be had again.
func TestNothingIsTakenTwice(t *testing.T) {
	for seed := range int64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { shuffle(t, rand.New(rand.NewSource(seed))) })
	}
}

func shuffle(t *testing.T, r *rand.Rand) {
	var nodes []*node
	for i := range 4 {
		nodes = append(nodes, newNode(t, fmt.Sprint("n", i), fmt.Sprintf("10.0.0.%d", i+1), fmt.Sprintf("fd00::%d", i+1)))
	}
	kinds := []string{"TINY", "TINY", "VXLAN", "GRE", "IPIP", "WIREGUARD"}
	conns := map[string]*connection{}
	for step := range 400 {
		ids := slices.Sorted(maps.Keys(conns))
		if len(ids) == 0 || r.Intn(4) == 0 {
			a, b := r.Intn(len(nodes)), r.Intn(len(nodes)-1)
			if b >= a {
				b++
			}
			conns[fmt.Sprint("c", step)] = &connection{a: nodes[a], b: nodes[b], kind: kinds[r.Intn(len(kinds))]}
			continue
		}
		id := ids[r.Intn(len(ids))]
		if !advance(t, r, id, conns[id]) {
			delete(conns, id)
		}
		if r.Intn(25) == 0 {
			restart(nodes[r.Intn(len(nodes))], conns)
		}
		for _, n := range nodes {
			unique(t, n)
		}
	}
	for id, c := range conns {
		c.close(id)
	}
	for _, n := range nodes {
		n.start()
		for i := range few / 3 { // a proposal takes three
			if _, err := n.Propose(fmt.Sprint("again", i), []string{"TINY"}, nodes[0].published(), models.IP); err != nil && n != nodes[0] {
				t.Errorf("after all were closed: %v", err)
			}
		}
	}
}

// restart forgets the requests that the node has under way, as their clients then do.
func restart(n *node, conns map[string]*connection) {
	n.start()
	for id, c := range conns {
		if (c.a == n || c.b == n) && (c.a.records[id] == nil || c.b.records[id] == nil) {
			c.close(id)
			delete(conns, id)
		}
	}
}

// advance does the next step of a connection, or lets it fail; false: it is gone.
func advance(t *testing.T, r *rand.Rand, id string, c *connection) bool {
	if r.Intn(10) == 0 {
		c.close(id)
		return false
	}
	var err error
	switch {
	case c.proposed == nil:
		c.proposed, err = c.a.Propose(id, []string{c.kind}, c.b.published(), models.IP)
	case c.done == nil:
		if c.done, err = first(id, c.proposed, c.a, c.b, models.IP); err == nil {
			if err = c.a.Agreed(id, c.done, c.b.published()); err != nil {
				t.Errorf("%s: %v", id, err)
			}
		}
	case c.b.records[id] == nil:
		c.b.record(id, models.IP, models.ClientSide, c.done)
	case c.a.records[id] == nil:
		c.a.record(id, models.IP, models.EndpointSide, c.done)
	}
	if err != nil {
		c.close(id)
		return false
	}
	return true
}

func (c *connection) close(id string) {
	for _, n := range []*node{c.a, c.b} {
		n.Release(id)
		n.remove(id)
	}
}

// unique looks at what is on record of a node.
func unique(t *testing.T, n *node) {
	t.Helper()
	taken := map[string]string{}
	for id, x := range n.records {
		m, own := x.Endpoint.Mechanism, "src_port"
		if m == nil {
			m, own = x.Client.Mechanism, "dst_port"
		}
		p := m.Parameters
		what := m.Type + p["vni"] + p["key"] + p["number"] + p[own]
		if m.Type == "IPIP" {
			what = m.Type + fmt.Sprint(slices.Sorted(slices.Values([]string{p["src_ip"], p["dst_ip"]})))
		}
		if other, ok := taken[what]; ok {
			t.Fatalf("node %s: %s and %s have %s", n.name, id, other, what)
		}
		taken[what] = id
	}
}
