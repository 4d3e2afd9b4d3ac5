package workload

import (
	"context"
	"os/exec"

	"github.com/networkservicemesh/api/pkg/api/networkservice"
)

// alive reports whether every address of the endpoint answers a ping, as the liveness
// check of NSM's kernel client (sdk-kernel's KernelLivenessCheck) does.
func alive(ctx context.Context, conn *networkservice.Connection) bool {
	for _, address := range conn.GetContext().GetIpContext().GetDstIPNets() {
		if exec.CommandContext(ctx, "ping", "-n", "-q", "-c", "1", address.IP.String()).Run() != nil {
			return false
		}
	}
	return true
}
