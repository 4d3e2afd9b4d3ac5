package vppapi

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/bfd"
	"go.fd.io/govpp/binapi/dev"
	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/memclnt"
	"go.fd.io/govpp/binapi/vpe"
	"go.fd.io/govpp/codec"
)

// The socket transport (VPP: src/vlibmemory/socket_api.c). Every message follows a header
// of 16 bytes that holds its length; requests begin with their id, the client's index
// and a context that the reply repeats.
const (
	headerSize     = 16
	lengthAt       = 8
	sockclntCreate = 15 // the one message whose id is fixed
	maxMessage     = 64 << 20
)

// conn is one connection, from its handshake to its end.
type conn struct {
	sock   net.Conn
	reader *bufio.Reader
	client uint32            // our index
	ids    map[string]uint16 // by name_crc; constant after the handshake
	events map[uint16]func() api.Message
	odd    map[uint16]bool // answers that begin as requests do, with a client's index before the context
	last   atomic.Int64    // when something was read last, Unix nanoseconds
	silent bool            // guarded by Client.mu

	write   sync.Mutex
	mu      sync.Mutex
	waiting map[uint32]*pending // by context
	context uint32
	err     error // why nothing can be asked any more
}

func newConn(sock net.Conn) *conn {
	return &conn{sock: sock, reader: bufio.NewReaderSize(sock, 64<<10), waiting: map[uint32]*pending{}}
}

// heard is how long ago something was read.
func (k *conn) heard() time.Duration { return time.Duration(time.Now().UnixNano() - k.last.Load()) }

// handshake introduces us and learns the numbers of VPP's messages.
func (k *conn) handshake(name string, until time.Time) error {
	if err := k.sock.SetDeadline(until); err != nil {
		return err
	}
	data, err := codec.EncodeMsg(&memclnt.SockclntCreate{Name: name}, sockclntCreate)
	if err != nil {
		return err
	}
	if _, err := k.sock.Write(frame(nil, data)); err != nil {
		return err
	}
	body, err := k.next()
	if err != nil {
		return fmt.Errorf("no answer to the introduction: %w", err)
	}
	reply := &memclnt.SockclntCreateReply{}
	if err := codec.DecodeMsg(body, reply); err != nil {
		return err
	}
	if reply.Response != 0 {
		return fmt.Errorf("VPP refused the connection (%d)", reply.Response)
	}
	k.client, k.ids = reply.Index, make(map[string]uint16, len(reply.MessageTable))
	for _, m := range reply.MessageTable {
		k.ids[strings.TrimSuffix(text(m.Name), "\x13")] = m.Index
	}
	k.odd = map[uint16]bool{}
	for _, m := range []api.Message{&interfaces.SwInterfaceRxPlacementDetails{}, &dev.DevCreatePortIfReply{}} { // so say interface.api and dev.api
		if id, ok := k.id(m); ok {
			k.odd[id] = true
		}
	}
	k.events = map[uint16]func() api.Message{}
	for _, event := range []func() api.Message{
		func() api.Message { return &interfaces.SwInterfaceEvent{} },
		func() api.Message { return &bfd.BfdUDPSessionEvent{} },
	} {
		if id, ok := k.id(event()); ok {
			k.events[id] = event
		}
	}
	k.last.Store(time.Now().UnixNano())
	return k.sock.SetDeadline(time.Time{})
}

// frame appends a message with its header.
func frame(buf, message []byte) []byte {
	var header [headerSize]byte
	binary.BigEndian.PutUint32(header[lengthAt:], uint32(len(message)))
	return append(append(buf, header[:]...), message...)
}

// next reads one message. It is the caller's.
func (k *conn) next() ([]byte, error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(k.reader, header[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(header[lengthAt:])
	if n < 2 || n > maxMessage {
		return nil, fmt.Errorf("a message of %d bytes", n)
	}
	body := make([]byte, n)
	_, err := io.ReadFull(k.reader, body)
	return body, err
}

// read hands out what VPP sends until the connection ends.
func (k *conn) read(event func(api.Message)) error {
	for {
		body, err := k.next()
		if errors.Is(err, io.EOF) {
			err = errors.New("VPP has closed the connection")
		}
		if err != nil {
			return err
		}
		k.last.Store(time.Now().UnixNano())
		id := binary.BigEndian.Uint16(body)
		if make, ok := k.events[id]; ok {
			m := make()
			if err := codec.DecodeMsg(body, m); err == nil {
				event(m)
			}
			continue
		}
		at := 2
		if k.odd[id] {
			at = 6
		}
		if len(body) >= at+4 {
			k.deliver(binary.BigEndian.Uint32(body[at:]), body)
		}
	}
}

// id is the number of a message; 0 if VPP has none that is the same.
func (k *conn) id(m api.Message) (uint16, bool) {
	id, ok := k.ids[m.GetMessageName()+"_"+m.GetCrcString()]
	return id, ok
}

// encode makes a framed request.
func (k *conn) encode(buf []byte, m api.Message, context uint32) ([]byte, error) {
	id, ok := k.id(m)
	if !ok {
		return buf, fmt.Errorf("%w: %s", ErrUnknown, k.missing(m))
	}
	data, err := codec.EncodeMsg(m, id)
	if err != nil {
		return buf, fmt.Errorf("%s: %w", m.GetMessageName(), err)
	}
	binary.BigEndian.PutUint32(data[2:], k.client)
	binary.BigEndian.PutUint32(data[6:], context)
	return frame(buf, data), nil
}

// askVersion asks a VPP whose messages differ for its version, before anything else is
// read from it.
func (k *conn) askVersion(timeout time.Duration) string {
	unknown := "of an unknown release"
	request, err := k.encode(nil, &vpe.ShowVersion{}, 1)
	if err != nil || k.sock.SetDeadline(time.Now().Add(timeout)) != nil {
		return unknown
	}
	if _, err := k.sock.Write(request); err != nil {
		return unknown
	}
	body, err := k.next()
	reply := &vpe.ShowVersionReply{}
	if err != nil || codec.DecodeMsg(body, reply) != nil {
		return unknown
	}
	return reply.Version
}
