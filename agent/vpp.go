package agent

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/mechanism/memif"
	"go.patchbay.dev/plugins/mechanism/vhostuser"
	"go.patchbay.dev/plugins/xconnect"
	"go.patchbay.dev/vppapi"
)

// withVPP adds what a node with VPP offers. VPP need not be there yet, nor stay: its
// mechanisms say what is missing, and what is on record is made when it answers.
func (a *Agent) withVPP(mechanisms []mechanism) []mechanism {
	c := a.cfg.VPP
	a.vpp = vppapi.New(vppapi.Options{
		Socket: c.APISocket, Name: "patchbay", Log: a.log, OnCall: a.metrics.DataplaneCall,
	})
	a.stats = vppapi.NewStats(c.StatsSocket)
	a.budget = vppapi.NewBudget(a.vpp, a.stats, vppapi.Limits{Interfaces: c.Interfaces, VhostUsers: c.VhostPorts, Buffers: c.Buffers})
	mode, placer := vppapi.ParseRxMode(c.RxMode), vppapi.NewPlacer(a.vpp, a.stats, c.Workers)
	a.pacer = vppapi.NewPacer(a.vpp, a.stats)
	a.kernel.WithVPP(a.vpp, mode, placer, a.budget.Interface)
	a.xconnect = xconnect.New(a.vpp)
	a.xconnect.Register(a.engine)
	a.vppKinds = append(a.vppKinds, a.xconnect.Kinds()...)
	a.vpp.Watch(vppapi.Watcher{
		Up: func() {
			a.stats.Reset()
			a.done.Go(a.findStats)
			a.done.Go(a.resync)
		},
		Down: func(error) { a.publishOffer() },
	})
	return append(mechanisms,
		memif.New(memif.Options{VPP: a.vpp, Namespaces: a.linux, RunDir: c.RunDir, RxMode: mode, Placer: placer, Pacer: a.pacer,
			Prefer: memif.Sizes{Ring: c.RingSize, Buffer: c.BufferSize, Queues: c.Queues}, Room: a.budget.Interface, Log: a.log}),
		vhostuser.New(vhostuser.Options{VPP: a.vpp, RunDir: c.RunDir, RxMode: mode, Placer: placer, Pacer: a.pacer, Room: a.budget.VhostUser, Log: a.log}),
	)
}

// resync has the engine look at a VPP that has just answered, and make what is missing.
func (a *Agent) resync() {
	a.tunnels.Look(context.Background())
	a.bridges.look()
	a.publishOffer()
	if err := a.engine.Resync(context.Background(), a.vppKinds...); err != nil {
		a.log.Debug("VPP was not looked at", "err", err)
	}
}

// findStats looks into the stats segment of a VPP that has just answered, before much is made:
// while VPP makes interfaces, it is hard to find one's way in there.
func (a *Agent) findStats() {
	if _, err := a.stats.FreeBuffers(); err != nil {
		a.log.Warn("counters and free buffers are not known; see vpp.stats_socket, and statseg in VPP's startup.conf", "err", err)
	}
}

// lookAgain looks from time to time at what VPP tells nobody of: the joins, and with them
// the interfaces' tags. What is as it should be costs VPP some milliseconds and no change.
func (a *Agent) lookAgain(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if a.vpp.Up() != nil {
			continue // it is looked at when it is back
		}
		if err := a.engine.Resync(ctx, append(a.xconnect.Kinds(), a.bridges.Kinds()...)...); err != nil {
			a.log.Debug("VPP was not looked at", "err", err)
		}
	}
}

// startVPP connects for as long as the agent runs.
func (a *Agent) startVPP(ctx context.Context) error {
	if a.vpp == nil {
		return nil
	}
	a.vpp.Start(ctx)
	a.done.Go(func() { a.pacer.Run(ctx) })
	if every := time.Duration(a.cfg.VPP.LookEvery) * time.Second; every > 0 {
		a.done.Go(func() { a.lookAgain(ctx, every) })
	}
	if err := a.vpp.Up(); err != nil && a.cfg.Dataplane == "vpp" {
		a.log.Warn("the agent goes on without VPP until it answers", "err", err)
	}
	return nil
}

func (a *Agent) stopVPP() {
	if a.vpp != nil {
		a.vpp.Stop()
	}
}

// vppVersion is empty while there is none.
func (a *Agent) vppVersion() string {
	if a.vpp == nil || a.vpp.Up() != nil {
		return ""
	}
	return a.vpp.Version()
}

// offered is what the node offers now; nobody may change it.
func (a *Agent) offered() *models.Agent { return a.offer.Load() }

// publishOffer looks at what the node offers, and tells the other nodes.
func (a *Agent) publishOffer() {
	o := &models.Agent{Node: a.cfg.Node.Name, Version: a.cfg.Version, Dataplane: a.dataplane(),
		Addresses: a.tunnels.Addresses(), Mtu: a.tunnels.Underlay(), Url: a.cfg.GRPC.Advertise, Instance: a.claimant()}
	for _, m := range a.mechanisms {
		o.Offers = append(o.Offers, m.Offers()...)
	}
	if old := a.offer.Swap(o); proto.Equal(old, o) {
		return
	}
	data, err := models.Marshal(o)
	if err != nil {
		a.log.Error("the node's offer cannot be published", "err", err)
		return
	}
	for { // the newest replaces one that was not taken yet
		select {
		case a.offers <- data:
			return
		default:
		}
		select {
		case <-a.offers:
		default:
		}
	}
}

// dataplane is the one that serves new connections.
func (a *Agent) dataplane() string {
	if a.vpp != nil && (a.cfg.Dataplane == "vpp" || a.vpp.Up() == nil) {
		return "vpp"
	}
	return "kernel"
}

// vppCounters reads one side's counters from VPP's stats segment: what VPP sends, the
// workload receives.
func (a *Agent) vppCounters(x *models.CrossConnect, side models.Side) (vppapi.Counters, error) {
	i, ok := a.vpp.Tagged(models.Tag(x.GetId(), side))
	if !ok {
		return vppapi.Counters{}, fmt.Errorf("VPP has no interface of connection %q", x.GetId())
	}
	return a.stats.Of(i.Index)
}
