// Package vppfake is a VPP in memory: it holds state, as VPP does, and serves it on a
// unix socket with VPP's own transport and messages, so that a client, or the agent's
// whole program, runs against it unchanged. The contract tests of vppapi keep it and the
// real one alike.
package vppfake

import (
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"go.patchbay.dev/vppapi"
)

// VPP is one fake VPP. Its methods may be called at the same time.
type VPP struct {
	socket string
	o      options

	mu        sync.Mutex
	changed   *sync.Cond // hung or gone have changed
	hung      bool
	runs      int
	mutations []string
	refusals  map[string]vppapi.Error
	strike    strike
	world     *world // nil: not running
	listener  *net.UnixListener
	clients   map[*client]bool
	done      sync.WaitGroup
}

// Option changes how a VPP presents itself.
type Option func(*options)

type options struct {
	version string
	crcs    map[string]string
	without map[vppapi.Plugin]bool
	taps    TapMaker
	workers int
	devices map[string]bool // PCI functions by address; true: VPP has a driver
	look    time.Duration
}

// Workers gives it threads besides the main one. It deals out queues to them in turn.
func Workers(n int) Option { return func(o *options) { o.workers = n } }

// Look is how long it looks through its memif interfaces when the first is made. If there
// are more before it has ended, VPP dies, as the real one may.
func Look(took time.Duration) Option { return func(o *options) { o.look = took } }

// WithVersion is the version that it tells, for instance "26.02-release".
func WithVersion(version string) Option { return func(o *options) { o.version = version } }

// WithCRC gives a message another form, as in another release: its CRC as 8 hex digits.
func WithCRC(message, crc string) Option { return func(o *options) { o.crcs[message] = crc } }

// Without leaves out the messages of a plugin, as if it were not loaded.
func Without(p vppapi.Plugin) Option { return func(o *options) { o.without[p] = true } }

// Start serves a new VPP on a socket.
func Start(socket string, opts ...Option) (*VPP, error) {
	v := &VPP{
		socket:   socket,
		o:        options{version: vppapi.Release + "-release", crcs: map[string]string{}, without: map[vppapi.Plugin]bool{}, devices: map[string]bool{}},
		refusals: map[string]vppapi.Error{},
	}
	for _, o := range opts {
		o(&v.o)
	}
	v.changed = sync.NewCond(&v.mu)
	return v, v.run()
}

// run begins with nothing but the interface that every VPP has.
func (v *VPP) run() error {
	if s, err := os.Lstat(v.socket); err == nil && s.Mode()&os.ModeSocket != 0 {
		if err := os.Remove(v.socket); err != nil {
			return err
		}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: v.socket, Net: "unix"})
	if err != nil {
		return fmt.Errorf("fake VPP: %w", err)
	}
	l.SetUnlinkOnClose(false)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.runs++
	v.listener, v.world, v.clients = l, newWorld(v.o.workers), map[*client]bool{}
	table := newTable(v.o, v.runs)
	w := v.world
	v.done.Go(func() { v.accept(l, w, table) })
	return nil
}

// Close ends it as SIGKILL does: connections drop, what it held is lost, the files of its
// sockets stay.
func (v *VPP) Close() {
	v.mu.Lock()
	v.die()
	v.mu.Unlock()
	v.done.Wait()
}

// die is Close, but for what is under way. v.mu is held.
func (v *VPP) die() {
	if v.world == nil {
		return
	}
	v.listener.Close()
	v.world.closeSockets()
	v.world = nil
	v.disconnect()
	v.hung = false
	v.changed.Broadcast()
}

// disconnect ends all connections. v.mu is held.
func (v *VPP) disconnect() {
	for c := range v.clients {
		c.sock.Close()
	}
}

// Restart is Close, if it runs, and a new start on the same socket.
func (v *VPP) Restart() error {
	v.Close()
	return v.run()
}

// Hang makes it take connections and requests and answer nothing, as SIGSTOP does, until
// it is called with false.
func (v *VPP) Hang(hung bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.hung = hung
	v.changed.Broadcast()
}

// Refuse makes it answer every request of a name with an error code and do nothing else.
func (v *VPP) Refuse(message string, code vppapi.Error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.refusals[message] = code
}

// ClearRefusals undoes Refuse.
func (v *VPP) ClearRefusals() {
	v.mu.Lock()
	defer v.mu.Unlock()
	clear(v.refusals)
}

// Mutations are the names of all mutating messages received so far, also before restarts.
func (v *VPP) Mutations() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.mutations)
}

// SetLink makes a peer come to, or leave, the interface that has a tag or a name. It is
// an error if there is none.
func (v *VPP) SetLink(which string, up bool) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.world != nil {
		for _, i := range v.world.interfaces {
			if i.tag == which || i.name == which {
				v.world.setPeer(i, up)
				v.flush()
				return nil
			}
		}
	}
	return fmt.Errorf("fake VPP: no interface %q", which)
}

// Clients is how many are connected. All that one had sent before it went is carried out
// by the time that it is not counted any more.
func (v *VPP) Clients() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.clients)
}

// Socket is where it is served.
func (v *VPP) Socket() string { return v.socket }

// Sockets are the file names of memif that it has, sorted, without the one that every VPP has.
func (v *VPP) Sockets() (all []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.world == nil {
		return nil
	}
	for number, s := range v.world.sockets {
		if number != 0 {
			all = append(all, s.path)
		}
	}
	slices.Sort(all)
	return all
}

// Interface is one as it is now, for assertions.
type Interface struct {
	vppapi.Interface
	Worker int           // of its queue, from 1; 0: the main thread, or it has no queue
	RxMode vppapi.RxMode // DefaultMode: nothing was set, or no queue was there to set it on
	IP6    bool
	Socket string // of memif and vhost-user
	Secret string
	Ring   int
	L2     vppapi.Index    // where its frames go; All: nowhere
	L3     []vppapi.L3Path // by which it forwards, not what VPP lists
	Fixed  []vppapi.Neighbor
}

// Interfaces are all that it has, by index, without local0; none if it does not run.
func (v *VPP) Interfaces() []Interface {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.world == nil {
		return nil
	}
	return v.world.snapshot()
}
