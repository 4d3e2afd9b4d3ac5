package vpp

import (
	"context"
	"fmt"
	"strconv"

	"go.patchbay.dev/plugins/bridge"
)

// Look asks VPP for a bridge's ports and MAC table, and reads the counters from its stats
// segment; those that cannot be read are 0.
func (p *Dataplane) Look(ctx context.Context, name string) (s bridge.State, err error) {
	number, ok := p.number(name)
	if !ok {
		return s, fmt.Errorf("%w: %q", bridge.ErrNoBridge, name)
	}
	found, err := p.vpp.Bridges(ctx, number)
	if err == nil && len(found) == 0 {
		err = bridge.ErrNoBridge
	}
	if err != nil {
		return s, fmt.Errorf("look at bridge %q: %w", name, err)
	}
	s.Name = strconv.FormatUint(uint64(number), 10)
	for _, at := range found[0].Ports {
		i, ok := p.vpp.At(at.At)
		place, ours := placeOf(i.Tag)
		if !ok || !ours {
			continue
		}
		port := bridge.Port{Place: place, Interface: i.Name, Up: i.AdminUp && i.LinkUp}
		if c, err := p.stats.Of(at.At); err == nil {
			port.RxPackets, port.RxBytes, port.TxPackets, port.TxBytes, port.Drops = c.RxPackets, c.RxBytes, c.TxPackets, c.TxBytes, c.Drops
		}
		s.Ports = append(s.Ports, port)
	}
	table, err := p.vpp.MACs(ctx, number)
	if err != nil {
		return s, fmt.Errorf("look at bridge %q: %w", name, err)
	}
	for _, e := range table {
		i, _ := p.vpp.At(e.At)
		place, _ := placeOf(i.Tag)
		s.MACs = append(s.MACs, bridge.MAC{Place: place, MAC: e.MAC, Static: e.Static})
	}
	return s, nil
}
