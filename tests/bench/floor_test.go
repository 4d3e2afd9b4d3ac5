//go:build bench

package bench

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"

	"go.patchbay.dev/plugins/fdpass"
	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/store"
	"go.patchbay.dev/tests/lab"
)

// record stands for one, as large as one is.
var record = []byte(strings.Repeat("x", 1200))

// floor does what every connection needs, and nothing else.
type floor struct {
	store *store.Store
	ns    *linux.Namespaces
	a, b  *linux.Namespace
}

// newFloor makes its pairs between the namespaces that the agent does: the kernel takes the
// longer for an interface the more there are beside it.
func newFloor(t *testing.T, client, endpoint *lab.Namespace) *floor {
	t.Helper()
	dir := t.TempDir()
	s, err := store.Open(t.Context(), store.Config{DataDir: dir})
	check(t, err)
	ns, err := linux.New(linux.Options{Instance: dir})
	check(t, err)
	a, err := ns.Open(client.Path)
	check(t, err)
	b, err := ns.Open(endpoint.Path)
	check(t, err)
	for _, n := range []*linux.Namespace{a, b} {
		_, err := n.NSID()
		check(t, err)
	}
	t.Cleanup(func() { a.Close(); b.Close(); ns.Close(); s.Close() })
	return &floor{s, ns, a, b}
}

// once is one connection done bare. What it makes is undone outside the measurement.
func (f *floor) once(t *testing.T) time.Duration {
	t.Helper()
	start := time.Now()
	_, err := f.store.Put(t.Context(), "/floor", record)
	check(t, err)
	l, err := link(f.ns, f.a, f.b)
	took := time.Since(start)
	check(t, err)
	check(t, f.ns.DeleteLink(l))
	return took
}

// link makes a pair between two namespaces and sets up both ends; it gives one of them.
func link(n *linux.Namespaces, a, b *linux.Namespace) (l linux.Link, err error) {
	tags := [2]linux.Tag{{ID: "floor", Side: linux.Client}, {ID: "floor", Side: linux.Endpoint}}
	ends := [2]linux.End{
		{NS: a, Name: "f0", MAC: tags[0].MAC(), MTU: 1500},
		{NS: b, Name: "f0", MAC: tags[1].MAC(), MTU: 1500},
	}
	if err := n.CreatePair(ends[0], ends[1]); err != nil {
		return l, err
	}
	var links [2]linux.Link
	for i, e := range ends {
		if links[i], err = e.NS.LinkByName(e.Name); err != nil {
			return l, err
		}
		if links[i], err = e.NS.SetLink(links[i].Index, linux.Change{Alias: tags[i].String(), Up: true}); err != nil {
			return l, err
		}
	}
	for i, e := range ends {
		own, other := netip.AddrFrom4([4]byte{198, 18, 0, byte(i)}), netip.AddrFrom4([4]byte{198, 18, 0, byte(1 - i)})
		own6, other6 := netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", 1+i)), netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", 2-i))
		err := e.NS.ConfigureNew(links[i].Index, linux.Config{
			Addresses: []netip.Prefix{netip.PrefixFrom(own, 32), netip.PrefixFrom(own6, 128)},
			Routes:    []linux.Route{{Prefix: netip.PrefixFrom(other, 32)}, {Prefix: netip.PrefixFrom(other6, 128)}},
		})
		if err != nil {
			return l, err
		}
	}
	return links[0], nil
}

// leastKernel is the least agent's dataplane on the kernel.
type leastKernel struct{ ns *linux.Namespaces }

func leastOnKernel(c leastConfig) (dataplane, error) {
	ns, err := linux.New(linux.Options{Instance: c.Dir})
	return leastKernel{ns}, err
}

func (leastKernel) mechanism() *networkservice.Mechanism {
	return &networkservice.Mechanism{Cls: "LOCAL", Type: "KERNEL"}
}

func (k leastKernel) connect(ctx context.Context, client, endpoint end) (func() error, error) {
	a, err := k.open(ctx, client)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	b, err := k.open(ctx, endpoint)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	l, err := link(k.ns, a, b)
	return func() error { return k.ns.DeleteLink(l) }, err
}

// open opens the namespace that a peer has passed.
func (k leastKernel) open(ctx context.Context, e end) (*linux.Namespace, error) {
	dev, ino, err := fdpass.ParseURL(e.Parameters["inodeURL"])
	if err != nil {
		return nil, err
	}
	f, err := e.passed.Receive(ctx, dev, ino)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	ref, err := k.ns.FromDescriptor(f, e.pid)
	if err != nil {
		return nil, err
	}
	ns, err := k.ns.Open(ref)
	if err == nil {
		_, err = ns.NSID() // so that it is found again to be undone
	}
	return ns, err
}
