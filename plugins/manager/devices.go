package manager

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.patchbay.dev/models"
)

// Devices are the devices of network cards that workloads of this node can have.
type Devices interface {
	// Asks tells whether an end with such a mechanism has a device, or is to get one, for a connection to
	// a network service.
	Asks(m *models.Mechanism, service string) bool
	// Settle gives one end of a record that asks for a device one, and completes its mechanism by that; it is held for the
	// connection. pid is the workload's process, 0 if there is none. The reason is a line for the decision; empty: none was asked for.
	Settle(ctx context.Context, x *models.CrossConnect, side models.Side, pid int) (reason string, err error)
	// Release gives back what is held for a connection and is not on record.
	Release(id string)
}

// paramDevice is the parameter of a record that names a device. What a workload says there counts for nothing: it
// asks by a token or a pool.
const paramDevice = "pciAddress"

// settleDevices gives both ends of a new record the devices that they ask for.
func (m *Manager) settleDevices(ctx context.Context, r *request, x *models.CrossConnect, endpoint peer) error {
	if m.Devices == nil {
		return nil
	}
	for _, end := range []struct {
		side models.Side
		peer peer
	}{{models.EndpointSide, endpoint}, {models.ClientSide, r.peer}} {
		if !m.serves(x.At(end.side).Mechanism.Type) {
			continue // a tunnel
		}
		reason, err := m.Devices.Settle(ctx, x, end.side, int(end.peer.PID))
		if err != nil {
			return status.Errorf(codes.FailedPrecondition, "%s.mechanism: %v", end.side, err)
		}
		if reason != "" {
			x.Decision = append(x.Decision, reason)
		}
	}
	return nil
}
