package vppapi

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// Placer chooses which of VPP's workers looks after an interface. VPP itself deals new
// queues out in turn, whatever becomes of those before; here each goes to the worker that
// has the least to do when it comes, and stays there.
type Placer struct {
	vpp     *Client
	stats   *Stats
	allowed []int // workers, from 1; none: all that VPP has

	mu      sync.Mutex
	waiting []Index
	running bool

	// Of the one who spreads.
	packets []uint64 // that each thread had received at taken
	rates   []float64
	taken   time.Time
}

// NewPlacer returns a Placer that uses some workers only, numbered from 0 as in
// `show threads`, or all if it is given none.
func NewPlacer(vpp *Client, stats *Stats, workers []int) *Placer {
	p := &Placer{vpp: vpp, stats: stats}
	for _, w := range workers {
		p.allowed = append(p.allowed, w+1)
	}
	return p
}

// Place has the queues of an interface, which have just come, be placed soon. Those that
// come together are placed together: VPP is asked once where all others are.
func (p *Placer) Place(index Index) {
	if len(p.choice()) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = append(p.waiting, index)
	if !p.running {
		p.running = true
		p.vpp.done.Go(p.run)
	}
}

// choice are the workers among which there is one; none where VPP's own will do.
func (p *Placer) choice() (workers []int) {
	n := p.vpp.Workers()
	for w := 1; w <= n; w++ {
		if p.allowed == nil || slices.Contains(p.allowed, w) {
			workers = append(workers, w)
		}
	}
	if n < 2 {
		return nil
	}
	return workers
}

func (p *Placer) run() {
	for {
		p.mu.Lock()
		indexes := p.waiting
		p.waiting = nil
		p.running = len(indexes) > 0
		p.mu.Unlock()
		if len(indexes) == 0 {
			return
		}
		if err := p.spread(p.vpp.ctx, indexes); err != nil {
			p.vpp.log.Debug("queues were not placed", "interfaces", indexes, "err", err)
		}
	}
}

func (p *Placer) spread(ctx context.Context, indexes []Index) error {
	all, err := p.vpp.Queues(ctx, All)
	if err != nil {
		return err
	}
	return p.vpp.PlaceQueues(ctx, place(all, indexes, p.choice(), p.load())...)
}

// load is how many packets each thread receives a second, main thread first, since it was
// asked last; all is nothing where the stats segment cannot be read.
func (p *Placer) load() []float64 {
	packets, err := p.stats.RxPackets()
	now := time.Now()
	past := now.Sub(p.taken)
	if err != nil || len(packets) != len(p.packets) {
		p.packets, p.rates, p.taken = packets, make([]float64, len(packets)), now
		return p.rates
	}
	if past < fresh {
		return p.rates
	}
	for i, n := range packets {
		p.rates[i] = float64(n-min(n, p.packets[i])) / past.Seconds() // they begin anew with VPP
	}
	p.packets, p.taken = packets, now
	return p.rates
}

// expected is what a queue may come to carry, packets a second: as long as nobody sends
// much, workers get as many queues each.
const expected = 10_000

// place finds the queues of some interfaces that are to move, and where to.
func place(all []Queue, indexes []Index, workers []int, rates []float64) (moved []Queue) {
	load := map[int]float64{}
	for w, rate := range rates {
		load[w] = rate
	}
	var new []Queue
	for _, q := range all {
		if slices.Contains(indexes, q.At) {
			new = append(new, q)
		} else {
			load[q.Worker] += expected
		}
	}
	for _, q := range new {
		best := slices.MinFunc(workers, func(a, b int) int { return cmp.Compare(load[a], load[b]) })
		if slices.Contains(workers, q.Worker) && load[q.Worker] <= load[best] {
			best = q.Worker
		}
		load[best] += expected
		if best != q.Worker {
			q.Worker = best
			moved = append(moved, q)
		}
	}
	return moved
}
