package manager

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"sync"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/crossconnect"
	"go.patchbay.dev/plugins/reconcile"
)

// dataplane is a node's dataplane in memory: what exists, and whether more can be made.
type dataplane struct {
	mu    sync.Mutex
	there map[string]string
	fails error
}

func (d *dataplane) break_(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fails = err
}

func (d *dataplane) keys() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.there))
}

func (d *dataplane) Create(_ context.Context, key, spec string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fails != nil {
		return d.fails
	}
	d.there[key] = spec
	return nil
}

func (d *dataplane) Update(ctx context.Context, key, _, spec string) error {
	return d.Create(ctx, key, spec)
}

func (d *dataplane) Delete(_ context.Context, key, _ string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.there, key)
	return nil
}

func (d *dataplane) Retrieve(context.Context, iter.Seq2[string, string]) (list []reconcile.Found[string], _ error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for k, v := range d.there {
		list = append(list, reconcile.Found[string]{Key: k, Spec: v})
	}
	return list, nil
}

func (d *dataplane) Dependencies(string, string) []string { return nil }
func (d *dataplane) Equal(a, b string) bool               { return a == b }

// plug is a mechanism whose attachments are texts in the dataplane.
type plug struct {
	name  string
	plane *dataplane
}

func (p plug) Type() string { return p.name }
func (p plug) Validate(parameters map[string]string) error {
	if parameters["bad"] != "" {
		return &models.FieldError{Field: "bad", Reason: "is not known"}
	}
	return nil
}

func (p plug) Status(x *models.CrossConnect, side models.Side) *models.AttachmentStatus {
	return &models.AttachmentStatus{Mechanism: p.name, Interface: "if-" + x.Id, LinkUp: true}
}

func (p plug) Attach(x *models.CrossConnect, side models.Side) (models.Port, []reconcile.Value, error) {
	key := fmt.Sprintf("plug/%s:%s", x.Id, side)
	return models.Port{Key: key}, []reconcile.Value{{Key: key, Spec: fmt.Sprint(x.At(side), x.Mtu)}}, nil
}

// joiner joins what is attached by doing nothing.
type joiner struct{}

func (joiner) Join(*models.CrossConnect, models.Port, models.Port) ([]reconcile.Value, error) {
	return nil, nil
}

// tunnels are a node's tunnels: VNIs, of which there are few, so that two nodes get in
// each other's way.
type tunnels struct {
	node string
	most int

	mu     sync.Mutex
	held   map[int]string // by VNI: the id that holds it
	record map[int]string // by VNI: the id whose record has it
	refuse error          // of Accept
}

func newTunnels(node string) *tunnels {
	return &tunnels{node: node, most: 2000, held: map[int]string{}, record: map[int]string{}}
}

func (t *tunnels) free(vni int, id string) bool {
	h, r := t.held[vni], t.record[vni]
	return (h == "" || h == id) && (r == "" || r == id)
}

func (t *tunnels) Propose(id string, types []string, to *models.Agent, _ string) (list []*models.Mechanism, _ error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !slices.Contains(types, "VXLAN") {
		return nil, errors.New("none")
	}
	for range t.most {
		if vni := 1 + rand.IntN(t.most); len(list) < 3 && t.free(vni, "") {
			t.held[vni] = id
			list = append(list, &models.Mechanism{Type: "VXLAN", Parameters: map[string]string{"vni": strconv.Itoa(vni), "src_ip": t.node}})
		}
	}
	if len(list) == 0 {
		return nil, errors.New("every VNI is taken")
	}
	return list, nil
}

func (t *tunnels) Accept(id string, m *models.Mechanism, from *models.Agent, _ string) (*models.Mechanism, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	vni, err := strconv.Atoi(m.Parameters["vni"])
	switch {
	case t.refuse != nil:
		return nil, t.refuse
	case err != nil || m.Parameters["src_ip"] != from.Node:
		return nil, fmt.Errorf("src_ip %s is no address of node %s", m.Parameters["src_ip"], from.Node)
	case !t.free(vni, id):
		return nil, fmt.Errorf("VNI %d is taken", vni)
	}
	t.held[vni] = id
	out := &models.Mechanism{Type: m.Type, Parameters: maps.Clone(m.Parameters)}
	out.Parameters["dst_ip"] = t.node
	return out, nil
}

func (t *tunnels) Agreed(id string, m *models.Mechanism, to *models.Agent) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	vni, _ := strconv.Atoi(m.Parameters["vni"])
	if t.held[vni] != id || m.Parameters["dst_ip"] != to.Node {
		return fmt.Errorf("VNI %s was not proposed", m.Parameters["vni"])
	}
	return nil
}

func (t *tunnels) Release(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.held, func(_ int, h string) bool { return h == id })
}

// Path is one of IPv6 that stands for the names of both nodes.
func (t *tunnels) Path(x *models.CrossConnect, side models.Side) (p models.TunnelPath, ok bool) {
	m := x.At(side).GetMechanism()
	if m.GetType() != "VXLAN" {
		return p, false
	}
	p = models.TunnelPath{Local: addressOf(m.Parameters["src_ip"]), Remote: addressOf(m.Parameters["dst_ip"])}
	if side == models.ClientSide {
		p.Local, p.Remote = p.Remote, p.Local
	}
	return p, true
}

// addressOf is fd00:: with the name at its end.
func addressOf(node string) netip.Addr {
	a := [16]byte{0: 0xfd}
	copy(a[16-len(node):], node)
	return netip.AddrFrom16(a)
}

func (t *tunnels) MTU(_ *models.Mechanism, _ string, underlay uint32) uint32 { return underlay - 50 }

// changed holds what is on record.
func (t *tunnels) changed(e crossconnect.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.Desired == nil && e.Status != nil {
		return
	}
	maps.DeleteFunc(t.record, func(_ int, r string) bool { return r == e.ID })
	for _, side := range []models.Side{models.ClientSide, models.EndpointSide} {
		if m := e.Desired.At(side).GetMechanism(); m.GetType() == "VXLAN" {
			vni, _ := strconv.Atoi(m.Parameters["vni"])
			t.record[vni] = e.ID
		}
	}
}

// taken is how many VNIs are held in memory and by records.
func (t *tunnels) taken() (held, onRecord int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.held), len(t.record)
}
