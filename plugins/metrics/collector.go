package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/crossconnect"
	"go.patchbay.dev/plugins/reconcile"
	"go.patchbay.dev/plugins/sriov"
)

// Engine is what this room reads of plugins/reconcile.
type Engine interface {
	Stats(yield func(kind string, s reconcile.State, n int))
	Retries(yield func(kind string, n uint64))
}

// Counters are an interface's as its workload sees them.
type Counters struct {
	ReceivePackets, ReceiveBytes, TransmitPackets, TransmitBytes, Drops uint64
}

// Sources are read at each scrape.
type Sources struct {
	Engine        Engine
	CrossConnects func() []crossconnect.Event
	Bridges       func() []*models.BridgeStatus // that the node has members of
	// Counters of both sides, nil where unknown. It may read the dataplane.
	Counters func(x *models.CrossConnect) (client, endpoint *Counters)
	StoreUp  func() error
	Revision func() int64
	Version  string        // the agent's
	VPP      func() string // VPP's version, empty while there is none
	// Dataplanes that the node has.
	Dataplanes func() []Dataplane
	Paths      func() map[string]int // to other nodes, by state; nil: none is watched
	// Pools of virtual functions that are configured, and what is in them.
	Pools   []string
	Devices func() []sriov.Device
}

// Dataplane is what moves packets on the node.
type Dataplane struct {
	Name     string // kernel or vpp
	Up       bool
	Restarts uint64 // how often it came back with nothing in it
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("patchbay_"+name, help, labels, nil)
}

var (
	build       = desc("build_info", "The version that runs, and VPP's; always 1.", "version", "vpp")
	connections = desc("connections", "Cross-connects by state and form.", "state", "payload", "client", "endpoint")
	values      = desc("values", "Values of the engine by kind and state.", "kind", "state")
	retries     = desc("retries_total", "Operations that were tried again.", "kind")
	storeUp     = desc("store_up", "1 while etcd answers.")
	revision    = desc("store_revision", "The last revision of etcd that was seen.")
	up          = desc("dataplane_up", "1 while the dataplane answers.", "dataplane")
	paths       = desc("tunnel_paths", "Paths of tunnels to other nodes that are watched, by state: new, up or down.", "state")
	restarts    = desc("dataplane_restarts_total", "How often the dataplane was found restarted.")

	bridgeUp         = desc("bridge_up", "1 while the bridge is as wanted on this node.", "bridge")
	bridgeMembers    = desc("bridge_members", "Members of the bridge on this node.", "bridge")
	bridgePeers      = desc("bridge_peers", "Other nodes that tunnels of the bridge lead to.", "bridge")
	devices          = desc("devices", "Virtual functions of a pool.", "pool")
	devicesAllocated = desc("devices_allocated", "Virtual functions of a pool that a connection has.", "pool")
	devicesUnhealthy = desc("devices_unhealthy", "Virtual functions of a pool that cannot be given away.", "pool")

	ofConnection    = []string{"connection", "side", "service"}
	receivePackets  = desc("connection_receive_packets_total", "Packets that the workload received.", ofConnection...)
	receiveBytes    = desc("connection_receive_bytes_total", "Bytes that the workload received.", ofConnection...)
	transmitPackets = desc("connection_transmit_packets_total", "Packets that the workload sent.", ofConnection...)
	transmitBytes   = desc("connection_transmit_bytes_total", "Bytes that the workload sent.", ofConnection...)
	drops           = desc("connection_drops_total", "Packets dropped at the workload's interface.", ofConnection...)
)

// Collect adds the sources to the scrape. Call it once.
func (m *Metrics) Collect(s Sources) { m.registry.MustRegister(&collector{s}) }

type collector struct{ Sources }

// Describe is empty: what there is depends on the connections.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect reads the sources.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	c.Engine.Stats(func(kind string, s reconcile.State, n int) {
		gauge(values, float64(n), kind, s.String())
	})
	c.Engine.Retries(func(kind string, n uint64) { counter(retries, n, kind) })
	gauge(build, 1, c.Version, c.VPP())
	gauge(storeUp, boolean(c.StoreUp() == nil))
	gauge(revision, float64(c.Revision()))
	var times uint64
	for _, d := range c.Dataplanes() {
		gauge(up, boolean(d.Up), d.Name)
		times += d.Restarts
	}
	counter(restarts, times)
	if c.Paths != nil {
		for state, n := range c.Paths() {
			gauge(paths, float64(n), state)
		}
	}
	c.pools(gauge)

	for _, b := range c.Bridges() {
		gauge(bridgeUp, boolean(b.GetState() == models.State_UP), b.GetName())
		gauge(bridgeMembers, float64(b.GetMembers()), b.GetName())
		gauge(bridgePeers, float64(b.GetPeers()), b.GetName())
	}
	byForm := map[[4]string]int{}
	for _, e := range c.CrossConnects() {
		x := e.Desired
		byForm[[4]string{e.Status.GetState().String(), x.GetPayload(), x.GetClient().GetMechanism().GetType(), x.GetEndpoint().GetMechanism().GetType()}]++
		if x == nil {
			continue
		}
		client, endpoint := c.Counters(x)
		for side, n := range map[models.Side]*Counters{models.ClientSide: client, models.EndpointSide: endpoint} {
			if n == nil {
				continue
			}
			labels := []string{x.Id, string(side), x.NetworkService}
			counter(receivePackets, n.ReceivePackets, labels...)
			counter(receiveBytes, n.ReceiveBytes, labels...)
			counter(transmitPackets, n.TransmitPackets, labels...)
			counter(transmitBytes, n.TransmitBytes, labels...)
			counter(drops, n.Drops, labels...)
		}
	}
	for form, n := range byForm {
		gauge(connections, float64(n), form[:]...)
	}
}

// pools counts what is in each pool, also in one that has nothing.
func (c *collector) pools(gauge func(d *prometheus.Desc, v float64, labels ...string)) {
	if len(c.Pools) == 0 {
		return
	}
	total, allocated, unhealthy := map[string]int{}, map[string]int{}, map[string]int{}
	for _, d := range c.Devices() {
		total[d.Pool]++
		if d.Owner != "" {
			allocated[d.Pool]++
		}
		if !d.Healthy {
			unhealthy[d.Pool]++
		}
	}
	for _, pool := range c.Pools {
		gauge(devices, float64(total[pool]), pool)
		gauge(devicesAllocated, float64(allocated[pool]), pool)
		gauge(devicesUnhealthy, float64(unhealthy[pool]), pool)
	}
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
