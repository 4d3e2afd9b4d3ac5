package vppapi

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/memclnt"
	"go.fd.io/govpp/binapi/memif"
)

// pass is longer than VPP takes to look through its memif interfaces once.
const pass = 10 * time.Millisecond

// ReserveMemifs has VPP grow its list of memif interfaces to hold n, and leaves none of
// those that it makes for it, on a socket at path that is nobody's.
//
// VPP 25.10 looks through that list whenever a memif interface is set up, and every 3 s,
// with pauses, and crashes when the list has moved in a pause because it grew
// (src/plugins/memif/memif.c, memif_process: pool_foreach around vlib_process_suspend). 1,000
// connections made in a row do that to it about every other time. A list that is large enough does not
// move. While it grows here, nothing is set up.
func (c *Client) ReserveMemifs(ctx context.Context, socket uint32, path string, n int) error {
	c.growth.Lock()
	defer c.growth.Unlock()
	time.Sleep(pass) // nothing tells when the last look has ended
	err := c.call(ctx, one(&memif.MemifSocketFilenameAddDelV2{IsAdd: true, SocketID: socket, SocketFilename: path}, &memif.MemifSocketFilenameAddDelV2Reply{}))
	var made []*memif.MemifCreateV2Reply
	c.expectFirst()
	for batch := 1; len(made) < n && err == nil; batch = 64 {
		calls := []*exchange{}
		for range min(n-len(made), batch) {
			reply := &memif.MemifCreateV2Reply{}
			calls = append(calls, one(&memif.MemifCreateV2{Role: memif.MEMIF_ROLE_API_MASTER, Mode: memif.MEMIF_MODE_API_IP, ID: uint32(len(made)), SocketID: socket}, reply))
			made = append(made, reply)
		}
		err = c.makeMemif(ctx, append(calls, one(&memclnt.ControlPing{}, &memclnt.ControlPingReply{}))...)
	}
	var indexes []Index
	for _, m := range made {
		if m.Retval == 0 && m.SwIfIndex != 0 {
			indexes = append(indexes, Index(m.SwIfIndex))
		}
	}
	return errors.Join(err, c.DropMemifs(ctx, socket, indexes))
}

// HoldSetups has nothing be set up until release is called. What is made meanwhile makes
// the list grow without anybody looking through it: VPP looks at the first interface of all,
// which is made alone, and again 3 s later.
func (c *Client) HoldSetups() (release func()) {
	c.growth.Lock()
	c.expectFirst()
	return sync.OnceFunc(c.growth.Unlock)
}

// first is the interface that makes VPP look, with a pause where it is slow: the list must
// not grow in that.
type first struct {
	sync.Mutex
	due bool // it may be the next that is made
}

// expectFirst has the next interface be made alone.
func (c *Client) expectFirst() {
	c.first.Lock()
	defer c.first.Unlock()
	c.first.due = true
}

// makeMemif makes interfaces by calls; while the first may be among them, nobody else does.
func (c *Client) makeMemif(ctx context.Context, calls ...*exchange) error {
	c.first.Lock()
	if !c.first.due {
		c.first.Unlock()
		return c.call(ctx, calls...)
	}
	defer c.first.Unlock()
	err := c.call(ctx, calls...)
	if err == nil {
		c.first.due = false
		time.Sleep(pass) // nothing tells when the look has ended
	}
	return err
}

// DropMemifs deletes all interfaces of a socket, and the socket. What is not there is no error.
func (c *Client) DropMemifs(ctx context.Context, socket uint32, indexes []Index) (err error) {
	for some := range slices.Chunk(indexes, 64) {
		var calls []*exchange
		for _, index := range some {
			calls = append(calls, one(&memif.MemifDelete{SwIfIndex: interface_types.InterfaceIndex(index)}, &memif.MemifDeleteReply{}, api.INVALID_SW_IF_INDEX))
		}
		err = errors.Join(err, c.call(ctx, calls...))
	}
	return errors.Join(err, c.DeleteMemifSocket(ctx, socket))
}

// settingUp is held by calls that set interfaces up.
func (c *Client) settingUp(ctx context.Context, calls ...*exchange) error {
	c.growth.RLock()
	defer c.growth.RUnlock()
	return c.call(ctx, calls...)
}
