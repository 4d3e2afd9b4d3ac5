package vppfake

import (
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/memif"
)

// memifSocket is a numbered file name (VPP: src/plugins/memif/memif.c). Its count of
// interfaces falls below zero when it cannot be opened, as VPP's does: the next interface
// is then made without anything that listens.
type memifSocket struct {
	path     string
	count    int
	server   bool
	ids      map[uint32]bool
	listener io.Closer
}

func memifMessages(t *table) {
	on(t, true, memifSocketAddDel)
	on(t, true, memifCreate)
	on(t, true, func(at *call, q *memif.MemifDelete, _ *memif.MemifDeleteReply) int32 {
		i, code := at.w.get(q.SwIfIndex, memifs)
		if code == 0 {
			at.w.remove(i)
		}
		return code
	})
	list(t, func(at *call, _ *memif.MemifSocketFilenameDump) (all []*memif.MemifSocketFilenameDetails) {
		for number, s := range at.w.sockets {
			all = append(all, &memif.MemifSocketFilenameDetails{SocketID: number, SocketFilename: s.path})
		}
		return all
	})
	list(t, func(at *call, _ *memif.MemifDump) (all []*memif.MemifDetails) {
		for _, i := range sorted(at.w.interfaces) {
			if i.kind != memifs {
				continue
			}
			d := &memif.MemifDetails{
				SwIfIndex: i.index, HwAddr: i.mac, ID: i.id, SocketID: i.number, Flags: i.flags(), IfName: i.name,
				RingSize: 1, // what was negotiated, by a client only; a server shows 1<<0, and 0 as its buffers' size
			}
			if i.ipMode {
				d.Mode = memif.MEMIF_MODE_API_IP
			}
			if !i.server {
				d.Role = memif.MEMIF_ROLE_API_SLAVE
			}
			all = append(all, d)
		}
		return all
	})
}

// looked tells whether VPP has ended looking through its memif interfaces, which the first
// has it do.
func (w *world) looked(took time.Duration) bool {
	if w.looks.IsZero() {
		w.looks = time.Now().Add(took)
		return true
	}
	return !time.Now().Before(w.looks)
}

func memifSocketAddDel(at *call, q *memif.MemifSocketFilenameAddDelV2, r *memif.MemifSocketFilenameAddDelV2Reply) int32 {
	path := cut(q.SocketFilename)
	s := at.w.sockets[q.SocketID]
	r.SocketID = q.SocketID
	switch {
	case q.SocketID == 0 || q.SocketID == ^uint32(0) || !q.IsAdd && s == nil:
		return int32(api.INVALID_ARGUMENT)
	case !q.IsAdd && s.count > 0:
		return int32(api.UNEXPECTED_INTF_STATE)
	case !q.IsAdd:
		delete(at.w.sockets, q.SocketID)
		return 0
	case path == "":
		return int32(api.INVALID_ARGUMENT)
	}
	if !strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "abstract:") && !strings.HasPrefix(path, "@") {
		path = "/run/vpp/" + path
	}
	if s != nil && s.path != path {
		return int32(api.ENTRY_ALREADY_EXISTS)
	}
	if s == nil {
		at.w.sockets[q.SocketID] = &memifSocket{path: path}
	}
	return 0
}

func memifCreate(at *call, q *memif.MemifCreateV2, r *memif.MemifCreateV2Reply) int32 {
	ring := q.RingSize
	if ring == 0 {
		ring = 1024
	}
	s, server := at.w.sockets[q.SocketID], q.Role == memif.MEMIF_ROLE_API_MASTER
	switch {
	case ring&(ring-1) != 0 || s == nil:
		return int32(api.INVALID_ARGUMENT)
	case s.count > 0 && (s.server != server || s.ids[q.ID]):
		return int32(api.SUBIF_ALREADY_EXISTS)
	}
	if s.count == 0 {
		s.ids, s.server = map[uint32]bool{}, server
	}
	i := &iface{
		kind: memifs, name: fmt.Sprintf("memif%d/%d", q.SocketID, q.ID), mac: q.HwAddr, mtu: 9000, socket: s.path,
		secret: cut(q.Secret), ring: int(ring), id: q.ID, number: q.SocketID, ipMode: q.Mode == memif.MEMIF_MODE_API_IP, server: server,
	}
	if i.ipMode {
		i.mac, i.mtu = [6]byte{}, 0
	} else if i.mac == [6]byte{} {
		i.mac = [6]byte{2, 0xfe, 0, 0, byte(q.SocketID >> 8), byte(q.SocketID)}
	}
	if !at.w.looked(at.v.o.look) {
		at.v.die()
		return 0
	}
	at.w.put(i)
	r.SwIfIndex = i.index
	i.free = func() {
		delete(s.ids, i.id)
		if s.count--; s.count == 0 && s.listener != nil {
			s.listener.Close()
			s.listener = nil
		}
	}
	if server && s.count == 0 {
		l, err := listen(s.path, syscall.SOCK_SEQPACKET, 0o775)
		if err != nil {
			at.w.remove(i)
			return int32(api.SYSCALL_ERROR_4)
		}
		s.listener = l
	}
	s.count++
	s.ids[q.ID] = true
	return 0
}

// listen opens a unix socket as VPP does. Of an abstract one only the name is kept: it is
// in a namespace, which this package does not switch.
func listen(path string, how int, mode os.FileMode) (io.Closer, error) {
	if !strings.HasPrefix(path, "/") {
		return nil, nil
	}
	if len(path) > 107 {
		return nil, syscall.ENAMETOOLONG
	}
	if how == syscall.SOCK_SEQPACKET {
		if err := clearStale(path); err != nil {
			return nil, err
		}
	} else if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	fd, err := syscall.Socket(syscall.AF_UNIX, how|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), path)
	if err = syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}); err == nil {
		err = os.Chmod(path, mode) // VPP sets the umask, which here would be everybody's
	}
	if err == nil {
		err = syscall.Listen(fd, 5)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// clearStale removes a socket on which nobody listens; anything else is in the way.
func clearStale(path string) error {
	s, err := os.Stat(path)
	if err != nil {
		return nil
	}
	if s.Mode()&os.ModeSocket == 0 {
		return syscall.EEXIST
	}
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	if err := syscall.Connect(fd, &syscall.SockaddrUnix{Name: path}); err != syscall.ECONNREFUSED {
		return syscall.EADDRINUSE
	}
	return os.Remove(path)
}
