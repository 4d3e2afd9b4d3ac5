package agent

import (
	"context"
	"net/netip"
	"slices"
	"sync"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/bridge"
	bridgekernel "go.patchbay.dev/plugins/bridge/kernel"
	bridgevpp "go.patchbay.dev/plugins/bridge/vpp"
	"go.patchbay.dev/plugins/mechanism/kernel"
	"go.patchbay.dev/plugins/mechanism/vxlan"
	"go.patchbay.dev/plugins/reconcile"
)

// bridges is what this node makes bridges with.
type bridges struct {
	bridge.Mechanism
	agent  *Agent
	kernel *bridgekernel.Dataplane
	vpp    *bridgevpp.Dataplane // nil: VPP is not configured

	mu sync.Mutex // one look at a time
	on string     // the dataplane that was seen last
}

// withBridges adds the bridges, on both dataplanes, whose ports are what the other mechanisms
// attach.
func (a *Agent) withBridges(mechanisms []mechanism, mesh *vxlan.Mechanism) []mechanism {
	b := &bridges{agent: a, kernel: bridgekernel.New(a.linux)}
	b.kernel.Register(a.engine)
	b.kernel.Ports(kernel.KindVeth)
	a.kernel.WithBridges(func() bool { return b.dataplane() == "kernel" })
	if a.vpp != nil {
		b.vpp = bridgevpp.New(a.vpp, mesh, a.stats)
		b.vpp.Register(a.engine)
	}
	var tunnels []string
	for _, m := range mechanisms {
		if slices.ContainsFunc(m.Offers(), func(o *models.Offer) bool { return o.Class == "REMOTE" }) {
			tunnels = append(tunnels, m.Type())
		}
		if v, ok := m.(interface{ Kinds() []string }); ok && b.vpp != nil {
			b.vpp.Ports(v.Kinds()...)
		}
	}
	b.Plugin = bridge.New(bridge.Options{
		Keys: a.keys, Store: a.store, Engine: a.engine, Records: records{a}, Dataplane: b.now, Node: b.node, Tunnels: tunnels,
		Serves: func(services map[string]string) { a.manager.Serves(services) }, Log: a.log,
	})
	a.bridges = b
	return append(mechanisms, b)
}

// dataplane is where the node's bridges are: in VPP once it has answered, and for as long as
// the agent lives, since what is there returns with it.
func (b *bridges) dataplane() string {
	if b.vpp != nil && (b.agent.cfg.Dataplane == "vpp" || b.agent.vpp.Version() != "") {
		return "vpp"
	}
	return "kernel"
}

func (b *bridges) now() bridge.Dataplane {
	if b.dataplane() == "vpp" {
		return b.vpp
	}
	return b.kernel
}

// Offers are the dataplane's that has the bridges now.
func (b *bridges) Offers() []*models.Offer {
	o := b.Mechanism.Offer(b.dataplane())
	if o.Dataplane == "vpp" {
		o.Joins, o.Missing = true, b.agent.vpp.Missing("")
	} else {
		o.Missing = b.kernel.Missing()
	}
	return []*models.Offer{o}
}

// Kinds are those whose world ends with VPP.
func (b *bridges) Kinds() []string {
	if b.vpp == nil {
		return nil
	}
	return b.vpp.Kinds()
}

// node looks at what of the node matters to its bridges.
func (b *bridges) node() bridge.Node {
	var n bridge.Node
	n.Addresses, n.Underlay = b.agent.tunnels.At(b.dataplane() == "vpp")
	for _, a := range b.agent.tunnelAddresses() {
		n.Subnets = append(n.Subnets, netip.PrefixFrom(a, a.BitLen()))
	}
	foreign, err := b.agent.linux.Foreign()
	if err != nil {
		b.agent.log.Debug("the node's addresses are not known", "err", err)
	}
	for _, p := range foreign {
		if p.Addr().IsGlobalUnicast() {
			n.Subnets = append(n.Subnets, p)
		}
	}
	return n
}

// look has the bridges follow the node, after its tunnels have been looked at.
func (b *bridges) look() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.Refresh()
	if on := b.dataplane(); on != b.on {
		b.on = on
		b.Rebuild()
	}
}

// records are the cross-connects, which are made after the bridges.
type records struct{ agent *Agent }

func (r records) Again(ids ...string) { r.agent.crossconnects.Again(ids...) }
func (r records) Note(id, why string) { r.agent.crossconnects.Note(id, why) }

// engine is the engine that knows the bridges of the members on record before it starts.
type engine struct {
	*reconcile.Engine
	agent *Agent
}

func (e engine) Start(ctx context.Context) error {
	e.agent.tunnels.Look(ctx)
	e.agent.bridges.look()
	if err := e.agent.bridges.Load(ctx); err != nil {
		return err
	}
	return e.Engine.Start(ctx)
}
