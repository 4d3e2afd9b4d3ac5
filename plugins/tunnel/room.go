package tunnel

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"go.patchbay.dev/models"
	"go.patchbay.dev/vppapi"
)

// Kernel is what this room asks of plugins/linux.
type Kernel interface {
	// Supports says what the kernel lacks for a kind of devices, as the rest of a sentence
	// that begins "node n1"; empty: nothing.
	Supports(kind string) string
	// Address tells whether the agent's own namespace has an address, and the MTU in bytes of
	// the interface that has it.
	Address(a netip.Addr) (mtu int, ok bool)
}

// Options of a Room.
type Options struct {
	Node      string         // this node's name
	Addresses []netip.Addr   // that its tunnels end at, best first
	MTU       int            // of the underlay in bytes; 0: that of the addresses' interfaces
	VPP       *vppapi.Client // nil: none
	Kernel    Kernel         // nil: it ends no tunnels
	Budget    vppapi.Room    // for one more interface; nil: any
	RunDir    string         // where it is noted what is being made in VPP
	Log       *slog.Logger   // nil: no log
}

// Room keeps what the node's tunnels take, and chooses for new ones. It implements the
// manager's Tunnels. Its methods may be called at the same time.
type Room struct {
	o     Options
	log   *slog.Logger
	notes notes
	kinds []Kind

	mu       sync.Mutex
	live     []live
	claims   claims
	records  map[string]map[models.Side]*models.Mechanism // the tunnels on record, by id
	proposed map[string][]*models.Mechanism               // to other nodes, by id
	agreed   map[string]*models.Mechanism                 // not seen on record yet, by id
}

// live is one of the node's addresses as it was seen last.
type live struct {
	address    netip.Addr
	vpp        bool
	kernel     bool
	vppUnknown bool // VPP could not be asked
	mtu        int  // as it was seen last
	everVPP    bool
	everKernel bool
}

// New returns a Room that knows no kind of tunnel yet, and nothing of its addresses before
// the first Look.
func New(o Options) *Room {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Budget == nil {
		o.Budget = vppapi.AnyRoom
	}
	r := &Room{o: o, log: o.Log, notes: newNotes(o.RunDir), claims: newClaims(),
		records: map[string]map[models.Side]*models.Mechanism{}, proposed: map[string][]*models.Mechanism{}, agreed: map[string]*models.Mechanism{}}
	for _, a := range o.Addresses {
		r.live = append(r.live, live{address: a})
	}
	return r
}

// add makes a kind known; before anything else is called.
func (r *Room) add(k Kind) { r.kinds = append(r.kinds, k) }

func (r *Room) kind(name string) Kind {
	for _, k := range r.kinds {
		if k.Type() == name {
			return k
		}
	}
	return nil
}

// Look sees which of the node's addresses are on which interface, and reports whether that
// has changed.
func (r *Room) Look(ctx context.Context) (changed bool) {
	var now []live
	for _, a := range r.o.Addresses {
		l := live{address: a}
		if r.o.VPP != nil {
			switch i, ok, err := r.o.VPP.AddressOf(ctx, a); {
			case err != nil:
				l.vppUnknown = true
			case ok:
				l.vpp, l.mtu = true, i.MTU
			}
		}
		if r.o.Kernel != nil {
			if mtu, ok := r.o.Kernel.Address(a); ok {
				l.kernel = true
				if !l.vpp || mtu < l.mtu {
					l.mtu = mtu
				}
			}
		}
		now = append(now, l)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, old := range r.live {
		now[i].everVPP, now[i].everKernel = old.everVPP || now[i].vpp, old.everKernel || now[i].kernel
		if now[i].mtu == 0 {
			now[i].mtu = old.mtu
		}
	}
	changed = !slices.Equal(now, r.live)
	r.live = now
	return changed
}

// Addresses are those of the node that tunnels can end at now, best first.
func (r *Room) Addresses() (all []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.live {
		if l.vpp || l.kernel {
			all = append(all, l.address.String())
		}
	}
	return all
}

// At gives the addresses that are VPP's, or the kernel's, best first, and the MTU of what is
// between the nodes, in bytes; 0: not known. What was seen once counts while it is away: VPP
// may be restarting, and what its tunnels lead to is to be left alone.
func (r *Room) At(vpp bool) (all []netip.Addr, mtu int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	mtu = r.o.MTU
	for _, l := range r.live {
		if vpp && (l.everVPP || l.vppUnknown) || !vpp && l.everKernel {
			all = append(all, l.address)
			if l.mtu > 0 && (mtu == 0 || l.mtu < mtu) {
				mtu = l.mtu
			}
		}
	}
	return all, mtu
}

// Underlay is the MTU of what is between the nodes, in bytes; 0: not known.
func (r *Room) Underlay() uint32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	least := r.o.MTU
	for _, l := range r.live {
		if (l.vpp || l.kernel) && l.mtu > 0 && (least == 0 || l.mtu < least) {
			least = l.mtu
		}
	}
	return uint32(least)
}

