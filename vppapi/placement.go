package vppapi

import (
	"context"

	"go.fd.io/govpp/api"
	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/vlib"
)

// Queue is one of the queues by which packets come in from an interface. Those of a memif
// are there only while its peer is.
type Queue struct {
	At     Index
	Number uint32 // on its interface, from 0
	Worker int    // that looks for packets there, from 1; 0: VPP's main thread
	Mode   RxMode
}

// Queues lists the queues of one interface or of All.
func (c *Client) Queues(ctx context.Context, index Index) (all []Queue, err error) {
	err = c.call(ctx, dump(&interfaces.SwInterfaceRxPlacementDump{SwIfIndex: interface_types.InterfaceIndex(index)},
		func(d *interfaces.SwInterfaceRxPlacementDetails) {
			all = append(all, Queue{At: Index(d.SwIfIndex), Number: d.QueueID, Worker: int(d.WorkerID), Mode: RxMode(d.Mode)})
		}))
	return all, err
}

// PlaceQueues has each queue be looked after by its Worker. A queue that has gone meanwhile
// is no error; a worker that VPP does not have is api.UNIMPLEMENTED, as is a queue.
func (c *Client) PlaceQueues(ctx context.Context, queues ...Queue) error {
	var calls []*exchange
	for _, q := range queues {
		calls = append(calls, one(&interfaces.SwInterfaceSetRxPlacement{
			SwIfIndex: interface_types.InterfaceIndex(q.At), QueueID: q.Number, WorkerID: uint32(max(q.Worker-1, 0)), IsMain: q.Worker == 0,
		}, &interfaces.SwInterfaceSetRxPlacementReply{}, api.INVALID_SW_IF_INDEX))
	}
	if calls == nil {
		return nil
	}
	return c.call(ctx, calls...)
}

// Workers is how many threads VPP has for packets besides its main thread, which does all
// if there are none.
func (c *Client) Workers() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.workers
}

// countWorkers counts those threads that are for packets.
func countWorkers(threads []vlib.ThreadData) (n int) {
	for _, t := range threads {
		if text(t.Type) == "workers" {
			n++
		}
	}
	return n
}
