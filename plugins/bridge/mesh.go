package bridge

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/store"
)

// mesh is what this node knows of the other nodes that have members of a bridge, while it has
// some itself.
type mesh struct {
	stop   context.CancelFunc
	loaded chan struct{} // closed once it is known which nodes there are
	known  bool          // loaded is closed
	work   chan struct{} // of size one: the VNI may have to be changed

	vni     uint32
	vniWhy  string // why the bridge has none
	nodes   map[string][]netip.Addr
	refused string // why the bridge cannot be made at all
	plan    plan
}

// plan is where the tunnels of a bridge begin and end.
type plan struct {
	local netip.Addr   // not valid: no tunnel can begin here
	peers []netip.Addr // in order
	why   string       // some nodes are not reached; empty: all are
	down  bool         // none is
}

// enter begins to follow the other nodes of a bridge. p.mu is held.
func (p *Plugin) enter(b *bridge) {
	m := &mesh{loaded: make(chan struct{}), work: make(chan struct{}, 1), nodes: map[string][]netip.Addr{}}
	b.mesh = m
	if p.run.Err() != nil {
		m.stop = func() {}
		return
	}
	var ctx context.Context
	ctx, m.stop = context.WithCancel(p.run)
	p.done.Go(func() {
		prefix := p.Keys.Mesh(b.name)
		if err := p.Store.Watch(ctx, prefix, func(batch store.Batch) { p.meshBatch(b, m, batch) }); err != nil && ctx.Err() == nil {
			p.Log.Error("watch of a bridge's nodes ended", "bridge", b.name, "err", err)
		}
	})
	p.done.Go(func() { p.keepVNI(ctx, b, m) })
}

// leave ends that.
func (m *mesh) leave() {
	m.stop()
	m.know()
}

func (m *mesh) know() {
	if !m.known {
		m.known = true
		close(m.loaded)
	}
}

func (m *mesh) kick() {
	select {
	case m.work <- struct{}{}:
	default:
	}
}

// meshBatch takes in what the watch of one bridge's nodes and VNI delivers.
func (p *Plugin) meshBatch(b *bridge, m *mesh, batch store.Batch) {
	p.mu.Lock()
	if b.mesh != m {
		p.mu.Unlock()
		return
	}
	mtu := p.mtu(b.desired)
	if batch.Snapshot {
		m.vni = 0
		clear(m.nodes)
	}
	for _, kv := range batch.Puts {
		p.meshPut(b, m, kv)
	}
	for _, key := range batch.Deletes {
		if node, err := models.Name(p.Keys.MeshNodes(b.name), key); err == nil {
			delete(m.nodes, node)
		} else if key == p.Keys.MeshVNI(b.name) {
			m.vni = 0
		}
	}
	m.kick()
	p.apply(b)
	p.tell(b)
	resized := p.mtu(b.desired) != mtu
	p.mu.Unlock()
	if resized { // the nodes have settled on another address family
		p.again([]*bridge{b})
	}
	if batch.Snapshot {
		p.mu.Lock()
		defer p.mu.Unlock()
		m.know()
	}
}

// meshPut takes in one key. p.mu is held.
func (p *Plugin) meshPut(b *bridge, m *mesh, kv store.KV) {
	node, err := models.Name(p.Keys.MeshNodes(b.name), kv.Key)
	switch {
	case err == nil && node != p.Keys.Node:
		n := &models.BridgeNode{}
		if err = models.Unmarshal(kv.Value, n); err == nil {
			m.nodes[node] = addresses(n.Addresses)
		}
	case kv.Key == p.Keys.MeshVNI(b.name):
		v := &models.BridgeVNI{}
		if err = models.Unmarshal(kv.Value, v); err == nil {
			m.vni = v.Vni
		}
	}
	if err != nil && kv.Key != p.Keys.MeshVNI(b.name) {
		p.Log.Warn("a key that is no node of a bridge", "key", kv.Key, "err", err)
	}
}

func addresses(list []string) (all []netip.Addr) {
	for _, s := range list {
		if a, err := netip.ParseAddr(s); err == nil {
			all = append(all, a)
		}
	}
	return all
}

// replan says where a bridge's tunnels begin and end. All nodes use the addresses of one
// family, so that each sends to where the others listen: IPv4, unless more have an IPv6
// address. p.mu is held.
func (p *Plugin) replan(b *bridge) {
	m := b.mesh
	m.plan = plan{}
	if !b.desired.Spans() || len(m.nodes) == 0 {
		return
	}
	four, six := of(p.node.Addresses, netip.Addr.Is4), of(p.node.Addresses, netip.Addr.Is6)
	has4, has6 := bit(four.IsValid()), bit(six.IsValid())
	for _, list := range m.nodes {
		has4 += bit(of(list, netip.Addr.Is4).IsValid())
		has6 += bit(of(list, netip.Addr.Is6).IsValid())
	}
	family := netip.Addr.Is4
	if m.plan.local = four; has6 > has4 {
		family, m.plan.local = netip.Addr.Is6, six
	}
	var cut []string
	for node, list := range m.nodes {
		if a := of(list, family); a.IsValid() {
			m.plan.peers = append(m.plan.peers, a)
		} else {
			cut = append(cut, node)
		}
	}
	slices.SortFunc(m.plan.peers, netip.Addr.Compare)
	m.plan.peers = slices.Compact(m.plan.peers)
	const remedy = "set node.address, of the family that the other nodes have"
	switch slices.Sort(cut); {
	case !m.plan.local.IsValid():
		m.plan.why, m.plan.down = fmt.Sprintf("node %s has no tunnel address that serves, so that its members do not reach those of %s: %s", p.Keys.Node, names(slices.Sorted(maps.Keys(m.nodes))), remedy), true
		m.plan.peers = nil
	case len(cut) > 0:
		m.plan.why, m.plan.down = fmt.Sprintf("the members of %s are not reached, for want of a tunnel address that serves: %s there", names(cut), remedy), len(m.plan.peers) == 0
	}
}

// names lists nodes, the first of them if there are many.
func names(nodes []string) string {
	const most = 5
	text := strings.Join(nodes[:min(len(nodes), most)], ", ")
	if more := len(nodes) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// of is the first address of a family; not valid if there is none.
func of(list []netip.Addr, family func(netip.Addr) bool) netip.Addr {
	if i := slices.IndexFunc(list, family); i >= 0 {
		return list[i]
	}
	return netip.Addr{}
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}
