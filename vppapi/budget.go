package vppapi

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// ErrBudget is wrapped when VPP has no room for one more interface. Its text is
// models.NoRoom.
var ErrBudget = errors.New("VPP has no room")

// Limits of what may be made in a VPP; 0: no limit.
type Limits struct {
	Interfaces int // that VPP has, also others' than ours
	VhostUsers int // of ours: each that waits for its peer costs VPP's main thread
	Buffers    int // that must stay free: without any, VPP drops everybody's packets in silence
}

// Budget says whether VPP has room for one more interface, by what VPP reports. It asks
// nothing: interfaces are counted as they come and go, and buffers are read from the
// stats segment.
type Budget struct {
	vpp    *Client
	stats  *Stats
	limits Limits

	mu      sync.Mutex
	free    int
	known   bool
	read    time.Time
	reading bool
}

// NewBudget returns the budget of a VPP.
func NewBudget(vpp *Client, stats *Stats, limits Limits) *Budget {
	return &Budget{vpp: vpp, stats: stats, limits: limits}
}

// Interface is nil when there is room for one more; its error wraps ErrBudget and gives
// the figures.
func (b *Budget) Interface() error {
	if n := b.vpp.count(); b.limits.Interfaces > 0 && n >= b.limits.Interfaces {
		return fmt.Errorf("%w: it has %d interfaces and may have %d; close connections or raise vpp.max_interfaces", ErrBudget, n, b.limits.Interfaces)
	}
	if b.limits.Buffers == 0 {
		return nil
	}
	// Without the segment nothing is known, which is no reason to refuse.
	if free, known := b.freeBuffers(); known && free < b.limits.Buffers {
		return fmt.Errorf("%w: %d packet buffers are free and %d must stay so; give VPP more (buffers { buffers-per-numa … }) or lower vpp.free_buffers",
			ErrBudget, free, b.limits.Buffers)
	}
	return nil
}

// A figure is read anew after age, and not used at all after tooOld. VPP itself brings it up to
// date every 10 s, or as often as statseg { update-interval } says.
const (
	age    = time.Second
	tooOld = 3 * time.Second
)

// freeBuffers is how many buffers are free. An old figure serves while a new one is read,
// which takes longer the more interfaces there are.
func (b *Budget) freeBuffers() (free int, known bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if time.Since(b.read) > age && !b.reading {
		b.reading = true
		if b.known && time.Since(b.read) < tooOld {
			go b.look()
		} else {
			b.mu.Unlock()
			b.look()
			b.mu.Lock()
		}
	}
	return b.free, b.known
}

func (b *Budget) look() {
	free, err := b.stats.FreeBuffers()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free, b.known, b.read, b.reading = free, err == nil, time.Now(), false
}

// VhostUser is Interface for a vhost-user port; have is how many of ours there are.
func (b *Budget) VhostUser(have int) error {
	if b.limits.VhostUsers > 0 && have >= b.limits.VhostUsers {
		return fmt.Errorf("%w: it has %d vhost-user ports and may have %d; close connections or raise vpp.max_vhost_user", ErrBudget, have, b.limits.VhostUsers)
	}
	return b.Interface()
}
