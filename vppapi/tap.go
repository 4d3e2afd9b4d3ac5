package vppapi

import (
	"context"
	"errors"
	"fmt"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/tapv2"
)

// Limits of a tap's texts in bytes: VPP reads them as strings with a final zero
// (tapv2.api, string[64]), the kernel's own limit for names is IFNAMSIZ.
const (
	MaxTapName = 15
	MaxTapPath = 63
)

// Tap is an interface of the Linux kernel whose other end is VPP (virtio over
// /dev/vhost-net). It is gone from the kernel when VPP is.
type Tap struct {
	Tag     string
	TUN     bool    // it carries IP packets, not Ethernet frames
	MAC     [6]byte // of VPP's end; none with TUN
	Name    string  // the kernel's
	HostMAC [6]byte // of the kernel's end; none with TUN
	// NetNS is the path by which VPP opens the namespace of the kernel's end; empty: its own.
	NetNS string
	MTU   int // bytes, of the kernel's end
}

// CreateTap makes a tap with its tag, so that there is none of ours without. The kernel's
// end is then up, and marked by nobody. That nothing in the namespace has its name is the
// caller's to see: VPP would join a tap that allows several queues, whoever made it. An
// [Error] that is api.SYSCALL_ERROR_1 says that VPP has no /dev/vhost-net,
// api.SYSCALL_ERROR_2 that it cannot open the namespace or /dev/net/tun,
// api.SYSCALL_ERROR_3 that the name is taken by an interface of another kind.
func (c *Client) CreateTap(ctx context.Context, t Tap) (Index, error) {
	if checkTag(t.Tag) != nil || len(t.Name) > MaxTapName || len(t.NetNS) > MaxTapPath {
		return 0, fmt.Errorf("tap %q in %q with the tag %q: a text is too long", t.Name, t.NetNS, t.Tag)
	}
	request := &tapv2.TapCreateV3{
		ID: ^uint32(0), UseRandomMac: t.MAC == [6]byte{}, MacAddress: t.MAC, NumRxQueues: 1, NumTxQueues: 1, RxRingSz: tapRing, TxRingSz: tapRing,
		HostMtuSet: t.MTU != 0, HostMtuSize: uint32(t.MTU), HostMacAddrSet: t.HostMAC != [6]byte{}, HostMacAddr: t.HostMAC,
		HostIfNameSet: true, HostIfName: t.Name, HostNamespaceSet: t.NetNS != "", HostNamespace: t.NetNS, Tag: keptTag(t.Tag),
	}
	if t.TUN {
		request.TapFlags = tapv2.TAP_API_FLAG_TUN
	}
	reply := &tapv2.TapCreateV3Reply{}
	err := c.call(ctx, one(request, reply))
	for code, remedy := range tapRemedies {
		if errors.Is(err, code) {
			err = fmt.Errorf("%w: %s", err, remedy)
		}
	}
	return Index(reply.SwIfIndex), err
}

// tapRemedies say what VPP's codes mean here.
var tapRemedies = map[Error]string{
	api.SYSCALL_ERROR_1: "VPP cannot open /dev/vhost-net; give it the device, or take it from the agent",
	api.SYSCALL_ERROR_2: "VPP cannot open the network namespace or /dev/net/tun; run it as root where it sees the agent's processes",
	api.SYSCALL_ERROR_3: "the kernel refuses VPP the tap; VPP's log says what",
}

// tapRing is how many packets wait in each direction, VPP's own choice: as many of its
// buffers are taken by each tap.
const tapRing = 256

// DeleteTap deletes a tap, and the kernel's end with it. One that is not there is no error.
// VPP's main thread does nothing else until the kernel's end is gone from every table of
// the kernel (15–30 ms); whoever deletes that first spares it the wait.
func (c *Client) DeleteTap(ctx context.Context, index Index) error {
	return c.call(ctx, one(&tapv2.TapDeleteV2{SwIfIndex: interface_types.InterfaceIndex(index)}, &tapv2.TapDeleteV2Reply{},
		api.INVALID_SW_IF_INDEX).after(func() { c.inv.gone(index) }))
}

// TapFound is a tap as VPP lists it: how it was made, not what the kernel's end has become.
type TapFound struct {
	Tap
	Index Index
}

// Taps lists all taps. Their tags and VPP's own addresses are those of the interfaces.
func (c *Client) Taps(ctx context.Context) (all []TapFound, err error) {
	request := &tapv2.SwInterfaceTapV2Dump{SwIfIndex: interface_types.InterfaceIndex(All)}
	err = c.call(ctx, dump(request, func(d *tapv2.SwInterfaceTapV2Details) {
		all = append(all, TapFound{
			Tap: Tap{
				TUN: d.TapFlags&tapv2.TAP_API_FLAG_TUN != 0, Name: text(d.HostIfName), HostMAC: d.HostMacAddr,
				NetNS: text(d.HostNamespace), MTU: int(d.HostMtuSize),
			},
			Index: Index(d.SwIfIndex),
		})
	}))
	return all, err
}
