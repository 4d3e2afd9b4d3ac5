package deviceplugin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"go.patchbay.dev/plugins/sriov"
)

// server is the device plugin of one pool, on a socket of its own.
type server struct {
	api.UnimplementedDevicePluginServer
	Options
	pool string
	path string
	wake chan<- struct{}

	socket     os.FileInfo // of path as we made it
	grpc       *grpc.Server
	kubelet    os.FileInfo  // socket of the kubelet that knows the pool; nil: none
	registered time.Time    // when it learned of it
	listeners  atomic.Int32 // streams of ListAndWatch
}

const (
	// registerTimeout bounds a registration, in which kubelet connects to the plugin.
	registerTimeout = 10 * time.Second
	// listenTimeout is how long kubelet may take to listen to a pool that was registered.
	listenTimeout = 2 * time.Second
)

// serve listens, again if kubelet has removed the socket.
func (s *server) serve() error {
	if st, err := os.Lstat(s.path); err == nil && s.socket != nil && os.SameFile(st, s.socket) {
		return nil
	}
	s.close()
	if err := os.Remove(s.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err // a killed agent's
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: s.path, Net: "unix"})
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false) // by then it may be another's
	if s.socket, err = os.Lstat(s.path); err != nil {
		l.Close()
		return err
	}
	s.kubelet = nil
	s.grpc = grpc.NewServer()
	api.RegisterDevicePluginServer(s.grpc, s)
	go s.grpc.Serve(l) // until it is stopped
	return nil
}

// close stops listening and removes the socket if it is still ours.
func (s *server) close() {
	if s.grpc == nil {
		return
	}
	s.grpc.Stop()
	if st, err := os.Lstat(s.path); err == nil && os.SameFile(st, s.socket) {
		os.Remove(s.path)
	}
	s.grpc, s.socket = nil, nil
}

// options are told to kubelet when the pool is registered.
var options = &api.DevicePluginOptions{GetPreferredAllocationAvailable: true}

// heard tells whether kubelet listens to the pool.
func (s *server) heard() bool { return s.listeners.Load() > 0 }

// knownTo tells whether the kubelet that has made a socket knows the pool.
func (s *server) knownTo(kubelet os.FileInfo) bool {
	return s.kubelet != nil && os.SameFile(kubelet, s.kubelet) && kubelet.ModTime().Equal(s.kubelet.ModTime()) &&
		(s.heard() || time.Since(s.registered) < listenTimeout)
}

// register makes the pool known to kubelet.
func (s *server) register(ctx context.Context, kubelet os.FileInfo) error {
	cc, err := grpc.NewClient("unix://"+filepath.Join(s.Dir, kubelet.Name()), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer cc.Close()
	ctx, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	_, err = api.NewRegistrationClient(cc).Register(ctx, &api.RegisterRequest{
		Version: api.Version, Endpoint: filepath.Base(s.path), ResourceName: s.pool, Options: options,
	})
	if err != nil {
		return fmt.Errorf("register with kubelet: %w", err)
	}
	s.kubelet, s.registered = kubelet, time.Now()
	s.Log.Info("kubelet counts the devices of a pool", "pool", s.pool)
	return nil
}

// GetDevicePluginOptions repeats what the registration said.
func (s *server) GetDevicePluginOptions(context.Context, *api.Empty) (*api.DevicePluginOptions, error) {
	return options, nil
}

// ListAndWatch sends the pool's devices, and again whenever they change.
func (s *server) ListAndWatch(_ *api.Empty, out grpc.ServerStreamingServer[api.ListAndWatchResponse]) error {
	s.listeners.Add(1)
	defer s.left()
	var told *api.ListAndWatchResponse
	for {
		changed := s.Devices.Changed()
		if list := (&api.ListAndWatchResponse{Devices: s.list()}); told == nil || !proto.Equal(told, list) {
			if err := out.Send(list); err != nil {
				return err
			}
			told = list
		}
		select {
		case <-changed:
		case <-out.Context().Done():
			return nil
		}
	}
}

// left wakes the Plugin when kubelet stops listening.
func (s *server) left() {
	s.listeners.Add(-1)
	wake(s.wake)
}

// list is the pool as kubelet is told.
func (s *server) list() []*api.Device {
	var list []*api.Device
	for _, d := range s.devices() {
		k := &api.Device{ID: d.ID, Health: api.Healthy}
		if !s.usable(d) {
			k.Health = api.Unhealthy
		}
		if d.NUMA >= 0 {
			k.Topology = &api.TopologyInfo{Nodes: []*api.NUMANode{{ID: int64(d.NUMA)}}}
		}
		list = append(list, k)
	}
	return list
}

// devices are those of the pool.
func (s *server) devices() []sriov.Device {
	return slices.DeleteFunc(s.Devices.Devices(), func(d sriov.Device) bool { return d.Pool != s.pool })
}

// usable tells whether kubelet may give a device to containers: it is healthy, and nobody
// has it to whom kubelet has not given it.
func (s *server) usable(d sriov.Device) bool {
	return d.Healthy && (d.Owner == "" || !s.Tokens.Given(d.ID).IsZero())
}
