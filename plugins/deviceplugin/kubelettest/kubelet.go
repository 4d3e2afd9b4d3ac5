// Package kubelettest stands in for kubelet's device manager in tests. It speaks the real
// protocol and does as kubelet does (k8s.io/kubernetes, pkg/kubelet/cm/devicemanager): when it
// starts it removes every file from its directory but its checkpoint, it connects back to
// whom it registers, and it tells nobody when a pod ends.
package kubelettest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

const (
	socket     = "kubelet.sock"
	checkpoint = "kubelet_internal_checkpoint"
	dialWait   = 10 * time.Second // for a plugin that registers
	// Wait bounds what the tests wait for.
	Wait = 20 * time.Second
)

// Kubelet is the stand-in. It is not running before Start.
type Kubelet struct {
	api.UnimplementedRegistrationServer
	t   testing.TB
	dir string

	mu        sync.Mutex
	server    *grpc.Server
	listener  *net.UnixListener
	resources map[string]*resource
	pods      map[string]map[string]Grant // by pod, then by container; survives on disk
	changed   chan struct{}
}

// resource is what one device plugin has told.
type resource struct {
	cc            *grpc.ClientConn // nil: the plugin is gone
	plugin        api.DevicePluginClient
	options       *api.DevicePluginOptions
	devices       map[string]*api.Device
	registrations int
}

// Grant is what a container was given of one resource.
type Grant struct {
	Resource string
	Devices  []string
	Env      map[string]string
}

// Ask is a container that asks for devices. What an init container has been given is given
// again to those after it.
type Ask struct {
	Container string
	Init      bool
	Count     int
}

// New makes a Kubelet on a directory of device plugins, which need not be there.
func New(t testing.TB, dir string) *Kubelet {
	k := &Kubelet{t: t, dir: dir, resources: map[string]*resource{}, changed: make(chan struct{})}
	t.Cleanup(k.Stop)
	return k
}

// Start starts it, with what its checkpoint remembers.
func (k *Kubelet) Start() {
	k.t.Helper()
	k.must(os.MkdirAll(k.dir, 0o750))
	k.pods = map[string]map[string]Grant{}
	if data, err := os.ReadFile(filepath.Join(k.dir, checkpoint)); err == nil {
		k.must(json.Unmarshal(data, &k.pods))
	}
	entries, err := os.ReadDir(k.dir)
	k.must(err)
	for _, e := range entries {
		if !e.IsDir() && e.Name() != checkpoint {
			k.must(os.RemoveAll(filepath.Join(k.dir, e.Name())))
		}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(k.dir, socket), Net: "unix"})
	k.must(err)
	k.listener, k.server = l, grpc.NewServer()
	api.RegisterRegistrationServer(k.server, k)
	go k.server.Serve(l)
}

// Stop ends it as a signal does, its socket removed.
func (k *Kubelet) Stop() {
	k.end(true)
}

// Kill ends it with its socket left behind.
func (k *Kubelet) Kill() { k.end(false) }

func (k *Kubelet) end(unlink bool) {
	if k.server == nil {
		return
	}
	k.listener.SetUnlinkOnClose(unlink)
	k.server.Stop()
	k.mu.Lock()
	for _, r := range k.resources {
		if r.cc != nil {
			r.cc.Close()
		}
	}
	k.resources = map[string]*resource{}
	k.mu.Unlock()
	k.server = nil
}

// Register takes a device plugin and connects to it, in place of the one before.
func (k *Kubelet) Register(ctx context.Context, in *api.RegisterRequest) (*api.Empty, error) {
	if !slices.Contains(api.SupportedVersions[:], in.Version) {
		return nil, fmt.Errorf("version %q is not supported", in.Version)
	}
	if domain, _, ok := strings.Cut(in.ResourceName, "/"); !ok || strings.HasSuffix(domain, "kubernetes.io") {
		return nil, fmt.Errorf("resource name %q is not that of an extended resource", in.ResourceName)
	}
	cc, err := grpc.NewClient("unix://"+filepath.Join(k.dir, in.Endpoint), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	plugin := api.NewDevicePluginClient(cc)
	asked, cancel := context.WithTimeout(ctx, dialWait)
	defer cancel()
	if _, err := plugin.GetDevicePluginOptions(asked, &api.Empty{}, grpc.WaitForReady(true)); err != nil {
		cc.Close()
		return nil, fmt.Errorf("failed to dial device plugin: %w", err)
	}
	k.change(func() {
		old := k.resources[in.ResourceName]
		r := &resource{cc: cc, plugin: plugin, options: in.Options, registrations: 1}
		if old != nil {
			r.devices, r.registrations = old.devices, old.registrations+1
			old.cc.Close() // as the older ones do; those of today leave it open
		}
		k.resources[in.ResourceName] = r
		go k.listen(r)
	})
	return &api.Empty{}, nil
}

// listen follows a plugin's devices. Those of one that is gone are unhealthy.
func (k *Kubelet) listen(r *resource) {
	stream, err := r.plugin.ListAndWatch(context.Background(), &api.Empty{})
	for err == nil {
		var list *api.ListAndWatchResponse
		if list, err = stream.Recv(); err == nil {
			k.change(func() {
				r.devices = map[string]*api.Device{}
				for _, d := range list.Devices {
					r.devices[d.ID] = d
				}
			})
		}
	}
	k.change(func() {
		for _, d := range r.devices {
			d.Health = api.Unhealthy
		}
	})
}

func (k *Kubelet) change(f func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f()
	close(k.changed)
	k.changed = make(chan struct{})
}

// Await waits until the devices of a resource are as ok wants them.
func (k *Kubelet) Await(resource, what string, ok func(map[string]*api.Device) bool) {
	k.t.Helper()
	timeout := time.After(Wait)
	for {
		k.mu.Lock()
		var devices map[string]*api.Device
		if r := k.resources[resource]; r != nil {
			devices = r.devices
		}
		done, changed := ok(devices), k.changed
		k.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			k.t.Fatalf("%s: %s did not come about; kubelet knows %v", resource, what, devices)
		}
	}
}

