package crossconnect

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/reconcile"
	"go.patchbay.dev/plugins/store"
)

// memory is an etcd in memory with one watcher of the records.
type memory struct {
	mu       sync.Mutex
	revision int64
	kvs      map[string]store.KV
	watcher  func(store.Batch)
	puts     int
}

func (m *memory) Watch(ctx context.Context, prefix string, fn func(store.Batch)) error {
	m.mu.Lock()
	b := store.Batch{Snapshot: true, Revision: m.revision}
	for k, kv := range m.kvs {
		if strings.HasPrefix(k, prefix) {
			b.Puts = append(b.Puts, kv)
		}
	}
	fn(b)
	m.watcher = func(b store.Batch) {
		if len(b.Puts) > 0 && strings.HasPrefix(b.Puts[0].Key, prefix) || len(b.Deletes) > 0 && strings.HasPrefix(b.Deletes[0], prefix) {
			fn(b)
		}
	}
	m.mu.Unlock()
	<-ctx.Done()
	return ctx.Err()
}

func (m *memory) List(_ context.Context, prefix string) (list []store.KV, _ int64, _ error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, kv := range m.kvs {
		if strings.HasPrefix(k, prefix) {
			list = append(list, kv)
		}
	}
	return list, m.revision, nil
}

func (m *memory) Put(_ context.Context, key string, value []byte) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.revision++
	m.puts++
	kv := store.KV{Key: key, Value: value, Revision: m.revision}
	m.kvs[key] = kv
	if m.watcher != nil {
		m.watcher(store.Batch{Revision: m.revision, Puts: []store.KV{kv}})
	}
	return m.revision, nil
}

func (m *memory) Delete(_ context.Context, key string) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.kvs[key]; !ok {
		return 0, nil
	}
	m.revision++
	delete(m.kvs, key)
	if m.watcher != nil {
		m.watcher(store.Batch{Revision: m.revision, Deletes: []string{key}})
	}
	return m.revision, nil
}

func (m *memory) Write(ctx context.Context, puts []store.KV, deletes []string) (revision int64, err error) {
	for _, kv := range puts {
		revision, err = m.Put(ctx, kv.Key, kv.Value)
	}
	for _, key := range deletes {
		revision, err = m.Delete(ctx, key)
	}
	return revision, err
}

func (m *memory) get(key string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return string(m.kvs[key].Value)
}

// wire is a mechanism whose world is a map: key → spec.
type wire struct {
	mu    sync.Mutex
	world map[string]string
	calls int
	fail  error
	down  bool
}

func (w *wire) Type() string { return "WIRE" }

func (w *wire) Validate(p map[string]string) error {
	if p["bad"] != "" {
		return &models.FieldError{Field: "bad", Reason: "is bad"}
	}
	return nil
}

func (w *wire) Pair(x *models.CrossConnect) ([]reconcile.Value, error) {
	return []reconcile.Value{{Key: "wire/" + x.Id, Spec: x.Client.Mechanism.Parameters["colour"]}}, nil
}

func (w *wire) Status(*models.CrossConnect, models.Side) *models.AttachmentStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	return &models.AttachmentStatus{Mechanism: "WIRE", Interface: "w0", LinkUp: !w.down}
}

func (w *wire) set(key, spec string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls++
	if w.fail != nil {
		return w.fail
	}
	w.world[key] = spec
	return nil
}

func (w *wire) Create(_ context.Context, key, spec string) error    { return w.set(key, spec) }
func (w *wire) Update(_ context.Context, key, _, spec string) error { return w.set(key, spec) }
func (w *wire) Dependencies(string, string) []string                { return nil }
func (w *wire) Equal(found, want string) bool                       { return found == want }
func (w *wire) Delete(_ context.Context, key, _ string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls++
	delete(w.world, key)
	return nil
}

func (w *wire) Retrieve(context.Context, iter.Seq2[string, string]) (found []reconcile.Found[string], _ error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for k, v := range w.world {
		found = append(found, reconcile.Found[string]{Key: k, Spec: v})
	}
	return found, nil
}

type story struct {
	*testing.T
	store  *memory
	wire   *wire
	plugin *Plugin
	ctx    context.Context
}

var keys = models.NewKeys("/p", "n1")

func xc(id, colour string) string {
	end := `{"mechanism": {"type": "WIRE", "parameters": {"colour": "` + colour + `"}}}`
	return `{"id": "` + id + `", "client": ` + end + `, "endpoint": ` + end + `}`
}

