package ipip

import (
	"context"
	"fmt"
	"net/netip"

	"go.patchbay.dev/plugins/tunnel"
	"go.patchbay.dev/vppapi"
)

var maker = tunnel.Maker[vppapi.IPIP]{
	Plugin: vppapi.IPIPPlugin,
	Create: (*vppapi.Client).CreateIPIP,
	Delete: func(c *vppapi.Client, ctx context.Context, index vppapi.Index, _ vppapi.IPIP) error {
		return c.DeleteIPIP(ctx, index)
	},
	List:    (*vppapi.Client).IPIPs,
	Collide: func(a, b vppapi.IPIP) bool { return a == b },
	Show:    func(t vppapi.IPIP) string { return fmt.Sprintf("the tunnel from %s to %s", t.Local, t.Remote) },
	Local:   func(t vppapi.IPIP) netip.Addr { return t.Local },
}

func port(_ string, _ tunnel.Params, at tunnel.Place) (tunnel.Port[vppapi.IPIP], error) {
	return tunnel.Port[vppapi.IPIP]{Tunnel: vppapi.IPIP{Local: at.Local, Remote: at.Remote}}, nil
}
