package vppapi

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/memif"
)

// Limits of memif (VPP: src/plugins/memif).
const (
	// MaxSecret is the longest secret in bytes: the message has room for 24, of which VPP
	// overwrites the last with a zero.
	MaxSecret = 23
	// MaxMemifPath is the longest file name of a socket (struct sockaddr_un).
	MaxMemifPath = 107
	// DefaultRing and DefaultBuffer are what VPP takes for zero: entries, bytes.
	DefaultRing, DefaultBuffer = 1024, 2048
)

// Memif is a memif interface of which VPP is the server.
type Memif struct {
	Socket     string // file name, or [AbstractSocket]
	IP         bool   // it carries IP packets, not Ethernet frames
	RingSize   int    // entries, a power of 2; 0: DefaultRing
	BufferSize int    // bytes; 0: DefaultBuffer
	Secret     string
	MAC        [6]byte // of VPP's end; zero: VPP makes one up; none with IP
}

// AbstractSocket names an abstract socket in a network namespace, which VPP opens by its
// path (VPP: src/vppinfra/socket.c); in VPP's own if netns is empty, for which VPP 25.10
// would die if it were told.
func AbstractSocket(name, netns string) string {
	if netns == "" {
		return "abstract:" + name
	}
	return "abstract:" + name + ",netns_name=" + netns
}

// CreateMemif makes a memif interface on a socket of its own, whose number the caller has
// found free: it is the number in the interface's name. An [Error] that is
// api.ENTRY_ALREADY_EXISTS says that the number is taken by another socket,
// api.SUBIF_ALREADY_EXISTS that the interface is there, api.SYSCALL_ERROR_4 that the
// socket cannot be opened.
func (c *Client) CreateMemif(ctx context.Context, socket uint32, m Memif) (Index, error) {
	mode := memif.MEMIF_MODE_API_ETHERNET
	if m.IP {
		mode = memif.MEMIF_MODE_API_IP
	}
	reply := &memif.MemifCreateV2Reply{}
	err := c.makeMemif(ctx,
		one(&memif.MemifSocketFilenameAddDelV2{IsAdd: true, SocketID: socket, SocketFilename: m.Socket}, &memif.MemifSocketFilenameAddDelV2Reply{}),
		one(&memif.MemifCreateV2{
			Role: memif.MEMIF_ROLE_API_MASTER, Mode: mode, SocketID: socket,
			RingSize: uint32(m.RingSize), BufferSize: uint16(m.BufferSize), HwAddr: m.MAC, Secret: m.Secret,
		}, reply))
	if err == nil {
		return Index(reply.SwIfIndex), nil
	}
	switch {
	case errors.Is(err, api.SYSCALL_ERROR_4):
		// Of a socket that could not be opened VPP counts the interfaces wrongly: the next
		// would be made without a listener, and without an error.
		err = errors.Join(err, c.DeleteMemifSocket(ctx, socket))
	case reply.SwIfIndex != 0 && reply.Retval == 0:
		// The number is another's, and now there is an interface on his socket.
		err = errors.Join(err, c.call(ctx, one(&memif.MemifDelete{SwIfIndex: reply.SwIfIndex}, &memif.MemifDeleteReply{})))
	}
	return 0, err
}

// DeleteMemif deletes an interface and its socket. What is not there is no error.
func (c *Client) DeleteMemif(ctx context.Context, index Index, socket uint32) error {
	return c.call(ctx,
		one(&memif.MemifDelete{SwIfIndex: interface_types.InterfaceIndex(index)}, &memif.MemifDeleteReply{}, api.INVALID_SW_IF_INDEX, api.INVALID_INTERFACE, api.INVALID_ARGUMENT).
			after(func() { c.inv.gone(index) }),
		one(&memif.MemifSocketFilenameAddDelV2{SocketID: socket}, &memif.MemifSocketFilenameAddDelV2Reply{}, api.INVALID_ARGUMENT))
}

// DeleteMemifSocket deletes a socket that has no interface.
func (c *Client) DeleteMemifSocket(ctx context.Context, socket uint32) error {
	return c.call(ctx, one(&memif.MemifSocketFilenameAddDelV2{SocketID: socket}, &memif.MemifSocketFilenameAddDelV2Reply{}, api.INVALID_ARGUMENT))
}

// MemifFound is a memif interface as VPP lists it. VPP does not tell its secret, nor, of a
// server, the sizes of its ring (1) and its buffers (0).
type MemifFound struct {
	Memif
	Index  Index
	Number uint32 // of the socket
	ID     uint32
	Server bool
}

// Memifs lists all memif interfaces and all sockets, by number.
func (c *Client) Memifs(ctx context.Context) (all []MemifFound, sockets map[uint32]string, err error) {
	sockets = map[uint32]string{}
	err = c.call(ctx,
		dump(&memif.MemifSocketFilenameDump{}, func(d *memif.MemifSocketFilenameDetails) { sockets[d.SocketID] = text(d.SocketFilename) }),
		dump(&memif.MemifDump{}, func(d *memif.MemifDetails) {
			all = append(all, MemifFound{
				Memif:  Memif{IP: d.Mode == memif.MEMIF_MODE_API_IP, RingSize: int(d.RingSize), BufferSize: int(d.BufferSize), MAC: d.HwAddr},
				Index:  Index(d.SwIfIndex),
				Number: d.SocketID,
				ID:     d.ID,
				Server: d.Role == memif.MEMIF_ROLE_API_MASTER,
			})
		}))
	for i := range all {
		all[i].Socket = strings.TrimSpace(sockets[all[i].Number])
	}
	return all, sockets, err
}

// MemifName is the name of the interface on the socket with a number.
func MemifName(socket uint32) string { return fmt.Sprintf("memif%d/0", socket) }

// SocketNumber reads the number of a memif's socket from its name, memif<number>/<id>.
func SocketNumber(name string) (uint32, bool) {
	s, ok := strings.CutPrefix(name, "memif")
	s, _, found := strings.Cut(s, "/")
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), ok && found && err == nil
}
