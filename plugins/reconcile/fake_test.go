package reconcile

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// rig is an engine over descriptors that note what is called, and do as they are told.
// A spec is a string: "v1", or with dependencies "v1 link/a ns/b". Specs with the same
// first word are equal; those whose first letters differ cannot be updated into each other.
type rig struct {
	*Engine
	t *testing.T

	mu      sync.Mutex
	calls   []string        // "create link/a v1"
	times   []time.Duration // of the calls, since the start of the story
	begin   time.Time
	fail    map[string]error         // by the beginning of a call: "create link/a"
	gates   map[string]chan struct{} // calls wait until theirs is closed
	found   map[string][]Found[string]
	facts   map[string]bool
	watched []string
	told    []string // "g1 applied"
	last    Status
}

// tell runs a story in virtual time, with the kinds link and join, and facts of kind ns.
func tell(t *testing.T, o Options, f func(t *testing.T, r *rig)) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, begin: time.Now(), fail: map[string]error{}, gates: map[string]chan struct{}{},
			found: map[string][]Found[string]{}, facts: map[string]bool{}}
		o.OnStatus = r.onStatus
		r.Engine = New(o)
		Register(r.Engine, "link", fake{r, "link"})
		Register(r.Engine, "join", fake{r, "join"})
		r.Facts("ns", "the namespace", r)
		defer r.Stop()
		f(t, r)
	})
}

// begin tells a story that begins with an empty world.
func begin(t *testing.T, f func(t *testing.T, r *rig)) {
	tell(t, Options{}, func(t *testing.T, r *rig) {
		r.start()
		r.expect("retrieve join; retrieve link")
		f(t, r)
	})
}

func (r *rig) start() {
	r.t.Helper()
	if err := r.Start(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	r.settle()
}

func (r *rig) settle() {
	r.t.Helper()
	if err := r.Settle(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

// want applies the whole set of a group, as pairs of key and spec, and lets it settle.
func (r *rig) want(group string, values ...string) {
	r.t.Helper()
	r.Apply(set(group, values...))
	r.settle()
}

// set is a Change of pairs of key and spec.
func set(group string, values ...string) Change {
	c := Change{Group: group}
	for pair := range slices.Chunk(values, 2) {
		c.Values = append(c.Values, Value{pair[0], pair[1]})
	}
	return c
}

// expect compares the calls since the last time; those of one line may come in any order.
func (r *rig) expect(lines ...string) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	calls := r.calls
	r.calls, r.times = nil, nil
	var want []string
	for _, line := range lines {
		any := strings.Split(line, "; ")
		want = append(want, any...)
		if n := len(want); n <= len(calls) {
			slices.Sort(any)
			copy(want[n-len(any):], any)
			slices.Sort(calls[n-len(any) : n])
		}
	}
	if !slices.Equal(calls, want) {
		r.t.Errorf("calls:\n\t%s\nwant:\n\t%s", strings.Join(calls, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// state checks the status of a group and that its reason holds some words.
func (r *rig) state(group string, want State, words ...string) {
	r.t.Helper()
	s, _ := r.Status(group)
	if s.State != want {
		r.t.Errorf("group %s is %v, want %v: %s", group, s.State, want, s.Reason)
	}
	for _, w := range words {
		if !strings.Contains(s.Reason, w) {
			r.t.Errorf("the reason of %s is %q, want %q in it", group, s.Reason, w)
		}
	}
}

// failing has calls that begin so fail with err, or not any more with nil.
func (r *rig) failing(call string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail[call] = err
}

// gate has calls that begin so wait until open is called.
func (r *rig) gate(call string) (open func()) {
	gate := make(chan struct{})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gates[call] = gate
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.gates, call)
		close(gate)
	}
}

// exists puts something into the world before start.
func (r *rig) exists(key, spec string) {
	r.found[kindOf(key)] = append(r.found[kindOf(key)], Found[string]{key, spec})
}

func (r *rig) onStatus(s Status) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told = append(r.told, fmt.Sprintf("%s %v", s.Group, s.State))
	r.last = s
}

// heard compares what OnStatus was called with since the last time.
func (r *rig) heard(want ...string) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(r.told, want) {
		r.t.Errorf("told %q, want %q", r.told, want)
	}
	r.told = nil
}

func (r *rig) call(what, key string, specs ...string) error {
	begin := what + " " + key
	r.mu.Lock()
	r.calls = append(r.calls, strings.Join(append([]string{begin}, specs...), " "))
	r.times = append(r.times, time.Since(r.begin))
	err := r.fail[begin]
	r.mu.Unlock()
	r.pass(begin)
	if err != nil && err.Error() == "panic" {
		panic("at the disco")
	}
	return err
}

// pass waits at the gate of a call, if there is one.
func (r *rig) pass(call string) {
	r.mu.Lock()
	gate := r.gates[call]
	r.mu.Unlock()
	if gate != nil {
		<-gate
	}
}

func (r *rig) Watch(key string) bool {
	r.pass("watch " + key)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watched = append(r.watched, key)
	return r.facts[key]
}

func (r *rig) Unwatch(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watched = slices.DeleteFunc(r.watched, func(w string) bool { return w == key })
}

// fake is a descriptor of one kind. Calls name only the first word of a spec.
type fake struct {
	*rig
	kind string
}

var errFake = errors.New("no luck")

func name(spec string) string { return strings.Fields(spec)[0] }

func (f fake) Create(_ context.Context, key string, spec string) error {
	return f.call("create", key, name(spec))
}

func (f fake) Update(_ context.Context, key string, old, new string) error {
	if old[0] != new[0] {
		return ErrRecreate
	}
	return f.call("update", key, name(old), name(new))
}

func (f fake) Delete(_ context.Context, key string, spec string) error {
	return f.call("delete", key, name(spec))
}

func (f fake) Retrieve(ctx context.Context, want iter.Seq2[string, string]) ([]Found[string], error) {
	if err := f.rig.call("retrieve", f.kind); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.found[f.kind], ctx.Err()
}

func (f fake) Dependencies(_ string, spec string) []string {
	if spec == "bad" {
		panic("no such spec")
	}
	return strings.Fields(spec)[1:]
}

func (f fake) Equal(found, want string) bool {
	f.pass("equal " + name(want))
	return name(found) == name(want)
}