// Changed takes in what is on record of a cross-connect, nil: nothing any more. Subscribe it
// to the events of plugins/crossconnect.
func (r *Room) Changed(id string, desired *models.CrossConnect) {
	r.mu.Lock()
	defer r.mu.Unlock()
	on := map[models.Side]*models.Mechanism{}
	var held []string
	for _, side := range []models.Side{models.ClientSide, models.EndpointSide} {
		m := desired.At(side).GetMechanism()
		k := r.kind(m.GetType())
		if k == nil {
			continue
		}
		at, err := Params(m.Parameters).Place(side, desired.GetPayload())
		if err != nil {
			continue // what is not valid holds nothing
		}
		on[side] = m
		held = append(held, k.Claims(m.Parameters, at)...)
		if same(m, r.agreed[id]) {
			r.forget(id)
		}
	}
	r.claims.set(r.claims.byRecord, id, held)
	if r.records[id] = on; len(on) == 0 {
		delete(r.records, id)
	}
}

// Release gives back what is held for id and is not on record.
func (r *Room) Release(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget(id)
}

// forget is Release; r.mu is held.
func (r *Room) forget(id string) {
	r.claims.set(r.claims.byRequest, id, nil)
	delete(r.proposed, id)
	delete(r.agreed, id)
}

// Path is what the tunnel at one side of a record goes through; not ok: there is none.
func (r *Room) Path(x *models.CrossConnect, side models.Side) (p models.TunnelPath, ok bool) {
	m := x.At(side).GetMechanism()
	if r.kind(m.GetType()) == nil {
		return p, false
	}
	at, err := Params(m.GetParameters()).Place(side, x.GetPayload())
	return models.TunnelPath{Local: at.Local, Remote: at.Remote}, err == nil
}

// OnVPP tells whether an address of the node is VPP's, or the kernel's; not ok: it has been
// on no interface yet. As for At, what was seen once counts.
func (r *Room) OnVPP(a netip.Addr) (vpp, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.live {
		if l.address == a {
			return l.everVPP, l.everVPP || l.everKernel
		}
	}
	return false, false
}

// MTU of the payload's packets through a tunnel over an underlay of that MTU, in bytes; 0
// where the underlay leaves nothing.
func (r *Room) MTU(m *models.Mechanism, payload string, underlay uint32) uint32 {
	if k := r.kind(m.GetType()); k != nil {
		return mtu(k, m.Parameters, payload, underlay)
	}
	return underlay
}

func same(a, b *models.Mechanism) bool {
	return a.GetType() == b.GetType() && b != nil && maps.Equal(a.GetParameters(), b.GetParameters())
}

// addressesOf are another node's.
func addressesOf(a *models.Agent) (all []netip.Addr) {
	for _, s := range a.GetAddresses() {
		if ip, err := netip.ParseAddr(s); err == nil {
			all = append(all, ip)
		}
	}
	return all
}

// lacks says why another node cannot end a tunnel, by what it publishes; empty: it can.
func lacks(a *models.Agent, k Kind, payload string) string {
	why := "does not offer it"
	for _, o := range a.GetOffers() {
		switch {
		case o.GetType() != k.Type() || o.GetClass() != Remote:
		case o.GetVersion() != Version:
			why = fmt.Sprintf("has version %d of it, not %d; run the same release on both", o.GetVersion(), Version)
		case len(o.GetPayloads()) > 0 && !slices.Contains(o.GetPayloads(), orEthernet(payload)):
			why = "does not carry " + orEthernet(payload) + " by it"
		case o.GetMissing() != "":
			why = o.GetMissing()
		default:
			return ""
		}
	}
	return why
}

func orEthernet(payload string) string {
	if payload == "" {
		return models.Ethernet
	}
	return payload
}

// Remote is the class of mechanisms between nodes, as Network Service Mesh spells it.
const Remote = "REMOTE"

func list(all []netip.Addr) string {
	if len(all) == 0 {
		return "none"
	}
	var s []string
	for _, a := range all {
		s = append(s, a.String())
	}
	return strings.Join(s, ", ")
}
