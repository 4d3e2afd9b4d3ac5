package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestDeadAtStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := Config{DataDir: filepath.Join(dir, "data"), Listen: "unix://" + filepath.Join(dir, "sock")}
	start := time.Now()
	s := open(t, Config{Endpoints: []string{c.Listen}, Log: testLog(t)})
	if err := s.Up(); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("up: %v", err)
	}
	v, _ := watch(t, s, "/a/")
	failsAtOnce(t, s)
	if took := time.Since(start); took > patience {
		t.Errorf("it took %v", took)
	}
	server := newServerAt(t, c)
	mustPut(t, server.Store, "/a/b", "c")
	v.has(t, "/a/b", "c")
	untilUp(t, s)
	mustPut(t, s, "/a/b", "d")
	v.has(t, "/a/b", "d")
}

func TestReasonIsInWords(t *testing.T) {
	dial := status.Error(codes.Unavailable, `connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:1: connect: connection refused"`)
	for err, want := range map[error]string{
		dial:                          "Error while dialing: dial tcp 127.0.0.1:1: connect: connection refused",
		fmt.Errorf("probe: %w", dial): "Error while dialing: dial tcp 127.0.0.1:1: connect: connection refused",
		status.Error(codes.DeadlineExceeded, "not ready"): "no answer in time: not ready",
		context.DeadlineExceeded:                          "no answer in time",
		rpctypes.ErrPermissionDenied:                      "etcdserver: permission denied",
	} {
		if got := reason(err); got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
}

// failsAtOnce: every request fails, at once, with the reason.
func failsAtOnce(t *testing.T, s *Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	start := time.Now()
	_, put := s.Put(ctx, "/a", nil)
	_, get := s.Get(ctx, "/a")
	_, _, list := s.List(ctx, "/a")
	_, del := s.Delete(ctx, "/a")
	_, create := s.Create(ctx, "/a", nil)
	_, leased := s.PutLeased(ctx, "/a", nil, time.Minute)
	for what, err := range map[string]error{"put": put, "get": get, "list": list, "delete": del, "create": create, "leased": leased} {
		if !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if took := time.Since(start); took > patience {
		t.Errorf("six requests took %v to fail", took)
	}
}

func TestAddressThatDoesNotAnswerAtStart(t *testing.T) {
	// A listener that accepts and says nothing.
	p := newProxy(t, "unix", strings.TrimPrefix(newServer(t).Listen, "unix://"))
	p.freeze()
	start := time.Now()
	s := open(t, Config{Endpoints: []string{p.url()}})
	if took := time.Since(start); took > patience {
		t.Errorf("open took %v", took)
	}
	failsAtOnce(t, s)
	p.thaw()
	untilUp(t, s)
}

func TestGoneWhileRunning(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	s := server.client(t)
	v, _ := watch(t, s, "/a")
	mustPut(t, s, "/a", "1")
	v.has(t, "/a", "1")
	start := time.Now()
	server.stop()
	untilDown(t, s)
	if took := time.Since(start); took > probeEvery {
		t.Logf("noticed after %v, no sooner than by asking; the machine may be busy", took)
	}
	failsAtOnce(t, s)
	server.start()
	untilUp(t, s)
	mustPut(t, s, "/a", "2")
	v.has(t, "/a", "2")
}

// A server that hangs keeps its connections: only its silence shows.
func TestHangs(t *testing.T) {
	server := newServer(t)
	p := newProxy(t, "unix", strings.TrimPrefix(server.Listen, "unix://"))
	s := open(t, Config{Endpoints: []string{p.url()}, Log: testLog(t)})
	v, _ := watch(t, s, "/a")
	mustPut(t, s, "/a", "1")
	v.has(t, "/a", "1")
	p.freeze()
	under, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	failed := make(chan error)
	go func() { _, err := s.Put(under, "/b", nil); failed <- err }()
	err := untilDown(t, s)
	if !strings.Contains(err.Error(), "no answer") {
		t.Error(err)
	}
	if err := <-failed; !errors.Is(err, ErrUnavailable) {
		t.Errorf("the put that was under way: %v", err)
	}
	failsAtOnce(t, s)
	mustPut(t, server.Store, "/a", "2")
	p.thaw()
	v.has(t, "/a", "2")
	untilUp(t, s)
}

// One of two endpoints is enough, whichever it is.
func TestSecondEndpoint(t *testing.T) {
	t.Parallel()
	server := newServer(t)
	to := strings.TrimPrefix(server.Listen, "unix://")
	one, two := newProxy(t, "unix", to), newProxy(t, "unix", to)
	one.Close()
	s := open(t, Config{Endpoints: []string{one.url(), two.url()}, Log: testLog(t)})
	if err := s.Up(); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		mustPut(t, s, "/a", "1")
	}
}

func TestAuthentication(t *testing.T) {
	t.Parallel()
	const secret = "open-sesame"
	dir := t.TempDir()
	listen := "http://" + freePort(t)
	server := newServerAt(t, Config{DataDir: filepath.Join(dir, "data"), Listen: listen, Insecure: true,
		tuning: tuning{etcd: func(c *embed.Config) { c.BcryptCost = 4 }}}) // passwords are slow to check, by design
	c := server.session.client
	for _, err := range []error{
		second(c.UserAdd(t.Context(), "root", "root")),
		second(c.UserGrantRole(t.Context(), "root", "root")),
		second(c.RoleAdd(t.Context(), "patchbay")),
		second(c.RoleGrantPermission(t.Context(), "patchbay", "/patchbay/v1/", "/patchbay/v10", clientv3.PermissionType(clientv3.PermReadWrite))),
		second(c.UserAdd(t.Context(), "patchbay", secret)),
		second(c.UserGrantRole(t.Context(), "patchbay", "patchbay")),
		second(c.AuthEnable(t.Context())),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	conf := Config{Endpoints: []string{listen}, Prefix: "/patchbay/v1/", Insecure: true, Username: "patchbay", Password: secret}
	log := &strings.Builder{}
	conf.Log = textLog(log)

	s := open(t, conf)
	untilUp(t, s)
	mustPut(t, s, "/patchbay/v1/a", "1")
	v, _ := watch(t, s, "/patchbay/v1/")
	v.has(t, "/patchbay/v1/a", "1")
	if _, err := s.PutLeased(t.Context(), "/patchbay/v1/l", nil, time.Minute); err != nil {
		t.Error(err)
	}
	if _, err := s.Put(t.Context(), "/elsewhere", nil); err == nil || errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("put where it may not: %v", err)
	}
	s.Close()

	for name, change := range map[string]func(*Config){
		"a wrong password": func(c *Config) { c.Password = secret + "!" },
		"no user":          func(c *Config) { c.Username, c.Password = "", "" },
		"another's prefix": func(c *Config) { c.Prefix = "/other/" },
	} {
		t.Run(name, func(t *testing.T) {
			c := conf
			change(&c)
			s := open(t, c)
			if err := s.Up(); !errors.Is(err, ErrUnavailable) || strings.Contains(err.Error(), secret) {
				t.Error(err)
			} else {
				t.Log(err)
			}
		})
	}
	if strings.Contains(log.String(), secret) {
		t.Error("the log tells the password")
	}
}

// second is the error of a call that gives two values.
func second(_ any, err error) error { return err }
