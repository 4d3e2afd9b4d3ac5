package kernel

import (
	"fmt"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/reconcile"
)

// Place renders a workload whose interface is itself the end of a tunnel of the kernel's
// that another mechanism describes.
func (m *Mechanism) Place(x *models.CrossConnect, side models.Side, device models.Device) ([]reconcile.Value, error) {
	own, other, far := x.GetClient(), x.GetEndpoint(), models.EndpointSide
	if side == models.EndpointSide {
		own, other, far = other, own, models.ClientSide
	}
	tunnel, ok := device.(linux.Device)
	if !ok {
		return nil, field(string(far)+".mechanism.type", "a device of kind %s cannot be made here; choose another mechanism", device.DeviceKind())
	}
	tag := linux.Tag{ID: x.GetId(), Side: linux.Side(side)}
	end, err := renderEnd(tag, own)
	if err == nil {
		err = end.through(tunnel, own)
	}
	if err != nil {
		return nil, under(string(side), err)
	}
	isIP := x.GetPayload() == models.IP
	if !isIP && !tunnel.Frames() {
		return nil, field("payload", "is Ethernet, and a tunnel of kind %s carries IP; ask for IP, or for another mechanism", tunnel.DeviceKind())
	}
	_, peer := tunnel.MACs()
	config, err := portConfig(own, other, isIP && peer != linux.MAC{}, peer)
	if err != nil {
		return nil, under(string(side), err)
	}
	if !tunnel.Frames() { // everything goes to the other end, and nobody asks by ARP
		config.Neighbors = nil
	}
	return []reconcile.Value{
		{Key: deviceKey(tag), Spec: Device{Tunnel: tunnel, NetNS: end.NetNS, Name: end.Name, MAC: end.MAC, MTU: m.tunnelMTU(x, tunnel)}},
		{Key: ipKey(tag), Spec: IPConfig{NetNS: end.NetNS, Name: end.Name, Maker: deviceKey(tag), Config: config}},
	}, nil
}

// through fits an end to a tunnel, which may say what its address is, or have none.
func (e *End) through(tunnel linux.Device, own *models.Attachment) error {
	fixed, _ := tunnel.MACs()
	switch {
	case tunnel.Frames() && fixed == linux.MAC{}:
		return nil
	case own.GetMac() != "" && e.MAC != fixed:
		return field("mac", "%s cannot be had: the other end takes IP through a tunnel of kind %s only with what the tunnel derives; leave it empty", own.GetMac(), tunnel.DeviceKind())
	}
	e.MAC = fixed
	return nil
}

// tunnelMTU is the record's or, where that has none, what the underlay leaves of it.
func (m *Mechanism) tunnelMTU(x *models.CrossConnect, tunnel linux.Device) int {
	if x.GetMtu() != 0 {
		return int(x.GetMtu())
	}
	underlay := DefaultMTU
	local, _ := tunnel.Underlay()
	if mtu, ok := m.ns.Address(local); ok {
		underlay = mtu
	}
	return min(DefaultMTU, underlay-tunnel.Overhead())
}

// devicesIn describes the tunnels that were seen, and takes them for all there are: one for
// each attachment, and under keys that nobody wants what else is there.
func (m *Mechanism) devicesIn(l *look, wanted map[string]Device) (found []reconcile.Found[Device]) {
	byKey := map[string]linux.Link{}
	l.links(func(link linux.Link) {
		if link.Device == nil {
			return
		}
		key := strayKey(link) // without a tag, the agent died before it could set one
		if tag, ok := linux.ParseTag(link.Alias); ok {
			key = deviceKey(tag)
		}
		if other, twice := byKey[key]; twice && l.ref(wanted[key].NetNS, link) == wanted[key].NetNS {
			byKey[strayKey(other)] = other
		} else if twice {
			key = strayKey(link)
		}
		byKey[key] = link
	})
	var known []*pair
	for key, link := range byKey {
		spec := Device{
			Tunnel: link.Device, NetNS: l.ref(wanted[key].NetNS, link), Name: link.Name, MAC: link.MAC, MTU: link.MTU,
			broken: !link.Up || link.Alias == "",
		}
		known = append(known, &pair{key: key, spec: spec.end(), tunnel: spec.Tunnel, links: [2]linux.Link{link}})
		found = append(found, reconcile.Found[Device]{Key: key, Spec: spec})
	}
	m.replace(KindDevice, known)
	return found
}

func strayKey(l linux.Link) string { return fmt.Sprintf("%s/:%d:%d", KindDevice, l.NSID, l.Index) }
