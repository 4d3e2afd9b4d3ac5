package memif

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.patchbay.dev/vppapi"
)

// reserve sees to it that VPP's list of memif interfaces is long enough, see
// vppapi.ReserveMemifs. How long it is outlives the agent in a file, with the process that
// it is true of.
type reserve struct {
	mu     sync.Mutex
	length int // as far as is known
	filling
}

// filling is a VPP that has nothing yet being given all that is on record: nothing is set
// up until all of it is made, so that the list need not be made longer first.
type filling struct {
	left    int // that are still to be made
	release func()
	timer   *time.Timer // ends it when no more come, for what is on record may have to wait
}

// Lengths of the list: at first, and by how much it grows.
const (
	firstReserve = 256
	moreReserve  = 512
	// quiet is how long nothing is made before no more is expected.
	quiet = 100 * time.Millisecond
	// reserveNumber is that of the socket on which the list is made to grow.
	reserveNumber = 1<<32 - 2
)

func (m *Mechanism) reserveFile() string { return filepath.Join(m.o.RunDir, ".memif-reserve") }

// learnReserve notes what VPP has. One with nothing is filled with all that is wanted or, if
// that is little, has room made for more.
func (m *Mechanism) learnReserve(ctx context.Context, have, want int) {
	m.reserve.mu.Lock()
	m.reserve.length = have
	var process string
	var length int
	if data, err := os.ReadFile(m.reserveFile()); err == nil {
		if n, _ := fmt.Sscan(string(data), &process, &length); n == 2 && process == m.o.VPP.Process() {
			m.reserve.length = max(have, length)
		}
	}
	m.reserve.mu.Unlock()
	switch {
	case have > 0:
	case want > firstReserve:
		m.fill(want)
	default:
		m.makeRoom(ctx, firstReserve)
	}
}

// fill begins to give an empty VPP so many interfaces.
func (m *Mechanism) fill(count int) {
	m.filled()
	release := m.o.VPP.HoldSetups()
	m.reserve.mu.Lock()
	defer m.reserve.mu.Unlock()
	m.reserve.length = count
	m.reserve.filling = filling{left: count, release: release, timer: time.AfterFunc(quiet, m.filled)}
}

// made counts an interface that was made, or could not be.
func (m *Mechanism) made() {
	m.reserve.mu.Lock()
	f := &m.reserve.filling
	if f.release == nil {
		m.reserve.mu.Unlock()
		return
	}
	f.left--
	f.timer.Reset(quiet)
	last := f.left <= 0
	m.reserve.mu.Unlock()
	if last {
		m.filled()
	}
}

// filled ends the filling of VPP, if it is being filled.
func (m *Mechanism) filled() {
	m.reserve.mu.Lock()
	defer m.reserve.mu.Unlock()
	f := &m.reserve.filling
	if f.release == nil {
		return
	}
	f.timer.Stop()
	f.release()
	m.reserve.length -= max(f.left, 0)
	m.reserve.filling = filling{}
	m.note()
}

// note writes how long the list is, for the next agent.
func (m *Mechanism) note() {
	err := os.WriteFile(m.reserveFile(), fmt.Appendf(nil, "%s %d\n", m.o.VPP.Process(), m.reserve.length), 0o600)
	if err != nil {
		m.log.Warn("the length of VPP's list of memif interfaces was not noted", "err", err)
	}
}

// dropReserve deletes what is left of a list that was growing when the agent or the
// connection to VPP ended, and gives the rest.
func (m *Mechanism) dropReserve(ctx context.Context, memifs []vppapi.MemifFound, sockets map[uint32]string) (rest []vppapi.MemifFound, err error) {
	m.reserve.mu.Lock()
	defer m.reserve.mu.Unlock()
	socket := m.reserveFile() + ".sock"
	var left []vppapi.Index
	for _, f := range memifs {
		if f.Socket == socket {
			left = append(left, f.Index)
		} else {
			rest = append(rest, f)
		}
	}
	if sockets[reserveNumber] != socket {
		return memifs, nil
	}
	return rest, m.o.VPP.DropMemifs(ctx, reserveNumber, left)
}

// makeRoom has VPP's list hold so many. That it cannot is no reason not to go on.
func (m *Mechanism) makeRoom(ctx context.Context, count int) {
	m.reserve.mu.Lock()
	defer m.reserve.mu.Unlock()
	if count <= m.reserve.length {
		return
	}
	if m.reserve.length > 0 {
		count = max(count, m.reserve.length+moreReserve)
	}
	err := os.MkdirAll(m.o.RunDir, 0o755)
	if err == nil {
		err = m.o.VPP.ReserveMemifs(ctx, reserveNumber, m.reserveFile()+".sock", count)
	}
	if err == nil {
		m.reserve.length = count
		m.note()
	} else {
		m.log.Warn("VPP's list of memif interfaces was not made longer", "interfaces", count, "err", err)
	}
	if err := os.Remove(m.reserveFile() + ".sock"); err != nil && !os.IsNotExist(err) {
		m.log.Warn("socket was not removed", "err", err)
	}
}
