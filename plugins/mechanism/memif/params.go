package memif

import (
	"fmt"
	"maps"
	"math/bits"
	"os"
	"slices"
	"strconv"
	"strings"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/vppapi"
)

// Parameters of the mechanism. SocketFile and ID are what the workload is told.
const (
	// SocketFile is where the workload connects: a path, or @NAME for an abstract socket in
	// its network namespace (as NSM's clients expect).
	SocketFile = "socketfile"
	ID         = "id" // of the interface on its socket, always 0
	// Role is what the workload is on a socket that two share: client or server.
	Role = "role"
	// Socket is a name under which the socket can be found, too, one for the whole node.
	Socket = "socket"
	// NetNS asks for an abstract socket in that network namespace.
	NetNS      = "netns"
	Owner      = models.ParamOwner
	Mode       = models.ParamMode
	Secret     = "secret"      // at most vppapi.MaxSecret bytes
	RingSize   = "ring-size"   // entries, a power of 2
	BufferSize = "buffer-size" // bytes
	RxQueues   = "rx-queues"   // of the workload
	TxQueues   = "tx-queues"
)

var known = []string{SocketFile, ID, Role, Socket, NetNS, Owner, Mode, Secret, RingSize, BufferSize, RxQueues, TxQueues}

// ignored are parameters that Network Service Mesh defines and its clients send unasked.
var ignored = []string{"inodeURL", "netnsInode", "netNSURL", "MTU"}

// Limits of the numbers (memif protocol: the server says at most 2^14 entries; a queue
// costs a worker's time).
const (
	maxRing   = 1 << 14
	minBuffer = 256
	maxBuffer = 16 << 10
	maxQueues = 16
)

// params are the parameters, parsed.
type params struct {
	socket string
	netns  string // canonical; empty: a socket in the file system
	models.Access
	secret string
	hints  [4]int // by hintKeys; 0: its own choice
}

// hintKeys are what a memif client decides: VPP, the server, takes what it makes.
var hintKeys = [4]string{RingSize, BufferSize, RxQueues, TxQueues}

// Sizes are what a workload is told to make that does not say itself; 0: its own choice.
type Sizes struct {
	Ring   int // entries, a power of 2
	Buffer int // bytes
	Queues int // in each direction
}

func (s Sizes) hints() [4]int { return [4]int{s.Ring, s.Buffer, s.Queues, s.Queues} }

// Validate checks the parameters of an attachment. An error is a *models.FieldError
// whose field is the parameter's name.
func (m *Mechanism) Validate(parameters map[string]string) error {
	_, err := parse(parameters)
	return err
}

func parse(in map[string]string) (p params, err error) {
	for _, key := range slices.Sorted(maps.Keys(in)) {
		if !slices.Contains(known, key) && !slices.Contains(ignored, key) {
			return p, field(key, "is not a parameter of %s; it has %s", Type, strings.Join(known, ", "))
		}
	}
	if p.socket = in[Socket]; p.socket != "" && !models.ValidName(p.socket) {
		return p, field(Socket, "%q must be 1–63 of a-z 0-9 - . and start with a letter or digit; it is a name, not a path", p.socket)
	}
	if in[NetNS] != "" {
		if p.netns, err = linux.Canonical(in[NetNS]); err != nil {
			return p, field(NetNS, "%v", err)
		}
	}
	if s := in[ID]; s != "" && s != "0" {
		return p, field(ID, "%q cannot be had; the interface has id 0 on a socket of its own", s)
	}
	if p.Access, err = models.ParseAccess(in, os.Getuid(), os.Getgid()); err != nil {
		return p, err
	}
	p.secret = in[Secret]
	if len(p.secret) > vppapi.MaxSecret || strings.ContainsRune(p.secret, 0) {
		return p, field(Secret, "has %d bytes; VPP keeps at most %d, none of them zero", len(p.secret), vppapi.MaxSecret)
	}
	for i, n := range []struct {
		key      string
		min, max int
	}{{RingSize, 2, maxRing}, {BufferSize, minBuffer, maxBuffer}, {RxQueues, 1, maxQueues}, {TxQueues, 1, maxQueues}} {
		s := in[n.key]
		if s == "" {
			continue
		}
		v, err := strconv.Atoi(s)
		if err != nil || v < n.min || v > n.max || (n.key == RingSize && bits.OnesCount(uint(v)) != 1) {
			return p, field(n.key, "%q cannot be; use %s", s, rangeOf(n.key, n.min, n.max))
		}
		p.hints[i] = v
	}
	return p, nil
}

func rangeOf(key string, from, to int) string {
	if key == RingSize {
		return fmt.Sprintf("a power of 2 from %d to %d", from, to)
	}
	return fmt.Sprintf("%d to %d", from, to)
}

func field(name, format string, args ...any) error {
	return &models.FieldError{Field: name, Reason: fmt.Sprintf(format, args...)}
}
