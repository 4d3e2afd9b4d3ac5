package vppfake

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"sync"

	"go.fd.io/govpp/api"
	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/memclnt"
	"go.fd.io/govpp/codec"
)

// The socket transport (VPP: src/vlibmemory/socket_api.c): a header of 16 bytes with the
// length of the message; requests hold their id, the client's index and a context,
// replies their id and the context, events their id and the client's index.
const (
	headerSize     = 16
	lengthAt       = 8
	sockclntCreate = 15
	maxMessage     = 1 << 20
)

// client is one connection. All but its output is guarded by VPP.mu.
type client struct {
	sock   net.Conn
	index  uint32
	events bool // it wants those of interfaces
	table  *table

	bfdEvents bool

	mu     sync.Mutex
	filled *sync.Cond
	out    []byte
	closed bool
}

// accept serves who connects to one run of VPP.
func (v *VPP) accept(l net.Listener, w *world, t *table) {
	for index := uint32(1); ; index++ {
		sock, err := l.Accept()
		if err != nil {
			return
		}
		c := &client{sock: sock, index: index, table: t}
		c.filled = sync.NewCond(&c.mu)
		v.mu.Lock()
		alive := v.world == w
		if alive {
			v.clients[c] = true
			v.done.Go(func() { v.serve(c, w) })
			v.done.Go(func() { v.write(c) })
		}
		v.mu.Unlock()
		if !alive {
			sock.Close()
		}
	}
}

// serve answers one client's requests, in order.
func (v *VPP) serve(c *client, w *world) {
	r := bufio.NewReaderSize(c.sock, 64<<10)
	for {
		body, err := next(r)
		if err != nil {
			break
		}
		v.mu.Lock()
		for v.hung && v.world == w {
			v.changed.Wait()
		}
		if v.world != w {
			v.mu.Unlock()
			break
		}
		on := v.handle(c, body)
		if on && r.Buffered() == 0 {
			v.flush() // events come after the answers to all that came in one write
		}
		v.mu.Unlock()
		if !on {
			break
		}
	}
	c.sock.Close()
	c.mu.Lock()
	c.closed = true
	c.filled.Signal()
	c.mu.Unlock()
	v.mu.Lock()
	delete(v.clients, c)
	v.mu.Unlock()
}

func next(r io.Reader) ([]byte, error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(header[lengthAt:])
	if n < 2 || n > maxMessage {
		return nil, io.ErrUnexpectedEOF
	}
	body := make([]byte, n)
	_, err := io.ReadFull(r, body)
	return body, err
}

// handle carries out one message. What VPP does not know or cannot read it drops without
// an answer. It tells whether to go on with the client. v.mu is held.
func (v *VPP) handle(c *client, body []byte) (on bool) {
	id := binary.BigEndian.Uint16(body)
	if id == sockclntCreate {
		c.send(&memclnt.SockclntCreateReply{Index: c.index, MessageTable: c.table.names}, sockclntCreate+1, 0)
		return true
	}
	m := c.table.byID[id]
	if m == nil || len(body) < 10 {
		return true
	}
	w := v.world
	if m.mutates {
		if !v.struck(w, false) {
			return false
		}
		v.mutations = append(v.mutations, m.name)
	}
	at := call{v: v, w: v.world, c: c, code: int32(v.refusals[m.name])}
	context := binary.BigEndian.Uint32(body[6:])
	replies := m.serve(&at, body)
	if m.mutates && !v.struck(w, true) {
		return false
	}
	for _, reply := range replies {
		c.send(reply, c.table.ids[reply.GetMessageName()], context)
	}
	return true
}

// send queues a message; the client may be slow to read.
func (c *client) send(m api.Message, id uint16, context uint32) {
	data, err := codec.EncodeMsg(m, id)
	if err != nil {
		panic(err) // a message of our own making
	}
	at := 2
	if m.GetMessageType() == api.RequestMessage { // as VPP has it of rx-placement's details
		at = 6
	}
	if len(data) >= at+4 {
		binary.BigEndian.PutUint32(data[at:], context)
	}
	var header [headerSize]byte
	binary.BigEndian.PutUint32(header[lengthAt:], uint32(len(data)))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = append(append(c.out, header[:]...), data...)
	c.filled.Signal()
}

// write sends what is queued.
func (v *VPP) write(c *client) {
	for {
		c.mu.Lock()
		for len(c.out) == 0 && !c.closed {
			c.filled.Wait()
		}
		out := c.out
		c.out = nil
		closed := c.closed
		c.mu.Unlock()
		if closed {
			return
		}
		if _, err := c.sock.Write(out); err != nil {
			return
		}
	}
}

// flush sends what has happened to interfaces since the last time. As with VPP, an event
// says what happened, not how the interface is: two that came together are one with the
// flags of both. v.mu is held.
func (v *VPP) flush() {
	for _, s := range v.world.signals {
		for c := range v.clients {
			if c.events {
				e := &interfaces.SwInterfaceEvent{SwIfIndex: s.index, Flags: s.flags, Deleted: s.deleted}
				c.send(e, c.table.ids[e.GetMessageName()], c.index)
			}
		}
	}
	v.world.signals = nil
}

// cut is a string of the API up to its end.
func cut(s string) string {
	s, _, _ = strings.Cut(s, "\x00")
	return s
}
