package house

// module is this project's import path.
const module = "go.patchbay.dev"

// Room is a folder with everything below it that is no room of its own.
type Room struct {
	Folder string
	Rooms  []string // folders of this project that it may import, with what is below them; "*": all
	Libs   []string // import paths of others that it may import, with what is below them; "*": all
}

// Rooms is who may import whom. Tests are free, but for the agent.
var Rooms = []Room{
	{Folder: "models", Libs: []string{protobuf}},
	{Folder: "negotiation", Rooms: []string{"models"}},

	{Folder: "vppapi", Libs: []string{"go.fd.io/govpp"}},
	{Folder: "vppapi/vppfake", Rooms: []string{"vppapi"}, Libs: []string{"go.fd.io/govpp", sys}},
	{Folder: "vppapi/vpptest", Rooms: []string{"vppapi", "vppapi/vppfake", "tests/report"}, Libs: []string{sys}},

	{Folder: "plugins/store", Rooms: []string{"models"}, Libs: []string{"go.etcd.io", "go.uber.org/zap", grpc, protobuf, sys}},
	{Folder: "plugins/reconcile"},
	{Folder: "plugins/fdpass", Libs: []string{grpc, sys}},
	{Folder: "plugins/identity", Libs: []string{"github.com/spiffe/go-spiffe/v2", grpc}},
	{Folder: "plugins/linux", Libs: []string{"github.com/vishvananda/netlink", sys}},
	{Folder: "plugins/crossconnect", Rooms: []string{"models", "plugins/reconcile", "plugins/store"}, Libs: []string{protobuf}},
	{Folder: "plugins/xconnect", Rooms: []string{"models", "plugins/reconcile", "vppapi"}},
	{Folder: "plugins/manager", Rooms: []string{"models", "negotiation", "plugins/store", "plugins/fdpass", "plugins/identity"},
		Libs: []string{"github.com/networkservicemesh/api", "github.com/google/uuid", grpc, protobuf}},
	{Folder: "plugins/bfd", Rooms: []string{"models", "vppapi"}, Libs: []string{sys}},
	{Folder: "plugins/tunnel", Rooms: []string{"models", "plugins/reconcile", "vppapi"}},
	{Folder: "plugins/bridge", Rooms: []string{"models", "plugins/bridge", "plugins/linux", "plugins/reconcile", "plugins/store", "vppapi"}, Libs: []string{protobuf, sys}},
	{Folder: "plugins/sriov", Rooms: []string{"models", "plugins/reconcile", "plugins/linux"}, Libs: []string{sys}},
	{Folder: "plugins/deviceplugin", Rooms: []string{"plugins/sriov", "plugins/deviceplugin"},
		Libs: []string{"github.com/fsnotify/fsnotify", "github.com/google/uuid", "k8s.io/kubelet/pkg/apis", grpc, protobuf}},
	{Folder: "plugins/mechanism", Rooms: []string{"models", "negotiation", "plugins/reconcile", "vppapi", "plugins/linux", "plugins/tunnel", "plugins/sriov"},
		Libs: []string{sys, "github.com/cilium/ebpf"}},
	{Folder: "plugins/admin", Rooms: []string{"models", "negotiation", "plugins/admin", "plugins/bridge", "plugins/crossconnect", "plugins/fdpass", "plugins/manager", "plugins/sriov", "plugins/store"},
		Libs: []string{grpc, protobuf}},
	{Folder: "plugins/metrics", Rooms: []string{"models", "plugins/crossconnect", "plugins/reconcile", "plugins/sriov"},
		Libs: []string{"github.com/prometheus/client_golang", grpc}},

	{Folder: "agent", Rooms: []string{"*"}, Libs: []string{"*"}},
	{Folder: "agent/config", Rooms: []string{"models"}, Libs: []string{"github.com/spf13"}},
	{Folder: "tests", Rooms: []string{"*"}, Libs: []string{"*"}},
}

const (
	protobuf = "google.golang.org/protobuf"
	grpc     = "google.golang.org/grpc"
	sys      = "golang.org/x/sys"
)

// Only is what one room keeps for itself, whatever else the others may import.
type Only struct {
	Lib    string // import path, with what is below it
	Folder string
}

// Onlys are the libraries behind which the rooms hide something.
var Onlys = []Only{
	{"go.fd.io/govpp", "vppapi"},
	{"go.etcd.io", "plugins/store"},
	{"github.com/vishvananda", "plugins/linux"},
	{"github.com/cilium/ebpf", "plugins/mechanism/vfio"},
	{module + "/agent", "agent"},
}

// Setns is how a thread switches namespaces; one room does it.
var Setns = struct {
	Names  []string // of golang.org/x/sys/unix and syscall
	Folder string
}{[]string{"Setns", "SYS_SETNS"}, "plugins/linux"}

// Lines that a file may have: one subject, which can be read at one sitting.
const (
	maxLines     = 400
	maxTestLines = 600
)
