package vppapi

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/memclnt"
	"go.fd.io/govpp/codec"
)

// Error is the code by which VPP refuses a call (VPP: src/vnet/error.h).
type Error = api.VPPApiError

// ErrUnknown: VPP has no such message, because a plugin is not loaded.
var ErrUnknown = errors.New("VPP does not know the message")

// exchange is a request and what is to become of its answer.
type exchange struct {
	request api.Message
	reply   api.Message       // filled; nil: a dump, with any number of details
	detail  func(body []byte) // takes one detail of a dump
	fine    []Error           // refusals that mean that all is well already
	ended   func()            // run by the goroutine that reads, once all is well; nil: nothing

	answered bool
	took     time.Duration // until it was answered
	err      error
}

// after has f run before anything that VPP says later is looked at.
func (x *exchange) after(f func()) *exchange {
	x.ended = f
	return x
}

// well turns a refusal that is none into nil.
func (x *exchange) well(err error) error {
	for _, fine := range x.fine {
		if errors.Is(err, fine) {
			return nil
		}
	}
	return err
}

// one is a request with one reply. Refusals among fine are none.
func one(request, reply api.Message, fine ...Error) *exchange {
	return &exchange{request: request, reply: reply, fine: fine}
}

// dump is a request with any number of details as its answer.
func dump[D any, P interface {
	*D
	api.Message
}](request api.Message, each func(P)) *exchange {
	return &exchange{request: request, detail: func(body []byte) {
		d := P(new(D))
		if err := codec.DecodeMsg(body, d); err == nil {
			each(d)
		}
	}}
}

// pending waits for the message that ends an exchange: its reply, or the reply of the
// ping behind a dump.
type pending struct {
	x    *exchange
	last bool // what comes ends the exchange; else it is a detail
	of   *batch
}

// batch is the exchanges of one call. It is guarded by conn.mu.
type batch struct {
	began time.Time
	left  int           // that are not answered
	done  chan struct{} // closed by the last answer: who waits is woken once
}

func (p *pending) finish(err error) {
	x, b := p.x, p.of
	x.answered, x.took, x.err = true, time.Since(b.began), x.well(err)
	if x.err == nil && x.ended != nil {
		x.ended()
	}
	if b.left--; b.left == 0 {
		close(b.done)
	}
}

// call sends requests in one write and waits for all answers: what VPP does for them, it
// does one after the other without being asked again. The error joins those of all; each
// names its message, and wraps an Error where VPP has refused. What follows a request
// that VPP refused is carried out all the same.
func (c *Client) call(ctx context.Context, exchanges ...*exchange) error {
	c.mu.Lock()
	k, why := c.conn, c.why
	if k != nil && k.silent {
		k = nil
	}
	c.mu.Unlock()
	if k == nil {
		return why
	}
	return c.exchange(ctx, k, exchanges...)
}

func (c *Client) exchange(ctx context.Context, k *conn, exchanges ...*exchange) error {
	if len(exchanges) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	b := &batch{began: time.Now(), left: len(exchanges), done: make(chan struct{})}
	contexts, err := c.send(ctx, k, exchanges, b)
	if err == nil {
		select {
		case <-b.done:
		case <-ctx.Done():
			err = fmt.Errorf("VPP has not answered in time: %w", ctx.Err())
		}
	}
	if err != nil {
		k.forget(contexts) // nobody writes to the exchanges any more
	}
	var errs []error
	for _, x := range exchanges {
		if x.answered {
			errs = append(errs, c.finished(x))
		}
	}
	if err != nil {
		name := exchanges[0].request.GetMessageName()
		c.o.OnCall(name, time.Since(b.began), err)
		return fmt.Errorf("%s: %w", name, err)
	}
	return errors.Join(errs...)
}

// send encodes and writes the requests and notes who waits for what.
func (c *Client) send(ctx context.Context, k *conn, exchanges []*exchange, b *batch) (contexts []uint32, err error) {
	var (
		waiting []*pending
		data    []byte
		base    = k.reserve(2 * len(exchanges))
	)
	add := func(p *pending, m api.Message) {
		if err == nil {
			context := base + uint32(len(contexts))
			data, err = k.encode(data, m, context)
			contexts, waiting = append(contexts, context), append(waiting, p)
		}
	}
	for _, x := range exchanges {
		if c.o.Trace != nil {
			c.o.Trace(x.request)
		}
		add(&pending{x: x, last: x.reply != nil, of: b}, x.request)
		if x.reply == nil {
			add(&pending{x: x, last: true, of: b}, &memclnt.ControlPing{})
		}
	}
	if err == nil {
		err = k.await(contexts, waiting)
	}
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	return contexts, k.send(data, deadline)
}

// finished tells what has become of an exchange, and names it in its error.
func (c *Client) finished(x *exchange) error {
	name := x.request.GetMessageName()
	c.o.OnCall(name, x.took, x.err)
	if x.err != nil {
		return fmt.Errorf("%s: %w", name, x.err)
	}
	return nil
}

// reserve gives the first of so many contexts.
func (k *conn) reserve(n int) uint32 {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.context > 1<<31 {
		k.context = 0
	}
	base := k.context + 1
	k.context += uint32(n)
	return base
}

// await notes who waits for what.
func (k *conn) await(contexts []uint32, waiting []*pending) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err != nil {
		return k.err
	}
	for i, p := range waiting {
		k.waiting[contexts[i]] = p
	}
	return nil
}

// send writes requests, all or none.
func (k *conn) send(data []byte, until time.Time) error {
	k.write.Lock()
	defer k.write.Unlock()
	err := k.sock.SetWriteDeadline(until)
	if err == nil {
		_, err = k.sock.Write(data)
	}
	if err != nil {
		k.sock.Close() // half a message may have been written: nothing can follow it
		return fmt.Errorf("%w: %w", ErrAway, err)
	}
	return nil
}

// forget drops those who do not wait any more; a late answer finds nobody.
func (k *conn) forget(contexts []uint32) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, context := range contexts {
		delete(k.waiting, context)
	}
}

// deliver gives an answer to the one who waits for it.
func (k *conn) deliver(context uint32, body []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.waiting[context]
	switch {
	case p == nil:
	case !p.last:
		p.x.detail(body)
	case p.x.reply == nil:
		delete(k.waiting, context)
		delete(k.waiting, context-1) // the dump before its ping
		p.finish(nil)
	default:
		delete(k.waiting, context)
		p.finish(decode(body, p.x.reply))
	}
}

// fail ends all that waits for an answer.
func (k *conn) fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.err = err
	for _, p := range k.waiting {
		if p.last {
			p.finish(err)
		}
	}
	clear(k.waiting)
}

// decode fills the reply and gives VPP's error code as an error.
func decode(body []byte, reply api.Message) error {
	if err := codec.DecodeMsg(body, reply); err != nil {
		return err
	}
	f := reflect.ValueOf(reply).Elem().FieldByName("Retval")
	if f.IsValid() && f.Int() != 0 {
		return Error(f.Int())
	}
	return nil
}
