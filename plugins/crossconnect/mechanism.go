package crossconnect

import (
	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/reconcile"
)

// Mechanism is one way to attach a workload. Its parameters were checked by Validate
// before any other method sees them. It is a Pairer, an Attacher or a Passer, or several of them.
type Mechanism interface {
	// Type is the wire name: KERNEL, MEMIF, …
	Type() string
	// Validate checks the parameters; a *models.FieldError names the parameter.
	Validate(parameters map[string]string) error
	// Status is what one side has become; it looks in memory only.
	Status(x *models.CrossConnect, side models.Side) *models.AttachmentStatus
}

// Pairer links two workloads of its mechanism on this node with nothing in between.
type Pairer interface {
	// Pair renders the link. Errors are *models.FieldErrors, their fields as in the record.
	Pair(x *models.CrossConnect) ([]reconcile.Value, error)
}

// PathPairer is a Pairer that links two ends only where the path of the record, which
// may be empty, asks for it; another links them whenever it can.
type PathPairer interface {
	Pairs(path string) bool
}

// Attacher attaches a workload to this node's forwarder.
type Attacher interface {
	// Attach renders one side and the port of the forwarder that it ends in. Errors are
	// as of Pair.
	Attach(x *models.CrossConnect, side models.Side) (models.Port, []reconcile.Value, error)
}

// Placer is a mechanism whose workload can be given a device of the kernel that another
// mechanism makes: a tunnel that ends in the workload's namespace, with nothing in between.
type Placer interface {
	// Place renders the device at side, and what is set on it. Errors are as of Pair.
	Place(x *models.CrossConnect, side models.Side, device models.Device) ([]reconcile.Value, error)
}

// Deviser is a mechanism that can be such a device.
type Deviser interface {
	// Device describes the end of the tunnel that is at side of the record, for the
	// workload at the other side. Errors are as of Pair.
	Device(x *models.CrossConnect, side models.Side) (models.Device, error)
}

// Bridger is a mechanism whose end is no workload but a bridge: what is attached at the
// client's side becomes a member of it.
type Bridger interface {
	// Complete gives the record with what the bridge settles where it leaves that open.
	// Errors are as of Pair.
	Complete(x *models.CrossConnect) (*models.CrossConnect, error)
	// Member renders the membership of what is attached to port. Errors are as of Pair.
	Member(x *models.CrossConnect, port models.Port) ([]reconcile.Value, error)
}

// Passer is a mechanism that can hand its workload a device that leads out of the node by itself: of two
// such ends, cards and what is between them switch, and nothing of this node.
type Passer interface {
	// Passes tells whether an end with these parameters is such a device.
	Passes(parameters map[string]string) bool
	// Pass renders what one side of the record has. Errors are as of Pair.
	Pass(x *models.CrossConnect, side models.Side) ([]reconcile.Value, error)
}

// Joiner joins two ports of the forwarder.
type Joiner interface {
	// Join renders what carries the cross-connect's payload between its ports.
	Join(x *models.CrossConnect, client, endpoint models.Port) ([]reconcile.Value, error)
}

// Hinter is a Mechanism whose parameters this node settles before the workload answers:
// where its socket will be, with this path between the ends.
type Hinter interface {
	Hint(id string, side models.Side, path string) map[string]string
}
