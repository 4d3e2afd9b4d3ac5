package kernel

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/linux/nstest"
	"go.patchbay.dev/plugins/reconcile"
)

// Whatever happens, in whatever order, the kernel ends as it is wanted: every connection
// whose namespaces are there, nothing else of ours, and all that is not ours.
func TestWhateverHappensTheKernelEndsAsWanted(t *testing.T) {
	nstest.Need(t)
	for round := range 3 {
		seed := rand.Uint64()
		t.Run(fmt.Sprintf("round %d, seed %d", round, seed), func(t *testing.T) {
			w := newChurn(t, rand.New(rand.NewPCG(seed, 0)))
			for range 40 {
				w.step()
			}
			w.finish()
		})
	}
}

// churn is a world in which much happens.
type churn struct {
	t      *testing.T
	r      *rand.Rand
	n      *node
	stop   func()
	refs   []string
	there  []bool
	wanted map[string]*models.CrossConnect
}

func newChurn(t *testing.T, r *rand.Rand) *churn {
	w := &churn{t: t, r: r, wanted: map[string]*models.CrossConnect{}}
	dir := t.TempDir()
	for i := range 3 {
		w.refs = append(w.refs, fmt.Sprintf("%s/%d", dir, i))
		w.there = append(w.there, false)
		w.toggle(i)
	}
	w.n, w.stop = start(t)
	return w
}

// toggle makes or deletes a namespace.
func (w *churn) toggle(i int) {
	if w.there[i] = !w.there[i]; !w.there[i] {
		nstest.Delete(w.t, w.refs[i])
		return
	}
	nstest.At(w.t, w.refs[i])
	in(w.t, w.refs[i], "ip link add foreign type veth peer name foreign2")
	in(w.t, w.refs[i], "ip rule add from 192.0.2.0/24 table 77 priority 20000")
}

// record is one of a few that a connection may have.
func (w *churn) record(k int) *models.CrossConnect {
	id := fmt.Sprintf("c%d", k)
	i, j := w.r.IntN(3), w.r.IntN(3)
	x := cross(id,
		end(w.refs[i], fmt.Sprintf("l%d-%d", k, w.r.IntN(2)), fmt.Sprintf("10.%d.0.1/24", k)),
		end(w.refs[j], fmt.Sprintf("r%d", k), fmt.Sprintf("10.%d.0.2/24", k), fmt.Sprintf("fd00:%d::2/64", k)))
	x.Mtu = uint32(1300 + 100*w.r.IntN(3))
	if w.r.IntN(2) == 0 {
		x.Client.Routes = []*models.Route{{Prefix: fmt.Sprintf("10.%d.0.0/16", 100+k)}}
		x.Endpoint.Policies = []*models.Policy{{From: fmt.Sprintf("10.%d.0.0/24", k)}}
	}
	return x
}

func (w *churn) step() {
	k := w.r.IntN(4)
	id := fmt.Sprintf("c%d", k)
	switch w.r.IntN(10) {
	case 0, 1, 2, 3:
		w.wanted[id] = w.record(k)
		w.n.apply(w.wanted[id])
	case 4:
		delete(w.wanted, id)
		w.n.e.Apply(reconcile.Change{Group: id})
	case 5: // the agent is killed; what is wanted may change meanwhile
		w.stop()
		if w.r.IntN(2) == 0 {
			w.wanted[id] = w.record(k)
		} else {
			delete(w.wanted, id)
		}
		var all []*models.CrossConnect
		for _, x := range w.wanted {
			all = append(all, x)
		}
		w.n, w.stop = start(w.t, all...)
	case 6:
		w.toggle(w.r.IntN(3))
	case 7, 8:
		w.damage(w.r.IntN(3), k)
	default:
		w.n.settle()
	}
}

// damage does to an interface what a workload may.
func (w *churn) damage(i, k int) {
	if !w.there[i] {
		return
	}
	do := []string{"ip link delete r%d", "ip link set r%d down", "ip link set r%d mtu 1290", "ip link set r%d name x"}
	command := fmt.Sprintf(do[w.r.IntN(len(do))], k)
	_, _ = nstest.Try(w.refs[i], strings.Fields(command)...) // it may not be there
}

// finish brings back all namespaces and compares the kernel with what is wanted.
func (w *churn) finish() {
	for i := range w.there {
		if !w.there[i] {
			w.toggle(i)
		}
	}
	for id := range w.wanted {
		w.n.is(id, reconcile.Applied, "")
	}
	last := ""
	w.t.Cleanup(func() {
		if w.t.Failed() {
			w.t.Log(last)
		}
	})
	w.n.wait("the kernel to be as wanted", func() bool { last = w.difference(); return last == "" })
	w.n.untouched("a resync", func() {
		check(w.t, w.n.e.Resync(w.t.Context()))
		w.n.settle()
	})
	if d := w.difference(); d != "" {
		w.t.Error(d)
	}
	for _, ref := range w.refs {
		has(w.t, ref, "ip link", "foreign2")
		has(w.t, ref, "ip rule", "lookup 77")
	}
}

// difference says, by a new look, how the kernel differs from what is wanted.
func (w *churn) difference() string {
	veths, configs := map[string]Veth{}, map[string]IPConfig{}
	for _, x := range w.wanted {
		values, err := w.n.m.Pair(x)
		check(w.t, err)
		veths[values[0].Key] = values[0].Spec.(Veth)
		for _, v := range values[1:] {
			configs[v.Key] = v.Spec.(IPConfig)
		}
	}
	other, err := linux.New(options(w.t))
	check(w.t, err)
	defer func() { check(w.t, other.Close()) }()
	m := New(other, nil)
	look, err := m.look(slices.Clone(w.refs))
	check(w.t, err)
	pairs, found := m.pairsIn(look, veths), configsIn(look, configs)
	if len(pairs) != len(veths) || len(found) != len(configs) {
		return fmt.Sprintf("found %+v and %+v, want %d", pairs, found, len(veths))
	}
	for _, f := range pairs {
		if !(vethDescriptor{m}).Equal(f.Spec, veths[f.Key]) {
			return fmt.Sprintf("found %+v, want %+v", f, veths[f.Key])
		}
	}
	for _, f := range found {
		if !(ipDescriptor{m}).Equal(f.Spec, configs[f.Key]) {
			return fmt.Sprintf("found %+v, want %+v", f, configs[f.Key])
		}
	}
	return ""
}
