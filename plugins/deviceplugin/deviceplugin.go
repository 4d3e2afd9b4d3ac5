// Package deviceplugin lets kubelet count a node's virtual functions: it is a device plugin
// of Kubernetes (k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1) for each pool that
// Kubernetes knows. What kubelet gives to a container comes with a token in the
// container's environment, by which a connection claims it.
package deviceplugin

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"

	"github.com/fsnotify/fsnotify"

	"go.patchbay.dev/plugins/sriov"
)

// Devices is what this room needs of plugins/sriov.
type Devices interface {
	// Devices of all pools, from memory.
	Devices() []sriov.Device
	// Changed is closed when Devices gives something else than before.
	Changed() <-chan struct{}
	// Pool gives a pool as it is configured.
	Pool(name string) (sriov.Pool, bool)
}

// Options of a Plugin.
type Options struct {
	Dir     string // kubelet's directory of device plugins; it need not be there yet
	Devices Devices
	Tokens  *Tokens
	// Evict ends a claim on a device that kubelet gives to another container, because the
	// one that it was given to has ended. The error says why the claim stands.
	Evict func(ctx context.Context, owner string) error
	Log   *slog.Logger
}

// Plugin is the room at work.
type Plugin struct {
	o       Options
	servers []*server // of pools, in the order of Tokens
	watch   *watch
	trouble string        // that was logged last
	wake    chan struct{} // to look again
	stop    context.CancelFunc
	done    sync.WaitGroup
}

// maxSocketPath is the length of sun_path in sockaddr_un less the final zero (unix(7)).
const maxSocketPath = 107

// New makes a Plugin for the pools that the tokens are of. An error names the key of the
// configuration.
func New(o Options) (*Plugin, error) {
	p := &Plugin{o: o, wake: make(chan struct{}, 1)}
	for i, pool := range o.Tokens.pools {
		path := filepath.Join(o.Dir, fmt.Sprintf("patchbay-%d.sock", i))
		if len(path) > maxSocketPath {
			return nil, fmt.Errorf("sriov.kubelet: the socket %s would have %d bytes, and one has at most %d; use a shorter path", path, len(path), maxSocketPath)
		}
		p.servers = append(p.servers, &server{Options: o, pool: pool, path: path, wake: p.wake})
	}
	return p, nil
}

// Start serves kubelet until Stop: from now, or from when it is there.
func (p *Plugin) Start(context.Context) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w; raise fs.inotify.max_user_instances", p.o.Dir, err)
	}
	p.watch = &watch{Watcher: watcher, dir: p.o.Dir}
	ctx, cancel := context.WithCancel(context.Background())
	p.stop = cancel
	p.done.Go(func() { p.run(ctx) })
	return nil
}

// Stop ends serving. Kubelet keeps what it gave to containers, and gives no more until a
// Plugin is started again.
func (p *Plugin) Stop() {
	if p.stop == nil {
		return
	}
	p.stop()
	p.done.Wait()
	p.watch.Close()
	for _, s := range p.servers {
		s.close()
	}
}
