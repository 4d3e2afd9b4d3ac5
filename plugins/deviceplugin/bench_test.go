package deviceplugin

import (
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// BenchmarkAllocate is a device given away as kubelet asks for it, one pod after the other,
// on a node with 64: over the plugin's socket, and kept on the disk.
func BenchmarkAllocate(b *testing.B) {
	w := newWorld(b, 64).start()
	w.kubelet.Start()
	w.kubelet.AwaitHealthy(radio, 64)
	cc, err := grpc.NewClient("unix://"+w.plugin.servers[0].path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	defer cc.Close()
	plugin := api.NewDevicePluginClient(cc)
	n := 0
	for b.Loop() {
		_, err := plugin.Allocate(b.Context(), &api.AllocateRequest{ContainerRequests: []*api.ContainerAllocateRequest{{DevicesIds: []string{vf(n % 64)}}}})
		if err != nil {
			b.Fatal(err)
		}
		n++
	}
}
