package vppapi

import (
	"context"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/vhost_user"
)

// MaxVhostPath is the longest file name of a vhost-user socket in bytes (struct sockaddr_un).
const MaxVhostPath = 107

// VhostUser is a vhost-user interface.
type VhostUser struct {
	Socket string  // file name; VPP as the server unlinks whatever is there
	Server bool    // VPP listens, else it connects again and again
	MAC    [6]byte // of VPP's end
}

// CreateVhostUser makes an interface that has its tag from the first moment.
// api.IF_ALREADY_EXISTS says that there is one on that socket.
func (c *Client) CreateVhostUser(ctx context.Context, v VhostUser, tag string) (Index, error) {
	if err := checkTag(tag); err != nil {
		return 0, err
	}
	reply := &vhost_user.CreateVhostUserIfV2Reply{}
	err := c.call(ctx, one(&vhost_user.CreateVhostUserIfV2{
		IsServer: v.Server, SockFilename: v.Socket, UseCustomMac: true, MacAddress: v.MAC, Tag: keptTag(tag),
	}, reply))
	return Index(reply.SwIfIndex), err
}

// DeleteVhostUser deletes an interface. One that is not there is no error.
func (c *Client) DeleteVhostUser(ctx context.Context, index Index) error {
	return c.call(ctx, one(&vhost_user.DeleteVhostUserIf{SwIfIndex: interface_types.InterfaceIndex(index)}, &vhost_user.DeleteVhostUserIfReply{}, api.INVALID_SW_IF_INDEX, api.INVALID_INTERFACE).
		after(func() { c.inv.gone(index) }))
}

// VhostUserFound is a vhost-user interface as VPP lists it; its MAC is the interface's.
type VhostUserFound struct {
	VhostUser
	Index Index
}

// VhostUsers lists all vhost-user interfaces.
func (c *Client) VhostUsers(ctx context.Context) (all []VhostUserFound, err error) {
	err = c.call(ctx, dump(&vhost_user.SwInterfaceVhostUserDump{SwIfIndex: interface_types.InterfaceIndex(All)}, func(d *vhost_user.SwInterfaceVhostUserDetails) {
		all = append(all, VhostUserFound{Index: Index(d.SwIfIndex), VhostUser: VhostUser{Socket: text(d.SockFilename), Server: d.IsServer}})
	}))
	return all, err
}