// begin starts the room over a world and a store that may hold something already.
func begin(t *testing.T, m *memory, w *wire) *story {
	return beginLogged(t, m, w, slog.New(slog.DiscardHandler))
}

func beginLogged(t *testing.T, m *memory, w *wire, log *slog.Logger) *story {
	var plugin *Plugin
	engine := reconcile.New(reconcile.Options{MinBackoff: 5 * time.Millisecond, OnStatus: func(s reconcile.Status) { plugin.EngineStatus(s) }})
	reconcile.Register(engine, "wire", w)
	plugin = New(Options{Keys: keys, Store: m, Engine: engine, Mechanisms: []Mechanism{w}, Log: log})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	if err := plugin.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { plugin.Stop(); engine.Stop(); cancel() })
	select {
	case <-plugin.Ready():
	case <-ctx.Done():
		t.Fatal("never ready")
	}
	return &story{T: t, store: m, wire: w, plugin: plugin, ctx: ctx}
}

func newMemory() *memory { return &memory{kvs: map[string]store.KV{}} }
func newWire() *wire     { return &wire{world: map[string]string{}} }

// put writes a record and waits for what becomes of it.
func (s *story) put(id, value string) *models.CrossConnectStatus {
	s.Helper()
	revision, _ := s.store.Put(s.ctx, keys.CrossConnect(id), []byte(value))
	status, err := s.plugin.Await(s.ctx, id, revision)
	if err != nil {
		s.Fatalf("await %s: %v", id, err)
	}
	return status
}

// published waits for a text in the status in etcd; empty: for its removal.
func (s *story) published(id, text string) {
	s.Helper()
	for {
		got := s.store.get(keys.Status(id))
		if text == "" && got == "" || text != "" && strings.Contains(strings.ReplaceAll(got, " ", ""), text) {
			return
		}
		select {
		case <-time.After(time.Millisecond):
		case <-s.ctx.Done():
			s.Fatalf("status of %s is %q, want %q", id, got, text)
		}
	}
}

func TestRecordIsProgrammedChangedAndUndone(t *testing.T) {
	s := begin(t, newMemory(), newWire())
	if got := s.put("c1", xc("c1", "red")); got.State != models.State_UP || got.Client.Interface != "w0" {
		t.Errorf("status %v", got)
	}
	s.published("c1", `"state":"UP"`)
	s.put("c1", xc("c1", "blue"))
	if s.wire.world["wire/c1"] != "blue" || s.wire.calls != 2 {
		t.Errorf("world %v after %d calls", s.wire.world, s.wire.calls)
	}
	revision, _ := s.store.Delete(s.ctx, keys.CrossConnect("c1"))
	if err := s.plugin.AwaitGone(s.ctx, "c1", revision); err != nil || len(s.wire.world) != 0 {
		t.Errorf("after the delete: %v, %v", s.wire.world, err)
	}
	s.published("c1", "")
}

// lines are those of a log.
type lines chan string

func (l lines) Write(p []byte) (int, error) { l <- string(p); return len(p), nil }

// What a note makes of the state is logged with it, not with the next change of anything.
func TestANoteIsLogged(t *testing.T) {
	log := make(lines, 100)
	s := beginLogged(t, newMemory(), newWire(), slog.New(slog.NewTextHandler(log, nil)))
	s.put("c1", xc("c1", "red"))
	s.plugin.Note("c1", "its endpoint is gone")
	for {
		select {
		case line := <-log:
			if strings.Contains(line, "its endpoint is gone") {
				return
			}
		default:
			t.Fatal("it is not")
		}
	}
}

func TestInvalidRecordKeepsWhatWasAndNamesTheField(t *testing.T) {
	s := begin(t, newMemory(), newWire())
	s.put("c1", xc("c1", "red"))
	for value, says := range map[string]string{
		`{`:                    "JSON",
		`{"id": "c1", "x": 1}`: "x",
		`{"id": "c2"}`:         "id",
		`{"id": "c1"}`:         "for instance KERNEL; endpoint.mechanism.type", // all that is wrong, on one line
		strings.Replace(xc("c1", "red"), `"colour"`, `"bad"`, 1): "client.mechanism.parameters.bad",
		strings.Replace(xc("c1", "red"), `"WIRE"`, `"OTHER"`, 1): `offers no "OTHER"`,
	} {
		if got := s.put("c1", value); got.State != models.State_FAILED || !strings.Contains(got.Reason, says) {
			t.Errorf("%s: status %v, want one that names %s", value, got, says)
		}
	}
	if s.wire.world["wire/c1"] != "red" || s.wire.calls != 1 {
		t.Errorf("world %v after %d calls", s.wire.world, s.wire.calls)
	}
	if got := s.put("c1", xc("c1", "red")); got.State != models.State_UP || s.wire.calls != 1 {
		t.Errorf("mended: %v after %d calls", got, s.wire.calls)
	}
	// One that was never valid goes without a trace, too.
	s.put("never", "{")
	revision, _ := s.store.Delete(s.ctx, keys.CrossConnect("never"))
	if err := s.plugin.AwaitGone(s.ctx, "never", revision); err != nil {
		t.Error(err)
	}
	s.published("never", "")
}

