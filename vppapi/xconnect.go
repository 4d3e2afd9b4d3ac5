package vppapi

import (
	"context"
	"slices"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/l2"
)

// ConnectL2 sends every frame that comes in at one interface out at the other, both ways,
// and sets both up: before that they could carry nothing.
func (c *Client) ConnectL2(ctx context.Context, a, b Index) error {
	err := c.settingUp(ctx, slices.Concat(c.left(a, b), []*exchange{connectL2(a, b), connectL2(b, a)}, c.raise(a, b))...)
	if err == nil {
		c.joined(a, b)
	}
	return err
}

func connectL2(from, to Index) *exchange {
	return one(&l2.SwInterfaceSetL2Xconnect{RxSwIfIndex: interface_types.InterfaceIndex(from), TxSwIfIndex: interface_types.InterfaceIndex(to), Enable: true},
		&l2.SwInterfaceSetL2XconnectReply{})
}

// DisconnectL2 puts interfaces back to where nothing is forwarded. One that is not there
// any more is no error.
func (c *Client) DisconnectL2(ctx context.Context, interfaces ...Index) error {
	var calls []*exchange
	for _, i := range interfaces {
		calls = append(calls, one(&l2.SwInterfaceSetL2Xconnect{RxSwIfIndex: interface_types.InterfaceIndex(i)}, &l2.SwInterfaceSetL2XconnectReply{},
			api.INVALID_SW_IF_INDEX, api.INVALID_SW_IF_INDEX_2))
	}
	return c.call(ctx, calls...)
}

// L2Connections lists where the frames of each cross-connected interface go.
func (c *Client) L2Connections(ctx context.Context) (map[Index]Index, error) {
	all := map[Index]Index{}
	err := c.call(ctx, dump(&l2.L2XconnectDump{}, func(d *l2.L2XconnectDetails) { all[Index(d.RxSwIfIndex)] = Index(d.TxSwIfIndex) }))
	return all, err
}
