//go:build bench

package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"

	"go.patchbay.dev/plugins/store"
	"go.patchbay.dev/tests/lab"
	"go.patchbay.dev/vppapi"
	"go.patchbay.dev/vppapi/vpptest"
)

// vppFloor makes memif–memif connections bare: one gRPC call over a unix socket, one durable
// put, then what VPP must be asked for in the two rounds that depend on each other, each at once.
type vppFloor struct {
	vpp   *vppapi.Client
	store *store.Store
	call  *lab.Client
	dir   string
	n     uint32
}

func newVPPFloor(t *testing.T, v *vpptest.VPP) *vppFloor {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{DataDir: t.TempDir()})
	check(t, err)
	f := &vppFloor{vpp: dial(t, v, "floor"), store: s, call: newCall(t), dir: inMemory(t), n: 1 << 20}
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
	_, err := f.store.Put(t.Context(), "/floor", record)
	check(t, err)
}

// connect asks VPP for one connection.
func (f *vppFloor) connect(number uint32) ([2]port, error) {
	ports, err := f.create(number)
	if err == nil {
		err = f.join(ports)
	}
	return ports, err
}

// create asks VPP for the two interfaces.
func (f *vppFloor) create(number uint32) (ports [2]port, err error) {
	err = both(func(i int) (err error) {
		n := number + uint32(i)
		ports[i] = port{number: n, tag: fmt.Sprintf("floor:%d", n)}
		ports[i].index, err = f.vpp.CreateMemif(context.Background(), n, vppapi.Memif{
			Socket: filepath.Join(f.dir, fmt.Sprintf("f%d.sock", n)), MAC: [6]byte{2, 0, 0, byte(n >> 16), byte(n >> 8), byte(n)}})
		return err
	})
	return ports, err
}

// join asks for what makes a connection of them.
func (f *vppFloor) join(ports [2]port) error {
	var wg sync.WaitGroup
	var joined error
	wg.Go(func() { joined = f.vpp.ConnectL2(context.Background(), ports[0].index, ports[1].index) })
	err := both(func(i int) error {
		return f.vpp.Finish(context.Background(), ports[i].index, vppapi.Setup{Tag: ports[i].tag})
	})
	wg.Wait()
	return errors.Join(err, joined)
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

// once is one connection done bare: all of it, and without the call. What it makes is undone
// outside the measurement.
func (f *vppFloor) once(t *testing.T) (all, uncalled time.Duration) {
	t.Helper()
	f.n += 2
	in := lab.MemifRequest(fmt.Sprint("floor", f.n), "fw")
	start := time.Now()
	_, err := f.call.Request(t.Context(), in)
	check(t, err)
	answered := time.Now()
	f.put(t)
	ports, err := f.connect(f.n)
	all, uncalled = time.Since(start), time.Since(answered)
	check(t, err)
	check(t, f.remove(ports))
	return all, uncalled
}

// remove undoes connect.
func (f *vppFloor) remove(ports [2]port) error {
	return both(func(i int) error {
		return f.vpp.DeleteMemif(context.Background(), ports[i].index, ports[i].number)
	})
}

// replay makes many connections with as many calls under way at the same time as the
// engine has workers: what a restore costs when nothing else is done. All interfaces are
// made before any is set up, see vppapi.HoldSetups.
func (f *vppFloor) replay(count int) error {
	made := make([][2]port, count)
	err := atOnce(count, func(i int) (err error) { made[i], err = f.create(uint32(1 + 2*i)); return err })
	if err != nil {
		return err
	}
	return atOnce(count, func(i int) error { return f.join(made[i]) })
}

// atOnce calls f with every number below count, 16 at the same time.
func atOnce(count int, f func(i int) error) error {
	errs := make([]error, count)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for i := int(next.Add(1) - 1); i < count; i = int(next.Add(1) - 1) {
				errs[i] = f(i)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// leastVPP is the least agent's dataplane on VPP.
type leastVPP struct{ *vppFloor }

func leastOnVPP(c leastConfig) (dataplane, error) {
	vpp := vppapi.New(vppapi.Options{Socket: c.VPP, Name: "least", Timeout: time.Minute})
	vpp.Start(context.Background())
	return leastVPP{&vppFloor{vpp: vpp, dir: c.RunDir, n: 1 << 21}}, vpp.Up()
}

func (leastVPP) mechanism() *networkservice.Mechanism {
	return &networkservice.Mechanism{Cls: "LOCAL", Type: "MEMIF"}
}

func (v leastVPP) connect(context.Context, end, end) (func() error, error) {
	v.n += 2
	ports, err := v.vppFloor.connect(v.n)
	return func() error { return v.remove(ports) }, err
}
