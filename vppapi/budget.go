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

	claims sync.Mutex
	// making are the interfaces that are being made, and the vhost-user ports among them:
	// many are made at the same time, and VPP has none of those yet.
	making, makingVhosts int

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

// Room is claimed for one more interface, until done is called: when the interface is known
// by its tag, or could not be made. An error wraps ErrBudget and gives the figures.
type Room func() (done func(), err error)

// AnyRoom is the Room of a VPP that may have any number.
func AnyRoom() (done func(), err error) { return func() {}, nil }

// Interface claims room for one more, as a Room does.
func (b *Budget) Interface() (done func(), err error) {
	if err := b.claim(b.limits.Interfaces, b.vpp.count, &b.making, "interfaces", "vpp.max_interfaces"); err != nil {
		return nil, err
	}
	done = func() { b.unclaim(&b.making) }
	// Without the segment nothing is known, which is no reason to refuse.
	if b.limits.Buffers > 0 {
		if free, known := b.freeBuffers(); known && free < b.limits.Buffers {
			done()
			return nil, fmt.Errorf("%w: %d packet buffers are free and %d must stay so; give VPP more (buffers { buffers-per-numa … }) or lower vpp.free_buffers",
				ErrBudget, free, b.limits.Buffers)
		}
	}
	return done, nil
}

// VhostUser is Interface for a vhost-user port; have is how many of ours there are.
func (b *Budget) VhostUser(have func() int) (done func(), err error) {
	if err := b.claim(b.limits.VhostUsers, have, &b.makingVhosts, "vhost-user ports", "vpp.max_vhost_user"); err != nil {
		return nil, err
	}
	made, err := b.Interface()
	if err != nil {
		b.unclaim(&b.makingVhosts)
		return nil, err
	}
	return func() {
		b.unclaim(&b.makingVhosts)
		made()
	}, nil
}

// claim counts one more of what is being made, if there may be one more of what key limits.
func (b *Budget) claim(limit int, have func() int, making *int, what, key string) error {
	b.claims.Lock()
	defer b.claims.Unlock()
	if n := have() + *making; limit > 0 && n >= limit {
		return fmt.Errorf("%w: it has %d %s and may have %d; close connections or raise %s", ErrBudget, n, what, limit, key)
	}
	*making++
	return nil
}

func (b *Budget) unclaim(making *int) {
	b.claims.Lock()
	defer b.claims.Unlock()
	*making--
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
