package agent

import (
	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/admin/adminpb"
	"go.patchbay.dev/plugins/metrics"
)

// collect has the metrics read the rooms at each scrape.
func (a *Agent) collect() {
	sources := metrics.Sources{
		Engine:        a.engine,
		CrossConnects: a.crossconnects.List,
		Bridges:       a.bridges.Statuses,
		Counters: func(x *models.CrossConnect) (client, endpoint *metrics.Counters) {
			return a.counters(x, models.ClientSide), a.counters(x, models.EndpointSide)
		},
		StoreUp:    a.store.Up,
		Revision:   a.store.Revision,
		Version:    a.cfg.Version,
		VPP:        a.vppVersion,
		Dataplanes: a.dataplanes,
	}
	if a.paths != nil {
		sources.Paths = a.paths.Count
	}
	for _, p := range a.cfg.SRIOV.Pools {
		sources.Pools, sources.Devices = append(sources.Pools, p.Name), a.sriov.Devices
	}
	a.metrics.Collect(sources)
}

// counters of one side as its workload sees them, nil where they cannot be read.
func (a *Agent) counters(x *models.CrossConnect, side models.Side) *metrics.Counters {
	if a.vpp != nil {
		if c, err := a.vppCounters(x, side); err == nil {
			return &metrics.Counters{
				ReceivePackets: c.TxPackets, ReceiveBytes: c.TxBytes,
				TransmitPackets: c.RxPackets, TransmitBytes: c.RxBytes, Drops: c.Drops,
			}
		}
	}
	c, err := a.kernel.Counters(x, side)
	if err != nil {
		return nil
	}
	return &metrics.Counters{
		ReceivePackets: c.RxPackets, ReceiveBytes: c.RxBytes,
		TransmitPackets: c.TxPackets, TransmitBytes: c.TxBytes, Drops: c.RxDropped + c.TxDropped,
	}
}

// dataplanes tells which there are, whether each is up, and how often it came back.
func (a *Agent) dataplanes() []metrics.Dataplane {
	all := []metrics.Dataplane{{Name: "kernel", Up: a.kernel.Missing() == ""}} // it does not restart without the agent
	if a.vpp != nil && (a.cfg.Dataplane == "vpp" || a.vpp.Version() != "") {
		all = append(all, metrics.Dataplane{Name: "vpp", Up: a.vpp.Up() == nil, Restarts: uint64(a.vpp.Restarts())})
	}
	return all
}

func (a *Agent) adminCounters(x *models.CrossConnect, side models.Side) *adminpb.Counters {
	c := a.counters(x, side)
	if c == nil {
		return nil
	}
	return &adminpb.Counters{
		ReceivePackets: c.ReceivePackets, ReceiveBytes: c.ReceiveBytes,
		TransmitPackets: c.TransmitPackets, TransmitBytes: c.TransmitBytes, Drops: c.Drops,
	}
}