// AwaitHealthy waits until n devices of a resource can be given away.
func (k *Kubelet) AwaitHealthy(resource string, n int) {
	k.t.Helper()
	k.Await(resource, fmt.Sprintf("%d healthy devices", n), func(devices map[string]*api.Device) bool {
		return len(healthy(devices)) == n
	})
}

// Registrations is how often a resource was registered since Start.
func (k *Kubelet) Registrations(resource string) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	if r := k.resources[resource]; r != nil {
		return r.registrations
	}
	return 0
}

func healthy(devices map[string]*api.Device) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(devices)), func(id string) bool { return devices[id].Health != api.Healthy })
}

// Admit gives a pod's containers their devices, one container after the other, before any
// would be started. A pod that was admitted keeps what it has.
func (k *Kubelet) Admit(pod, resource string, asks ...Ask) (map[string]Grant, error) {
	if there, ok := k.pods[pod]; ok {
		return there, nil
	}
	granted := map[string]Grant{}
	var reusable []string
	for _, a := range asks {
		g, err := k.allocate(resource, reusable, a.Count)
		for status.Code(err) == codes.Canceled { // the plugin registered anew: the pod's controller makes it again
			g, err = k.allocate(resource, reusable, a.Count)
		}
		if err != nil {
			return nil, fmt.Errorf("UnexpectedAdmissionError: %w", err)
		}
		granted[a.Container] = g
		if a.Init {
			reusable = g.Devices
		}
	}
	k.pods[pod] = granted
	k.save()
	return granted, nil
}

// allocate chooses devices and has the plugin give them away.
func (k *Kubelet) allocate(resource string, reusable []string, n int) (Grant, error) {
	ctx, cancel := context.WithTimeout(context.Background(), Wait)
	defer cancel()
	k.mu.Lock()
	r := k.resources[resource]
	var free []string
	if r != nil {
		free = slices.DeleteFunc(healthy(r.devices), func(id string) bool { return k.inUse(id) || slices.Contains(reusable, id) })
	}
	k.mu.Unlock()
	chosen := slices.Clone(reusable[:min(n, len(reusable))])
	if r == nil || len(free)+len(chosen) < n {
		return Grant{}, fmt.Errorf("requested number of devices unavailable for %s. Requested: %d, Available: %d", resource, n, len(free))
	}
	if r.options.GetGetPreferredAllocationAvailable() && len(chosen) < n {
		out, err := r.plugin.GetPreferredAllocation(ctx, &api.PreferredAllocationRequest{ContainerRequests: []*api.ContainerPreferredAllocationRequest{
			{AvailableDeviceIDs: slices.Concat(free, chosen), MustIncludeDeviceIDs: chosen, AllocationSize: int32(n)}}})
		if err != nil {
			return Grant{}, err
		}
		chosen = out.ContainerResponses[0].DeviceIDs
	}
	out, err := r.plugin.Allocate(ctx, &api.AllocateRequest{ContainerRequests: []*api.ContainerAllocateRequest{{DevicesIds: chosen}}})
	if err != nil {
		return Grant{}, err
	}
	if len(chosen) != n || len(out.ContainerResponses) != 1 {
		return Grant{}, errors.New("no containers return in allocation response")
	}
	return Grant{Resource: resource, Devices: chosen, Env: out.ContainerResponses[0].Envs}, nil
}

// inUse tells whether a pod has a device.
func (k *Kubelet) inUse(id string) bool {
	for _, containers := range k.pods {
		for _, g := range containers {
			if slices.Contains(g.Devices, id) {
				return true
			}
		}
	}
	return false
}

// End forgets a pod that has ended.
func (k *Kubelet) End(pod string) {
	delete(k.pods, pod)
	k.save()
}

func (k *Kubelet) save() {
	data, err := json.Marshal(k.pods)
	k.must(err)
	k.must(os.WriteFile(filepath.Join(k.dir, checkpoint), data, 0o600))
}

func (k *Kubelet) must(err error) {
	k.t.Helper()
	if err != nil {
		k.t.Fatal(err)
	}
}

// Hang drops the connection to a plugin without any other sign.
func (k *Kubelet) Hang(resource string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.resources[resource].cc.Close()
	for _, d := range k.resources[resource].devices {
		d.Health = api.Unhealthy
	}
}
