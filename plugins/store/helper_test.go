package store

import (
	"bytes"
	"context"
	"fmt"
	clientv3 "go.etcd.io/etcd/client/v3"
	"log/slog"
	"maps"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is for what happens soon; no test waits so long unless it fails.
const patience = 20 * time.Second

// open opens a store that is closed with the test.
func open(t testing.TB, c Config) *Store {
	t.Helper()
	s, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// mustPut puts a key and returns its revision.
func mustPut(t testing.TB, s *Store, key, value string) int64 {
	t.Helper()
	revision, err := s.Put(t.Context(), key, []byte(value))
	if err != nil {
		t.Fatal(err)
	}
	return revision
}

// until waits until Up is as asked.
func until(t testing.TB, s *Store, what string, ok func(error) bool) error {
	t.Helper()
	timeout := time.After(patience)
	for {
		changed := s.Changed()
		err := s.Up()
		if ok(err) {
			return err
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("etcd is not %s: Up() = %v", what, err)
		}
	}
}

func untilUp(t testing.TB, s *Store) {
	t.Helper()
	until(t, s, "up", func(err error) bool { return err == nil })
}

func untilDown(t testing.TB, s *Store) error {
	t.Helper()
	return until(t, s, "down", func(err error) bool { return err != nil })
}

// eventually repeats a question that nothing announces the answer of.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not in time: ", what)
		}
	}
}

// server is an etcd for a store to be external of, at one address through all its restarts.
type server struct {
	t testing.TB
	Config
	*Store
}

// newServer starts an etcd on a unix socket.
func newServer(t testing.TB) *server {
	t.Helper()
	dir := t.TempDir()
	return newServerAt(t, Config{DataDir: filepath.Join(dir, "data"), Listen: "unix://" + filepath.Join(dir, "sock")})
}

func newServerAt(t testing.TB, c Config) *server {
	t.Helper()
	s := &server{t: t, Config: c}
	s.start()
	t.Cleanup(s.stop)
	return s
}

func (s *server) start() {
	s.t.Helper()
	var err error
	if s.Store, err = Open(context.Background(), s.Config); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) stop() { s.Close() }

// client is a store at the server.
func (s *server) client(t testing.TB) *Store {
	t.Helper()
	return open(t, Config{Endpoints: []string{s.Listen}, Log: testLog(t)})
}

// freePort is an address on which nobody listens now.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// view is what a consumer of a watch believes that there is.
type view struct {
	mu        sync.Mutex
	kvs       map[string]KV
	revision  int64
	snapshots int
	wrong     []string
	changed   chan struct{}
}

// watch follows prefix until the test ends or stop is called.
func watch(t testing.TB, s *Store, prefix string) (v *view, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	v = &view{kvs: map[string]KV{}, changed: make(chan struct{})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Watch(ctx, prefix, v.take); err == nil {
			t.Error("Watch returned without an error")
		}
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return v, stop
}

// take checks the promises of a Batch.
func (v *view) take(b Batch) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if b.Snapshot {
		v.snapshots++
		clear(v.kvs)
	} else if b.Revision <= v.revision {
		v.wrong = append(v.wrong, fmt.Sprintf("changes of revision %d after %d", b.Revision, v.revision))
	}
	seen := map[string]bool{}
	for _, kv := range b.Puts {
		if seen[kv.Key] || kv.Revision > b.Revision || !b.Snapshot && kv.Revision <= v.revision {
			v.wrong = append(v.wrong, fmt.Sprintf("put of %s at %d in the batch up to %d after %d", kv.Key, kv.Revision, b.Revision, v.revision))
		}
		seen[kv.Key] = true
		v.kvs[kv.Key] = kv
	}
	for _, k := range b.Deletes {
		if seen[k] {
			v.wrong = append(v.wrong, "put and delete of "+k+" in one batch")
		}
		delete(v.kvs, k)
	}
	v.revision = b.Revision
	close(v.changed)
	v.changed = make(chan struct{})
}

// until waits until the view is as asked.
func (v *view) until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	timeout := time.After(patience)
	for {
		v.mu.Lock()
		changed, good, state := v.changed, ok(), fmt.Sprintf("%d keys, %d snapshots, revision %d", len(v.kvs), v.snapshots, v.revision)
		wrong := v.wrong
		v.mu.Unlock()
		if len(wrong) > 0 {
			t.Fatal(wrong)
		}
		if good {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("the watch has not seen %s: %s", what, state)
		}
	}
}

// has waits for a key with a value; an empty value is for no key.
func (v *view) has(t testing.TB, key, value string) {
	t.Helper()
	v.until(t, key+" = "+value, func() bool { return string(v.kvs[key].Value) == value })
}

func (v *view) count() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.snapshots
}

// equals waits until the view is what a list says.
func (v *view) equals(t testing.TB, s *Store, prefix string) {
	t.Helper()
	kvs, _, err := s.List(t.Context(), prefix)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]KV{}
	for _, kv := range kvs {
		want[kv.Key] = kv
	}
	v.until(t, fmt.Sprintf("the %d keys that there are", len(want)), func() bool {
		return maps.EqualFunc(v.kvs, want, func(a, b KV) bool {
			return a.Revision == b.Revision && bytes.Equal(a.Value, b.Value)
		})
	})
}

// testLog writes into the test's output.
func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// proxy stands between a client and a server, to be broken.
type proxy struct {
	net.Listener
	to     string
	mu     sync.Mutex
	conns  []net.Conn
	frozen chan struct{} // while it is open nothing passes
}

func newProxy(t testing.TB, network, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{Listener: l, to: to, frozen: make(chan struct{})}
	close(p.frozen)
	t.Cleanup(func() { l.Close(); p.thaw(); p.cut() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial(network, to)
			if err != nil {
				in.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, in, out)
			p.mu.Unlock()
			go p.pass(in, out)
			go p.pass(out, in)
		}
	}()
	return p
}

func (p *proxy) url() string { return "http://" + p.Addr().String() }

func (p *proxy) pass(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		frozen := p.frozen
		p.mu.Unlock()
		<-frozen
		if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

// cut ends all connections; new ones are possible.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

// freeze lets nothing pass any more, with the connections up.
func (p *proxy) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frozen = make(chan struct{})
}

func (p *proxy) thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.frozen:
	default:
		close(p.frozen)
	}
}

func withRev(revision int64) []clientv3.OpOption {
	return []clientv3.OpOption{clientv3.WithRev(revision)}
}

// textLog writes everything into b, which nobody reads before the log's users are done.
func textLog(b *strings.Builder) *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func withLease(id clientv3.LeaseID) []clientv3.OpOption {
	return []clientv3.OpOption{clientv3.WithLease(id)}
}

func leaseID(r *clientv3.GetResponse) clientv3.LeaseID { return clientv3.LeaseID(r.Kvs[0].Lease) }
