package tunnel_test

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/mechanism/geneve"
	"go.patchbay.dev/plugins/mechanism/gre"
	"go.patchbay.dev/plugins/mechanism/ipip"
	"go.patchbay.dev/plugins/mechanism/vxlan"
	"go.patchbay.dev/plugins/mechanism/wireguard"
	"go.patchbay.dev/plugins/tunnel"
)

// kernel is one with some kinds of devices and some addresses.
type kernel struct {
	addresses map[netip.Addr]int // and the MTU of what has them
	lacks     string             // a kind
}

func (k *kernel) Supports(kind string) string {
	if kind == k.lacks {
		return "needs the kernel module " + kind
	}
	return ""
}

func (k *kernel) Address(a netip.Addr) (int, bool) {
	mtu, ok := k.addresses[a]
	return mtu, ok
}

// node is an agent's room of tunnels on the kernel's dataplane, and what it publishes.
type node struct {
	name   string
	dir    string
	addrs  []netip.Addr
	kernel *kernel
	*tunnel.Room
	mechanisms []interface{ Offers() []*models.Offer }
	records    map[string]*models.CrossConnect
}

func newNode(t testing.TB, name string, addresses ...string) *node {
	n := &node{name: name, dir: t.TempDir(), kernel: &kernel{addresses: map[netip.Addr]int{}}, records: map[string]*models.CrossConnect{}}
	for _, s := range addresses {
		a := netip.MustParseAddr(s)
		n.addrs, n.kernel.addresses[a] = append(n.addrs, a), 1500
	}
	n.start()
	return n
}

// start is what the agent does: a new room that is told what is on record.
func (n *node) start() {
	n.Room = tunnel.New(tunnel.Options{Node: n.name, Addresses: n.addrs, Kernel: n.kernel, RunDir: n.dir})
	n.mechanisms = []interface{ Offers() []*models.Offer }{
		vxlan.New(n.Room), geneve.New(n.Room), gre.New(n.Room), ipip.New(n.Room),
		wireguard.New(n.Room, filepath.Join(n.dir, "secret")), newTiny(n.Room),
	}
	n.Look(context.Background())
	for id, x := range n.records {
		n.Changed(id, x)
	}
}

func (n *node) published() *models.Agent {
	a := &models.Agent{Node: n.name, Addresses: n.Addresses(), Mtu: n.Underlay()}
	for _, m := range n.mechanisms {
		a.Offers = append(a.Offers, m.Offers()...)
	}
	return a
}

// record puts a record with a tunnel at one side.
func (n *node) record(id, payload string, side models.Side, m *models.Mechanism) {
	x := &models.CrossConnect{Id: id, Payload: payload, Client: &models.Attachment{}, Endpoint: &models.Attachment{}}
	x.At(side).Mechanism = m
	n.records[id] = x
	n.Changed(id, x)
}

func (n *node) remove(id string) {
	delete(n.records, id)
	n.Changed(id, nil)
}

// tiny is a kind of tunnel of which a node has few.
type tiny struct{}

const few = 6

func newTiny(r *tunnel.Room) *tunnel.Mechanism[int] {
	return tunnel.NewMechanism(r, tiny{}, "tiny", tunnel.Maker[int]{}, func(string, tunnel.Params, tunnel.Place) (tunnel.Port[int], error) {
		return tunnel.Port[int]{}, errors.New("it cannot be made")
	})
}

func (tiny) Type() string                       { return "TINY" }
func (tiny) Payloads() []string                 { return []string{models.Ethernet, models.IP} }
func (tiny) Parameters() []string               { return []string{"number"} }
func (tiny) Overhead(tunnel.Params, string) int { return 0 }
func (tiny) Check(p tunnel.Params) error {
	_, err := p.Number("number", 1, few, -1)
	return err
}
func (tiny) Claims(p tunnel.Params, _ tunnel.Place) []string { return []string{"TINY " + p["number"]} }
func (tiny) Propose(p tunnel.Params, c tunnel.Choice) ([]tunnel.Params, error) {
	numbers, err := c.Numbers(3, 1, few, func(n uint32) string { return "TINY " + tunnel.Itoa(n) })
	var all []tunnel.Params
	for _, n := range numbers {
		all = append(all, p.With("number", tunnel.Itoa(n)))
	}
	return all, err
}
func (tiny) Accept(p tunnel.Params, _ tunnel.Choice) (tunnel.Params, error) { return p, nil }
func (tiny) DeviceKind(netip.Addr, string) string                           { return "tiny" }

// first gives the first proposal that the other node accepts.
func first(id string, all []*models.Mechanism, from, at *node, payload string) (*models.Mechanism, error) {
	errs := []error{errors.New("none is accepted")}
	for _, m := range all {
		done, err := at.Accept(id, m, from.published(), payload)
		if err == nil {
			return done, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func wants(t *testing.T, what string, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error; want one with %q", what, parts)
		return
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v; want %q in it", what, err, part)
		}
	}
}

func mechanismOf(kind string, parameters ...string) *models.Mechanism {
	m := &models.Mechanism{Type: kind, Parameters: map[string]string{}}
	for i := 0; i < len(parameters); i += 2 {
		m.Parameters[parameters[i]] = parameters[i+1]
	}
	return m
}
