package negotiation

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.patchbay.dev/models"
)

var names = []string{"KERNEL", "MEMIF", "VHOST_USER", "VFIO", "VXLAN", "GRE", "WIREGUARD", "UNHEARD", "SRV6"}

// TestProperties checks on random questions what must hold for every one of them.
func TestProperties(t *testing.T) {
	decided := 0
	for seed := range uint64(4000) {
		r := randomRequest(rand.New(rand.NewPCG(seed, 1)))
		d, err := Decide(r)
		d2, err2 := Decide(r)
		if !reflect.DeepEqual(d, d2) || fmt.Sprint(err) != fmt.Sprint(err2) {
			t.Fatalf("seed %d: two answers to one question:\n%v %v\n%v %v", seed, d, err, d2, err2)
		}
		var reasons []string
		var none *NoneError
		switch {
		case errors.As(err, &none):
			reasons = none.Reasons
			if w := anyFeasible(r); w != "" {
				t.Fatalf("seed %d: %v, but %s is feasible", seed, err, w)
			}
		case err != nil:
			t.Fatalf("seed %d: %v", seed, err)
		default:
			decided++
			reasons = d.Reasons
			if !feasible(r, d.Client.GetType(), d.Tunnel.GetType(), d.Endpoint.GetType(), d.Direct) {
				t.Fatalf("seed %d: %s is not feasible", seed, words(d))
			}
			if !strings.HasPrefix(reasons[0], d.Client.GetType()+": ") {
				t.Fatalf("seed %d: what was taken does not come first: %q", seed, reasons)
			}
			checkAsk(t, seed, r, d)
		}
		checkReasons(t, seed, r, reasons)
	}
	if decided < 400 || decided > 3600 {
		t.Errorf("%d of 4000 questions had an answer: they are too easy or too hard to say much", decided)
	}
}

// checkReasons: every mechanism named by either side has exactly one reason.
func checkReasons(t *testing.T, seed uint64, r Request, reasons []string) {
	t.Helper()
	count := map[string]int{}
	for _, line := range reasons {
		name, why, _ := strings.Cut(line, ": ")
		if count[name]++; why == "" || count[name] > 1 {
			t.Fatalf("seed %d: reasons %q", seed, reasons)
		}
	}
	for _, name := range slices.Concat(r.Client.Speaks, r.Endpoint.Speaks, only(r.Client.Only), only(r.Endpoint.Only)) {
		if count[name] != 1 {
			t.Fatalf("seed %d: %d reasons for %s in %q", seed, count[name], name, reasons)
		}
	}
}

// checkAsk: whatever of what is asked for the next hop answers, a decision follows; and
// where nobody has chosen yet, the first asked for is the one that would be decided.
func checkAsk(t *testing.T, seed uint64, r Request, d *Decision) {
	t.Helper()
	offers, err := Ask(r)
	if err != nil {
		t.Fatalf("seed %d: decided, but cannot ask: %v", seed, err)
	}
	for i, o := range offers {
		answered := r
		oneNode := r.Client.Node.Node == r.Endpoint.Node.Node
		if oneNode {
			answered.Endpoint.Only = o.Type
		} else {
			answered.Tunnels = []string{o.Type}
		}
		got, err := Decide(answered)
		if err != nil {
			t.Fatalf("seed %d: after the answer %s: %v", seed, o.Type, err)
		}
		if i == 0 && words(got) != words(d) {
			t.Fatalf("seed %d: the first asked for gives %q, deciding at once %q", seed, words(got), words(d))
		}
	}
}

