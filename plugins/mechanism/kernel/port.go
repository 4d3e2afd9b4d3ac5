package kernel

import (
	"net/netip"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/reconcile"
)

// Attach renders one workload that is attached to a bridge of the kernel's or to VPP: by a
// tap where VPP can make one, else by a veth pair whose outer end is in the agent's own
// namespace, which must be VPP's, and VPP's interface on it.
func (m *Mechanism) Attach(x *models.CrossConnect, side models.Side) (port models.Port, values []reconcile.Value, err error) {
	own, other := x.GetClient(), x.GetEndpoint()
	if side == models.EndpointSide {
		own, other = other, own
	}
	tag := linux.Tag{ID: x.GetId(), Side: linux.Side(side)}
	end, err := renderEnd(tag, own)
	if err != nil {
		return port, nil, under(string(side), err)
	}
	if m.bridged(x) {
		return m.attachBridge(x, tag, end, own, other)
	}
	if m.wantsTap() {
		return m.attachTap(x, tag, end, own, other)
	}
	host := HostIf{Tag: tag.String(), Veth: portKey(tag), Name: m.ns.PortName(tag), MAC: [6]byte(tag.Port().MAC()), MTU: mtuOf(x), IP: x.GetPayload() == models.IP}
	config, err := portConfig(own, other, host.IP, linux.MAC(host.MAC))
	if err != nil {
		return port, nil, under(string(side), err)
	}
	port = models.Port{Key: hostKey(tag), Tag: host.Tag, Ethernet: true, MAC: [6]byte(end.MAC)}
	for _, p := range config.Addresses {
		port.Addresses = append(port.Addresses, p.Addr())
	}
	return port, []reconcile.Value{
		{Key: portKey(tag), Spec: Veth{MTU: host.MTU, Ends: [2]End{end, {NetNS: linux.OwnRef, Name: host.Name, MAC: outerMAC(tag)}}}},
		{Key: ipKey(tag), Spec: IPConfig{NetNS: end.NetNS, Name: end.Name, Maker: portKey(tag), Config: config}},
		{Key: hostKey(tag), Spec: host},
	}, nil
}

// bridged tells whether the workload becomes a member of a bridge of the kernel's.
func (m *Mechanism) bridged(x *models.CrossConnect) bool {
	return models.BridgeOf(x) != "" && (m.vpp == nil || m.here != nil && m.here())
}

// attachBridge renders one workload that is a member of a bridge of the kernel's: by a veth
// pair, whose outer end is in the agent's own namespace.
func (m *Mechanism) attachBridge(x *models.CrossConnect, tag linux.Tag, end End, own, other *models.Attachment) (port models.Port, values []reconcile.Value, err error) {
	config, err := portConfig(own, other, false, linux.MAC{})
	if err != nil {
		return port, nil, under(string(tag.Side), err)
	}
	outer := End{NetNS: linux.OwnRef, Name: m.ns.PortName(tag), MAC: outerMAC(tag)}
	port = models.Port{Key: portKey(tag), Tag: tag.String(), Ethernet: true, MAC: [6]byte(end.MAC)}
	for _, p := range config.Addresses {
		port.Addresses = append(port.Addresses, p.Addr())
	}
	return port, []reconcile.Value{
		{Key: portKey(tag), Spec: Veth{MTU: mtuOf(x), Ends: [2]End{end, outer}, Bridged: true}},
		{Key: ipKey(tag), Spec: IPConfig{NetNS: end.NetNS, Name: end.Name, Maker: portKey(tag), Config: config}},
	}, nil
}

// portConfig renders what is to be set on the workload's end. If VPP is the next hop to
// everything, by this address, nobody there answers ARP: the workload is told.
func portConfig(own, other *models.Attachment, isHop bool, hop linux.MAC) (linux.Config, error) {
	var e ends
	var err error
	if e.own, err = prefixes(own.GetAddresses()); err != nil {
		return linux.Config{}, err
	}
	theirs, err := prefixes(other.GetAddresses())
	if err != nil {
		return linux.Config{}, err
	}
	for _, p := range theirs {
		e.other = append(e.other, p.Addr())
	}
	c, err := e.config(own)
	if err != nil || !isHop {
		return c, err
	}
	known := map[netip.Addr]bool{}
	for _, n := range c.Neighbors {
		known[n.Address] = true
	}
	hops := e.other
	for _, r := range c.Routes {
		hops = append(hops, r.NextHop)
	}
	for _, a := range hops {
		if a.IsValid() && !known[a] {
			known[a] = true
			c.Neighbors = append(c.Neighbors, linux.Neighbor{Address: a, MAC: hop})
		}
	}
	return c, nil
}

func mtuOf(x *models.CrossConnect) int {
	if x.GetMtu() != 0 {
		return int(x.GetMtu())
	}
	return DefaultMTU
}

// outerMAC is the kernel's address of the outer end. It is neither VPP's nor the
// workload's, so that the node's own stack takes no packet that passes there for its own.
func outerMAC(tag linux.Tag) linux.MAC {
	return linux.Tag{ID: tag.ID, Side: tag.Side + "-outer"}.MAC()
}
