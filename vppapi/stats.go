package vppapi

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"go.fd.io/govpp/adapter"
	"go.fd.io/govpp/adapter/statsclient"
)

// ErrNoStats is wrapped by errors of [Stats] when the segment cannot be read.
var ErrNoStats = errors.New("VPP's stats segment cannot be read")

// Stats reads VPP's stats segment: shared memory, so reading costs VPP nothing.
type Stats struct {
	socket string

	mu     sync.Mutex
	client *statsclient.StatsClient
	dir    *adapter.StatDir

	last     []Counters // as read at taken
	threads  []uint64   // packets that each thread has received
	free     int
	taken    time.Time
	lastFail error
}

// Counters of one interface, from VPP's point of view.
type Counters struct {
	RxPackets, RxBytes, TxPackets, TxBytes uint64
	Drops                                  uint64 // packets that VPP dropped that came in here or were to go out
}

// NewStats returns a reader of the segment behind a socket, for instance /run/vpp/stats.sock.
func NewStats(socket string) *Stats { return &Stats{socket: socket} }

// fresh is for how long what was read serves others: one who asks about every interface
// in turn must not read the whole segment each time.
const fresh = 100 * time.Millisecond

// Of reads the counters of one interface.
func (s *Stats) Of(index Index) (Counters, error) {
	all, _, err := s.recent()
	if err == nil && int(index) < len(all) {
		return all[index], nil
	}
	if err == nil {
		err = fmt.Errorf("%w: interface %d is not in it", ErrNoStats, index)
	}
	return Counters{}, err
}

// FreeBuffers is how many packet buffers VPP has left.
func (s *Stats) FreeBuffers() (int, error) {
	_, free, err := s.recent()
	return free, err
}

// RxPackets is how many packets each of VPP's threads has received since VPP began, its
// main thread first.
func (s *Stats) RxPackets() ([]uint64, error) {
	if _, _, err := s.recent(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.threads, nil
}

func (s *Stats) recent() ([]Counters, int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.taken) > fresh {
		s.last, s.free, s.lastFail = s.read()
		s.taken = time.Now()
	}
	return s.last, s.free, s.lastFail
}

// busyTries is how often the segment is read while VPP changes its directory.
const busyTries = 20

// The entries that are read: one vector of every thread's counters by interface index
// each, and the free buffers of each pool.
var patterns = []string{"^/if/rx$", "^/if/tx$", "^/if/drops$", "^/buffer-pools/.*/available$"}

// Read reads the counters of all interfaces, by index, and how many buffers are free.
func (s *Stats) Read() (counters []Counters, buffers int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.read()
}

func (s *Stats) read() (counters []Counters, buffers int, err error) {
	if err = s.refresh(); err != nil {
		return nil, 0, fmt.Errorf("%w: %s: %w", ErrNoStats, s.socket, err)
	}
	for _, e := range s.dir.Entries {
		switch d := e.Data.(type) {
		case adapter.CombinedCounterStat:
			tx := string(e.Name) == "/if/tx"
			counters = sumCombined(counters, d, tx)
			if !tx {
				s.threads = sumThreads(d)
			}
		case adapter.SimpleCounterStat:
			for _, thread := range d {
				counters = grow(counters, len(thread))
				for i, n := range thread {
					counters[i].Drops += uint64(n)
				}
			}
		case adapter.ScalarStat:
			buffers += int(d)
		}
	}
	return counters, buffers, nil
}

func sumCombined(counters []Counters, d adapter.CombinedCounterStat, tx bool) []Counters {
	for _, thread := range d {
		counters = grow(counters, len(thread))
		for i, n := range thread {
			if tx {
				counters[i].TxPackets += n.Packets()
				counters[i].TxBytes += n.Bytes()
			} else {
				counters[i].RxPackets += n.Packets()
				counters[i].RxBytes += n.Bytes()
			}
		}
	}
	return counters
}

func sumThreads(d adapter.CombinedCounterStat) []uint64 {
	packets := make([]uint64, len(d))
	for i, thread := range d {
		for _, n := range thread {
			packets[i] += n.Packets()
		}
	}
	return packets
}

func grow(c []Counters, n int) []Counters {
	if n > len(c) {
		c = append(c, make([]Counters, n-len(c))...)
	}
	return c
}

// refresh is update, again where VPP changed something meanwhile or was restarted.
func (s *Stats) refresh() (err error) {
	again := false
	for range busyTries {
		switch err = s.update(); {
		case err == nil:
			return nil
		case errors.Is(err, adapter.ErrStatsDataBusy):
		case again:
			s.close()
			return err
		default:
			s.close()
			again = true
		}
	}
	return err
}

// update brings the directory up to date, or reads it for the first time.
func (s *Stats) update() (err error) {
	if s.client == nil {
		if _, err := os.Stat(s.socket); err != nil {
			return err // the client would wait for it
		}
		client := statsclient.NewStatsClient(s.socket)
		if err := client.Connect(); err != nil {
			return err
		}
		s.client = client
	}
	if s.dir != nil {
		err = s.client.UpdateDir(s.dir)
		if errors.Is(err, adapter.ErrStatsDirStale) {
			err = s.relocate()
		}
		if err == nil || errors.Is(err, adapter.ErrStatsDataBusy) {
			return err
		}
	}
	s.dir, err = s.client.PrepareDir(patterns...)
	return err
}

// relocate reads the entries after the directory has changed. They stay where they are while
// those of interfaces come and go, and to look through all names takes milliseconds.
func (s *Stats) relocate() error {
	indexes := make([]uint32, len(s.dir.Entries))
	for i, e := range s.dir.Entries {
		indexes[i] = e.Index
	}
	dir, err := s.client.PrepareDirOnIndex(indexes...)
	if err != nil {
		return err
	}
	same := func(a, b adapter.StatEntry) bool { return bytes.Equal(a.Name, b.Name) }
	if !slices.EqualFunc(dir.Entries, s.dir.Entries, same) {
		return adapter.ErrStatsDirStale
	}
	s.dir = dir
	return nil
}

// Reset forgets the segment, after VPP was restarted.
func (s *Stats) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.close()
	s.taken = time.Time{}
}

func (s *Stats) close() {
	if s.client != nil {
		s.client.Disconnect()
	}
	s.client, s.dir = nil, nil
}