// feasible is the definition, spelled out apart from the code under test.
func feasible(r Request, c, tun, e string, direct bool) bool {
	offers := func(n *models.Agent, name string) (all []*models.Offer) {
		for _, o := range n.Offers {
			if o.Type == name && o.Missing == "" && (r.Payload == "" || len(o.Payloads) == 0 || slices.Contains(o.Payloads, r.Payload)) {
				all = append(all, o)
			}
		}
		return all
	}
	speaks := func(e End, name string) bool {
		switch {
		case e.Only != "":
			return e.Only == name
		case len(e.Speaks) > 0:
			return slices.Contains(e.Speaks, name)
		}
		return slices.ContainsFunc(e.Node.Offers, func(o *models.Offer) bool { return o.Type == name && o.Class != Remote })
	}
	join := func(as, bs []*models.Offer) bool {
		for _, a := range as {
			for _, b := range bs {
				if a.Dataplane == b.Dataplane && (a.Joins && b.Joins || a.Places && b.Places && (a.Class == Remote) != (b.Class == Remote)) {
					return true
				}
			}
		}
		return false
	}
	a, b := r.Client.Node, r.Endpoint.Node
	oc, oe := offers(a, c), offers(b, e)
	if oc == nil || oe == nil || !speaks(r.Client, c) || !speaks(r.Endpoint, e) {
		return false
	}
	if a.Node == b.Node {
		if direct {
			return tun == "" && c == e && slices.ContainsFunc(oc, func(o *models.Offer) bool { return o.Direct && (r.Direct || !o.SharedMemory) })
		}
		return tun == "" && join(oc, oe)
	}
	near, far := offers(a, tun), offers(b, tun)
	return !direct && near != nil && far != nil && near[0].Class == Remote && far[0].Class == Remote && near[0].Version == far[0].Version &&
		(len(r.Tunnels) == 0 || slices.Contains(r.Tunnels, tun)) && join(oc, near) && join(far, oe)
}

func anyFeasible(r Request) string {
	for _, c := range names {
		for _, e := range names {
			for _, tun := range append([]string{""}, names...) {
				for _, direct := range []bool{false, true} {
					if feasible(r, c, tun, e, direct) {
						return fmt.Sprint(c, " ", tun, " ", e, " ", direct)
					}
				}
			}
		}
	}
	return ""
}

func randomRequest(rnd *rand.Rand) Request {
	pick := func(most int) []string {
		out := make([]string, rnd.IntN(most+1))
		for i := range out {
			out[i] = names[rnd.IntN(len(names))]
		}
		return out
	}
	maybe := func(one int) string {
		if rnd.IntN(one) == 0 {
			return names[rnd.IntN(len(names))]
		}
		return ""
	}
	node := func(name string) *models.Agent {
		a := &models.Agent{Node: name}
		for _, i := range rnd.Perm(len(names) - 1)[:rnd.IntN(len(names))] {
			o := offers[names[i]]
			n := &models.Offer{Type: o.Type, Dataplane: "vpp", Class: o.Class, Payloads: o.Payloads, SharedMemory: o.SharedMemory,
				Direct: rnd.IntN(2) == 0, Joins: rnd.IntN(4) > 0}
			if rnd.IntN(6) == 0 {
				n.Missing = "has no such thing"
			}
			n.Version = uint32(rnd.IntN(5) / 4)
			if rnd.IntN(3) == 0 {
				n.Dataplane, n.Joins, n.Places = "kernel", false, true
			}
			a.Offers = append(a.Offers, n)
			if rnd.IntN(3) == 0 && n.Dataplane == "vpp" {
				a.Offers = append(a.Offers, &models.Offer{Type: n.Type, Dataplane: "kernel", Class: n.Class, Payloads: n.Payloads,
					SharedMemory: n.SharedMemory, Places: true, Version: n.Version})
			}
		}
		return a
	}
	n1 := node("n1")
	r := Request{Client: End{Node: n1, Speaks: pick(4), Only: maybe(8)}, Endpoint: End{Node: n1, Speaks: pick(4), Only: maybe(8)},
		Prefer: pick(2), Direct: rnd.IntN(3) == 0, Payload: []string{"", models.Ethernet, models.IP}[rnd.IntN(3)]}
	if rnd.IntN(2) == 0 {
		r.Endpoint.Node = node("n2")
		if rnd.IntN(4) == 0 {
			r.Tunnels = pick(3)
		}
	}
	return r
}

func BenchmarkDecide(b *testing.B) {
	n1, n2 := all("n1"), all("n2")
	for name, r := range map[string]Request{
		"one node":  {Client: End{Node: n1, Speaks: list("MEMIF KERNEL")}, Endpoint: End{Node: n1}, Payload: models.Ethernet},
		"two nodes": {Client: End{Node: n1, Speaks: list("MEMIF KERNEL")}, Endpoint: End{Node: n2}, Payload: models.Ethernet},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Decide(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
