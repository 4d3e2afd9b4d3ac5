//go:build bench

package bench

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.patchbay.dev/plugins/store"
	"go.patchbay.dev/vppapi"
	"go.patchbay.dev/vppapi/vpptest"
)

// vppFloor makes memif–memif connections bare: one durable put, then what VPP must be
// asked for in the two rounds that depend on each other, each at once.
type vppFloor struct {
	vpp   *vppapi.Client
	store *store.Store
	dir   string
	n     uint32
}

func newVPPFloor(t *testing.T, v *vpptest.VPP) *vppFloor {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{DataDir: t.TempDir()})
	check(t, err)
	f := &vppFloor{vpp: dial(t, v, "floor"), store: s, dir: inMemory(t), n: 1 << 20}
	t.Cleanup(func() { s.Close() })
	return f
}

// dial makes a client of its own of a VPP.
func dial(t *testing.T, v *vpptest.VPP, name string) *vppapi.Client {
	t.Helper()
	c := vppapi.New(vppapi.Options{Socket: v.APISocket, Name: name, Timeout: time.Minute})
	c.Start(context.Background())
	check(t, c.Up())
	t.Cleanup(c.Stop)
	return c
}

// port is one end that was made bare.
type port struct {
	index  vppapi.Index
	number uint32
	tag    string
}

// put is the record, as large as one is.
func (f *vppFloor) put(t *testing.T) {
	_, err := f.store.Put(t.Context(), "/floor", []byte(strings.Repeat("x", 1200)))
	check(t, err)
}

// connect asks VPP for one connection.
func (f *vppFloor) connect(number uint32) ([2]port, error) {
	var ports [2]port
	err := both(func(i int) (err error) {
		n := number + uint32(i)
		ports[i] = port{number: n, tag: fmt.Sprintf("floor:%d", n)}
		ports[i].index, err = f.vpp.CreateMemif(context.Background(), n, vppapi.Memif{
			Socket: filepath.Join(f.dir, fmt.Sprintf("f%d.sock", n)), MAC: [6]byte{2, 0, 0, byte(n >> 16), byte(n >> 8), byte(n)}})
		return err
	})
	if err != nil {
		return ports, err
	}
	var wg sync.WaitGroup
	var joined error
	wg.Go(func() { joined = f.vpp.ConnectL2(context.Background(), ports[0].index, ports[1].index) })
	err = both(func(i int) error {
		return f.vpp.Finish(context.Background(), ports[i].index, vppapi.Setup{Tag: ports[i].tag})
	})
	wg.Wait()
	if err == nil {
		err = joined
	}
	return ports, err
}

func both(f func(i int) error) error {
	var errs [2]error
	var wg sync.WaitGroup
	wg.Go(func() { errs[1] = f(1) })
	errs[0] = f(0)
	wg.Wait()
	if errs[0] != nil {
		return errs[0]
	}
	return errs[1]
}

// once is one connection done bare. What it makes is undone outside the measurement.
func (f *vppFloor) once(t *testing.T) time.Duration {
	t.Helper()
	f.n += 2
	start := time.Now()
	f.put(t)
	ports, err := f.connect(f.n)
	took := time.Since(start)
	check(t, err)
	check(t, both(func(i int) error {
		return f.vpp.DeleteMemif(context.Background(), ports[i].index, ports[i].number)
	}))
	return took
}

// replay makes many connections with as many calls under way at the same time as the
// engine has workers: what a restore costs when nothing else is done. Without the room
// that is made first VPP crashes about every other time, see vppapi.ReserveMemifs.
func (f *vppFloor) replay(t *testing.T, count int) time.Duration {
	t.Helper()
	next := make(chan uint32, count)
	for i := range count {
		next <- uint32(1 + 2*i)
	}
	close(next)
	start := time.Now()
	check(t, f.vpp.ReserveMemifs(t.Context(), 1<<32-3, filepath.Join(f.dir, "reserve.sock"), 2*count))
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for n := range next {
				if _, err := f.connect(n); err != nil {
					t.Errorf("replay: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	return time.Since(start)
}
