package memif

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"go.patchbay.dev/vppapi"
)

// reserve sees to it that VPP's list of memif interfaces is long enough, see
// vppapi.ReserveMemifs. How long it is outlives the agent in a file, with the process that
// it is true of.
type reserve struct {
	mu     sync.Mutex
	length int // as far as is known
}

// Lengths of the list: at first, and by how much it grows.
const (
	firstReserve = 256
	moreReserve  = 512
	// reserveNumber is that of the socket on which the list is made to grow.
	reserveNumber = 1<<32 - 2
)

func (m *Mechanism) reserveFile() string { return filepath.Join(m.o.RunDir, ".memif-reserve") }

// learn notes what VPP has, and with none of it yet has it make room for all that are wanted.
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
	if have == 0 {
		m.makeRoom(ctx, max(firstReserve, want+want/4))
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
		err = os.WriteFile(m.reserveFile(), fmt.Appendf(nil, "%s %d\n", m.o.VPP.Process(), count), 0o600)
	}
	if err != nil {
		m.log.Warn("VPP's list of memif interfaces was not made longer", "interfaces", count, "err", err)
	}
	if err := os.Remove(m.reserveFile() + ".sock"); err != nil && !os.IsNotExist(err) {
		m.log.Warn("socket was not removed", "err", err)
	}
}
