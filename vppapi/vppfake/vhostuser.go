package vppfake

import (
	"fmt"
	"os"
	"syscall"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/vhost_user"
)

// vhostMessages adds the vhost-user plugin (VPP: src/plugins/vhost).
func vhostMessages(t *table) {
	on(t, true, vhostCreate)
	on(t, true, func(at *call, q *vhost_user.DeleteVhostUserIf, _ *vhost_user.DeleteVhostUserIfReply) int32 {
		i, code := at.w.get(q.SwIfIndex, vhosts)
		if code != 0 {
			return code
		}
		if i.server {
			os.Remove(i.socket) // VPP does not look whether it could
		}
		at.w.remove(i)
		return 0
	})
	list(t, func(at *call, q *vhost_user.SwInterfaceVhostUserDump) (all []*vhost_user.SwInterfaceVhostUserDetails) {
		for _, i := range sorted(at.w.interfaces) {
			if i.kind == vhosts && (q.SwIfIndex == none || q.SwIfIndex == i.index) {
				all = append(all, &vhost_user.SwInterfaceVhostUserDetails{SwIfIndex: i.index, InterfaceName: i.name, IsServer: i.server, SockFilename: i.socket})
			}
		}
		return all
	})
}

func vhostCreate(at *call, q *vhost_user.CreateVhostUserIfV2, r *vhost_user.CreateVhostUserIfV2Reply) int32 {
	path := cut(q.SockFilename)
	r.SwIfIndex = none
	if path == "" {
		return int32(api.INVALID_ARGUMENT)
	}
	instances := map[string]bool{}
	for _, i := range at.w.interfaces {
		if i.kind == vhosts && i.socket == path {
			r.SwIfIndex = i.index
			return int32(api.IF_ALREADY_EXISTS)
		}
		instances[i.name] = true
	}
	i := &iface{kind: vhosts, mac: q.MacAddress, mtu: 9000, socket: path, server: q.IsServer, tag: cut(q.Tag)}
	if !q.UseCustomMac {
		i.mac = [6]byte{2, 0xfe, 0, 1, 0, byte(len(at.w.interfaces))}
	}
	for n := 0; i.name == "" || instances[i.name]; n++ {
		i.name = fmt.Sprintf("VirtualEthernet0/0/%d", n)
	}
	if i.server {
		l, err := listen(path, syscall.SOCK_STREAM, 0o755)
		if err != nil {
			return int32(api.SYSCALL_ERROR_2)
		}
		i.free = func() { closeAll(l) }
	}
	at.w.put(i)
	r.SwIfIndex = i.index
	return 0
}