func TestFailureIsToldAndHeals(t *testing.T) {
	s := begin(t, newMemory(), newWire())
	s.wire.mu.Lock()
	s.wire.fail = errors.New("no wire left")
	s.wire.mu.Unlock()
	if got := s.put("c1", xc("c1", "red")); got.State != models.State_FAILED || !strings.Contains(got.Reason, "no wire left") {
		t.Errorf("status %v", got)
	}
	s.wire.mu.Lock()
	s.wire.fail = nil
	s.wire.mu.Unlock()
	s.published("c1", `"state":"UP"`)
}

func TestLinkThatGoesDownIsTold(t *testing.T) {
	s := begin(t, newMemory(), newWire())
	s.put("c1", xc("c1", "red"))
	s.wire.mu.Lock()
	s.wire.down = true
	s.wire.mu.Unlock()
	s.plugin.LinkChanged("c1")
	s.published("c1", `"state":"DOWN"`)
}

func TestRestartAdoptsPrunesAndForgets(t *testing.T) {
	m, w := newMemory(), newWire()
	m.Put(t.Context(), keys.CrossConnect("kept"), []byte(xc("kept", "red")))
	m.Put(t.Context(), keys.Status("gone"), []byte(`{"id": "gone"}`))
	w.world["wire/kept"], w.world["wire/gone"] = "red", "red"
	s := begin(t, m, w)
	s.published("kept", `"state":"UP"`)
	s.published("gone", "")
	s.wire.mu.Lock()
	if len(w.world) != 1 || w.calls != 1 {
		t.Errorf("world %v after %d calls", w.world, w.calls)
	}
	s.wire.mu.Unlock()
	// And once more: what is there already is not written again.
	puts := m.puts
	s.plugin.Stop()
	again := begin(t, m, w)
	again.put("new", xc("new", "red"))
	again.published("new", `"state":"UP"`)
	if m.puts != puts+2 {
		t.Errorf("a restart and one new record made %d puts, want 2", m.puts-puts)
	}
}

func TestWaitingEndsWithTheContextOrTheRecord(t *testing.T) {
	s := begin(t, newMemory(), newWire())
	short, cancel := context.WithTimeout(s.ctx, 10*time.Millisecond)
	defer cancel()
	if _, err := s.plugin.Await(short, "c1", 99); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("awaiting what never comes: %v", err)
	}
	first, _ := s.store.Put(s.ctx, keys.CrossConnect("c1"), []byte(xc("c1", "red")))
	s.store.Delete(s.ctx, keys.CrossConnect("c1"))
	if _, err := s.plugin.Await(s.ctx, "c1", first); !errors.Is(err, ErrGone) && err != nil {
		t.Errorf("awaiting what was deleted: %v", err)
	}
}

func TestWhatWasPreparedIsTakenAsItIsAndNothingElse(t *testing.T) {
	s := begin(t, newMemory(), newWire())
	end := &models.Attachment{Mechanism: &models.Mechanism{Type: "WIRE", Parameters: map[string]string{"colour": "red"}}}
	x := &models.CrossConnect{Id: "c1", Client: end, Endpoint: end}
	data, err := s.plugin.Begin(x)
	if err != nil {
		t.Fatal(err)
	}
	s.put("c1", string(data))
	if got, _, _ := s.plugin.Lookup("c1"); got != x || s.wire.world["wire/c1"] != "red" {
		t.Errorf("record %p, want %p; world %v", got, x, s.wire.world)
	}
	if _, err := s.plugin.Begin(x); err != nil {
		t.Fatal(err)
	}
	s.put("c1", xc("c1", "blue")) // somebody else was faster
	if s.wire.world["wire/c1"] != "blue" {
		t.Errorf("world %v", s.wire.world)
	}
	if _, err := s.plugin.Begin(&models.CrossConnect{Id: "c2"}); err == nil {
		t.Error("a record without mechanisms was prepared")
	}
}
