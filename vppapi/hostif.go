package vppapi

import (
	"context"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/af_packet"
)

// HostIf is an interface of the kernel in VPP's own network namespace that VPP sends and
// receives on (af_packet).
type HostIf struct {
	Name  string  // the kernel's
	MAC   [6]byte // of VPP's end
	Frame int     // bytes of the longest frame
}

// Sizes of the rings that are shared with the kernel, in bytes. VPP's own are for frames of
// 64 KiB and take 70 MB of locked memory each. A ring must hold what comes while VPP's main
// thread does something else: 512 frames of the usual MTU.
const (
	ringSize      = 1 << 20
	minFrame      = 2048
	frameOverhead = 66 // TPACKET2_HDRLEN and alignment (linux/if_packet.h)
)

// CreateHostIf makes the interface host-NAME. api.IF_ALREADY_EXISTS says that it is
// there, api.INVALID_INTERFACE that the kernel has none of the name.
func (c *Client) CreateHostIf(ctx context.Context, h HostIf) (Index, error) {
	frame := uint32(minFrame)
	for int(frame) < h.Frame+frameOverhead {
		frame *= 2
	}
	reply := &af_packet.AfPacketCreateV3Reply{}
	err := c.call(ctx, one(&af_packet.AfPacketCreateV3{
		Mode: af_packet.AF_PACKET_API_MODE_ETHERNET, HwAddr: h.MAC, HostIfName: h.Name,
		RxFrameSize: frame, TxFrameSize: frame, RxFramesPerBlock: ringSize / frame, TxFramesPerBlock: ringSize / frame,
		Flags: af_packet.AF_PACKET_API_FLAG_VERSION_2, NumRxQueues: 1, NumTxQueues: 1,
	}, reply))
	return Index(reply.SwIfIndex), err
}

// DeleteHostIf deletes host-NAME. One that is not there is no error.
func (c *Client) DeleteHostIf(ctx context.Context, index Index, name string) error {
	return c.call(ctx, one(&af_packet.AfPacketDelete{HostIfName: name}, &af_packet.AfPacketDeleteReply{}, api.SYSCALL_ERROR_1).
		after(func() { c.inv.gone(index) }))
}

// HostIfs lists all, by the kernel's names.
func (c *Client) HostIfs(ctx context.Context) (map[string]Index, error) {
	all := map[string]Index{}
	err := c.call(ctx, dump(&af_packet.AfPacketDump{}, func(d *af_packet.AfPacketDetails) { all[text(d.HostIfName)] = Index(d.SwIfIndex) }))
	return all, err
}
