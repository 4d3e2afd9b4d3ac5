package vppapi

import (
	"context"
	"net/netip"
	"time"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/bfd"
	"go.fd.io/govpp/binapi/interface_types"
)

// BFD is a session by which VPP finds out whether a path of several hops carries packets both
// ways (RFC 5880, RFC 5883). VPP tells sessions apart by their addresses. They have no tag.
type BFD struct {
	Local, Remote netip.Addr
	Interval      time.Duration // between packets in each direction, in whole microseconds
	Multiplier    uint8         // so many intervals without a packet end the session
}

// BFDSession is a session as VPP lists it.
type BFDSession struct {
	BFD
	Up bool
}

// multihop is the interface of sessions of several hops (VPP: src/vnet/bfd/bfd_api.c).
const multihop = interface_types.InterfaceIndex(All)

// SetBFD makes a session, which is down at first, or gives it other times. api.INVALID_ARGUMENT
// says that the addresses are of two families, or a time is 0.
func (c *Client) SetBFD(ctx context.Context, b BFD) error {
	interval := uint32(b.Interval / time.Microsecond)
	return c.call(ctx, one(&bfd.BfdUDPEnableMultihop{}, &bfd.BfdUDPEnableMultihopReply{}),
		one(&bfd.BfdUDPUpd{
			SwIfIndex: multihop, LocalAddr: address(b.Local), PeerAddr: address(b.Remote),
			DesiredMinTx: interval, RequiredMinRx: interval, DetectMult: b.Multiplier,
		}, &bfd.BfdUDPUpdReply{}))
}

// DeleteBFD deletes a session, without a word to the other side. One that is not there is no
// error.
func (c *Client) DeleteBFD(ctx context.Context, local, remote netip.Addr) error {
	return c.call(ctx, one(&bfd.BfdUDPEnableMultihop{}, &bfd.BfdUDPEnableMultihopReply{}),
		one(&bfd.BfdUDPDel{SwIfIndex: multihop, LocalAddr: address(local), PeerAddr: address(remote)}, &bfd.BfdUDPDelReply{}, api.BFD_ENOENT))
}

// BFDs lists the sessions of several hops. Watchers are told when one has changed.
func (c *Client) BFDs(ctx context.Context) (all []BFDSession, err error) {
	err = c.call(ctx, dump(&bfd.BfdUDPSessionDump{}, func(d *bfd.BfdUDPSessionDetails) {
		if d.SwIfIndex != multihop {
			return
		}
		all = append(all, BFDSession{BFD{
			Local: fromAddress(d.LocalAddr), Remote: fromAddress(d.PeerAddr),
			Interval: time.Duration(d.DesiredMinTx) * time.Microsecond, Multiplier: d.DetectMult,
		}, d.State == bfd.BFD_STATE_API_UP})
	}))
	return all, err
}
