package kernel

import (
	"errors"
	"net/netip"
	"testing"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/linux/nstest"
)

var (
	underlay1, underlay2 = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")

	frames = linux.VXLAN{Local: underlay1, Remote: underlay2, VNI: 7, Port: 4789}
	fixed  = linux.VXLAN{Local: underlay1, Remote: underlay2, VNI: 7, Port: 4789, MAC: linux.MAC{2, 1}, PeerMAC: linux.MAC{2, 2}}
	plain  = linux.IPIP{Local: underlay1, Remote: underlay2}
)

// placed renders one workload on a tunnel.
func placed(t *testing.T, side models.Side, d models.Device, edit func(x *models.CrossConnect)) (Device, IPConfig, error) {
	t.Helper()
	nstest.Need(t)
	ns, err := linux.New(options(t))
	check(t, err)
	defer func() { check(t, ns.Close()) }()
	x := cross("c1", end("blue", "nsm0", "10.60.0.1/24", "fd60::1/64"), end("red", "nsm1", "10.60.0.2/24", "10.70.0.2/32"))
	x.Mtu = 1400
	if edit != nil {
		edit(x)
	}
	values, err := New(ns, nil).Place(x, side, d)
	if err != nil {
		return Device{}, IPConfig{}, err
	}
	if len(values) != 2 || values[0].Key != "device/c1/"+string(side) || values[1].Key != "ipconfig/c1/"+string(side) {
		t.Fatalf("rendered %+v", values)
	}
	return values[0].Spec.(Device), values[1].Spec.(IPConfig), nil
}

func TestWorkloadsArePlacedOnTunnels(t *testing.T) {
	d, c, err := placed(t, models.ClientSide, fixed, nil)
	check(t, err)
	if want := (Device{Tunnel: fixed, NetNS: "/run/netns/blue", Name: "nsm0", MAC: linux.MAC{2, 1}, MTU: 1400}); d != want {
		t.Errorf("%+v, want %+v", d, want)
	}
	want := linux.Config{
		Addresses: []netip.Prefix{pfx("10.60.0.1/24"), pfx("fd60::1/64")}, Routes: []linux.Route{{Prefix: pfx("10.70.0.2/32")}},
		Neighbors: []linux.Neighbor{{Address: adr("10.60.0.2"), MAC: linux.MAC{2, 2}}, {Address: adr("10.70.0.2"), MAC: linux.MAC{2, 2}}},
	}
	if c.NetNS != "/run/netns/blue" || c.Name != "nsm0" || c.Maker != "device/c1/client" || !c.Config.Equal(want) {
		t.Errorf("%+v", c)
	}

	d, c, err = placed(t, models.EndpointSide, frames, func(x *models.CrossConnect) { x.Payload, x.Mtu = models.Ethernet, 0 })
	check(t, err)
	if tag := (linux.Tag{ID: "c1", Side: linux.Endpoint}); d.NetNS != "/run/netns/red" || d.MAC != tag.MAC() || d.MTU != 1450 || len(c.Neighbors) > 0 {
		t.Errorf("%+v, %+v", d, c)
	}

	d, c, err = placed(t, models.ClientSide, plain, func(x *models.CrossConnect) {
		x.Mtu, x.Client.Neighbors = 0, []*models.Neighbor{{Address: "10.60.0.7", Mac: "02:00:00:00:00:07"}}
	})
	check(t, err)
	if d.MAC != (linux.MAC{}) || d.MTU != 1480 || len(c.Neighbors) > 0 || len(c.Routes) != 1 {
		t.Errorf("%+v, %+v", d, c)
	}
}

func TestWhatATunnelCannotBeIsSaid(t *testing.T) {
	for field, c := range map[string]struct {
		device models.Device
		edit   func(x *models.CrossConnect)
	}{
		"endpoint.mechanism.type":           {strange{}, nil},
		"payload":                           {plain, func(x *models.CrossConnect) { x.Payload = models.Ethernet }},
		"client.mac":                        {fixed, func(x *models.CrossConnect) { x.Client.Mac = "02:00:00:00:00:07" }},
		"client.mechanism.parameters.netns": {plain, func(x *models.CrossConnect) { delete(x.Client.Mechanism.Parameters, NetNS) }},
	} {
		_, _, err := placed(t, models.ClientSide, c.device, c.edit)
		var got *models.FieldError
		if !errors.As(err, &got) || got.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// strange is a device that no kernel has.
type strange struct{}

func (strange) DeviceKind() string { return "strange" }

func TestTheKernelOffersToPlaceWorkloads(t *testing.T) {
	n, _ := start(t)
	o := n.m.Offers()
	if len(o) != 1 || !o[0].Places || !o[0].Direct || o[0].Joins || o[0].Dataplane != "kernel" || o[0].Version != 1 {
		t.Errorf("offers %v", o)
	}
	v, _ := startOnVPP(t, fakeVPP(t), device)
	if o := v.m.Offers(); len(o) != 2 || o[0].Dataplane != "vpp" || !o[0].Joins || o[0].Places || o[1].Dataplane != "kernel" || !o[1].Places {
		t.Errorf("with VPP: %v", o)
	}
}
