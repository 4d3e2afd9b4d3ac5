package agent

import (
	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/admin/adminpb"
	"go.patchbay.dev/plugins/metrics"
)

// collect has the metrics read the rooms at each scrape.
func (a *Agent) collect() {
	a.metrics.Collect(metrics.Sources{
		Engine:        a.engine,
		CrossConnects: a.crossconnects.List,
		Counters: func(x *models.CrossConnect) (client, endpoint *metrics.Counters) {
			return a.counters(x, models.ClientSide), a.counters(x, models.EndpointSide)
		},
		StoreUp:   a.store.Up,
		Revision:  a.store.Revision,
		Dataplane: a.offer.Dataplane,
		Up:        func() bool { return a.kernel.Offer().Missing == "" },
		Restarts:  func() uint64 { return 0 }, // the kernel does not restart without the agent
	})
}

// counters of one side as its workload sees them, nil where they cannot be read.
func (a *Agent) counters(x *models.CrossConnect, side models.Side) *metrics.Counters {
	c, err := a.kernel.Counters(x, side)
	if err != nil {
		return nil
	}
	return &metrics.Counters{
		ReceivePackets: c.RxPackets, ReceiveBytes: c.RxBytes,
		TransmitPackets: c.TxPackets, TransmitBytes: c.TxBytes, Drops: c.RxDropped + c.TxDropped,
	}
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
