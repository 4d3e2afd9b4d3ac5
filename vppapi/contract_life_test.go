package vppapi_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/memclnt"
	"go.fd.io/govpp/binapi/memif"

	"go.patchbay.dev/vppapi"
	"go.patchbay.dev/vppapi/vppfake"
)

func ping() vppapi.Pair {
	return vppapi.Pair{Request: &memclnt.ControlPing{}, Reply: &memclnt.ControlPingReply{}}
}

func order(t *testing.T, e *env) {
	c := e.client(t)
	n := number()
	var replies []*memif.MemifSocketFilenameAddDelV2Reply
	var pairs []vppapi.Pair
	for _, add := range []bool{true, true, false, false, true, false} {
		r := &memif.MemifSocketFilenameAddDelV2Reply{}
		replies = append(replies, r)
		pairs = append(pairs, vppapi.Pair{Request: &memif.MemifSocketFilenameAddDelV2{IsAdd: add, SocketID: n, SocketFilename: e.path(n)}, Reply: r})
	}
	refused(t, "one of them", c.Ask(t.Context(), pairs...), api.INVALID_ARGUMENT)
	for i, want := range []int32{0, 0, 0, int32(api.INVALID_ARGUMENT), 0, 0} {
		if replies[i].Retval != want {
			t.Errorf("%d: %d, not %d", i, replies[i].Retval, want)
		}
	}
	ok(t, "nothing to ask", c.Ask(t.Context()))
}

func many(t *testing.T, e *env) {
	c := e.client(t)
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			for n := range 20 {
				number, tag := number(), fmt.Sprintf("patchbay:m%d-%d:0", w, n)
				i, err := c.CreateMemif(t.Context(), number, vppapi.Memif{Socket: e.path(number)})
				if err == nil {
					err = c.Finish(t.Context(), i, vppapi.Setup{Tag: tag})
				}
				if got, there := c.Tagged(tag); err == nil && (!there || got.Index != i || !got.AdminUp) {
					err = fmt.Errorf("%s is known as %+v, %v", tag, got, there)
				}
				if _, again := c.Refresh(t.Context()); err == nil {
					err = again
				}
				if _, there := c.Tagged(tag); err == nil && !there {
					err = fmt.Errorf("%s is not known any more", tag)
				}
				if err == nil {
					err = c.DeleteMemif(t.Context(), i, number)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

func later(t *testing.T, e *env) {
	socket := filepath.Join(e.dir, "later.sock")
	c := e.started(t, options(func(o *vppapi.Options) { o.Socket = socket }))
	if err := c.Up(); !errors.Is(err, vppapi.ErrAway) || !strings.Contains(err.Error(), socket) {
		t.Errorf("before: %v", err)
	}
	if err := c.Ask(t.Context(), ping()); !errors.Is(err, vppapi.ErrAway) {
		t.Errorf("a call before: %v", err)
	}
	if why := c.Missing(vppapi.MemifPlugin); !strings.HasPrefix(why, "has no VPP") {
		t.Errorf("missing: %q", why)
	}
	ok(t, "link", os.Symlink(e.socket, socket))
	soon(t, "it answers", func() bool { return c.Up() == nil })
	if !strings.HasPrefix(c.Version(), vppapi.Release) || c.Restarts() != 0 {
		t.Errorf("version %q, %d restarts", c.Version(), c.Restarts())
	}
	for _, p := range []vppapi.Plugin{vppapi.MemifPlugin, vppapi.VhostPlugin, vppapi.AFPacketPlugin, vppapi.L3XCPlugin} {
		if why := c.Missing(p); why != "" {
			t.Errorf("%s %s", p, why)
		}
	}
	ok(t, "remove", os.Remove(socket))
}

func killed(t *testing.T, e *env) {
	var mu sync.Mutex
	var heard []string
	hear := func(what string) {
		mu.Lock()
		defer mu.Unlock()
		heard = append(heard, what)
	}
	story := func() string {
		mu.Lock()
		defer mu.Unlock()
		return strings.Join(heard, " ")
	}
	c := e.client(t, watch(vppapi.Watcher{
		Up: func() { hear("up") },
		Down: func(why error) {
			if !errors.Is(why, vppapi.ErrAway) {
				t.Errorf("down: %v", why)
			}
			hear("down")
		},
	}))
	e.memif(t, c, "patchbay:k:0")
	e.kill()
	soon(t, "down is told", func() bool { return story() == "up down" })
	if err := c.Up(); !errors.Is(err, vppapi.ErrAway) {
		t.Errorf("up: %v", err)
	}
	if err := c.Ask(t.Context(), ping()); !errors.Is(err, vppapi.ErrAway) {
		t.Errorf("a call: %v", err)
	}
	if _, there := c.Tagged("patchbay:k:0"); there {
		t.Error("an interface of the dead is known")
	}
	e.restart(t)
	soon(t, "up is told", func() bool { return story() == "up down up" })
	if err := c.Up(); err != nil || c.Restarts() != 1 {
		t.Errorf("up: %v, %d restarts", err, c.Restarts())
	}
	all, err := c.Refresh(t.Context())
	if err != nil || len(all) != 1 || all[0].Name != "local0" {
		t.Errorf("after a restart: %+v, %v", all, err)
	}
	e.memif(t, c, "patchbay:k:1")
}

func underWay(t *testing.T, e *env) {
	c := e.client(t, options(func(o *vppapi.Options) { o.Probe = time.Hour }))
	e.hang(t, true)
	errs := make(chan error, 4)
	for range cap(errs) {
		go func() { errs <- c.Ask(context.Background(), ping(), ping()) }()
	}
	time.Sleep(100 * time.Millisecond) // nothing tells that they are under way
	e.kill()
	for range cap(errs) {
		if err := <-errs; !errors.Is(err, vppapi.ErrAway) { // else they have waited for their time to be up
			t.Errorf("%v; want ErrAway", err)
		}
	}
	e.restart(t)
	soon(t, "it answers", func() bool { return c.Up() == nil })
}

func hangs(t *testing.T, e *env) {
	c := e.client(t, options(func(o *vppapi.Options) { o.Probe, o.Timeout = time.Hour, 300*time.Millisecond }))
	e.hang(t, true)
	if err := c.Ask(t.Context(), ping()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v; want context.DeadlineExceeded", err)
	}
	e.hang(t, false)
	soon(t, "it answers", func() bool { return c.Ask(t.Context(), ping()) == nil })
}

func silent(t *testing.T, e *env) {
	c := e.client(t, options(func(o *vppapi.Options) { o.Probe = 50 * time.Millisecond }))
	e.hang(t, true)
	soon(t, "it counts as away", func() bool { return c.Up() != nil })
	if err := c.Ask(t.Context(), ping()); !errors.Is(err, vppapi.ErrAway) {
		t.Errorf("a call: %v", err)
	}
	e.hang(t, false)
	soon(t, "it is back", func() bool { return c.Up() == nil })
	ok(t, "a call", c.Ask(t.Context(), ping()))
	if c.Restarts() != 0 {
		t.Errorf("%d restarts", c.Restarts())
	}
}

// A VPP of another release, or with a plugin less, is no real one that is at hand.
func TestAnotherVPP(t *testing.T) {
	start := func(t *testing.T, opts ...vppfake.Option) *vppapi.Client {
		t.Helper()
		return onFake(t, opts...).started(t)
	}
	t.Run("another release", func(t *testing.T) {
		c := start(t, vppfake.WithVersion("26.02-release"), vppfake.WithCRC("sw_interface_dump", "deadbeef"))
		err := c.Up()
		if !errors.Is(err, vppapi.ErrAway) {
			t.Fatalf("%v; want ErrAway", err)
		}
		for _, part := range []string{"26.02-release", "install VPP 25.10", "sw_interface_dump differs (deadbeef"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q lacks %q", err, part)
			}
		}
	})
	t.Run("a plugin less", func(t *testing.T) {
		c := start(t, vppfake.Without(vppapi.MemifPlugin))
		ok(t, "up", c.Up())
		if why := c.Missing(vppapi.MemifPlugin); !strings.Contains(why, "without the plugin memif") {
			t.Errorf("missing: %q", why)
		}
		if why := c.Missing(vppapi.VhostPlugin); why != "" {
			t.Errorf("vhost_user %s", why)
		}
		if _, err := c.CreateMemif(t.Context(), 1, vppapi.Memif{Socket: "/tmp/x"}); !errors.Is(err, vppapi.ErrUnknown) {
			t.Errorf("%v; want ErrUnknown", err)
		}
		ok(t, "another call", c.Ask(t.Context(), ping()))
	})
	t.Run("a plugin of another release", func(t *testing.T) {
		c := start(t, vppfake.WithCRC("l3xc_update", "deadbeef"))
		ok(t, "up", c.Up())
		if why := c.Missing(vppapi.L3XCPlugin); !strings.Contains(why, "l3xc_update differs") {
			t.Errorf("missing: %q", why)
		}
	})
}

func TestTheFakeRefusesAndTells(t *testing.T) {
	e := onFake(t)
	c, v := e.client(t), e.fake
	if got := v.Mutations(); len(got) != 0 {
		t.Errorf("connecting has changed something: %v", got)
	}
	v.Refuse("memif_create_v2", api.SYSCALL_ERROR_9)
	_, err := c.CreateMemif(t.Context(), 1, vppapi.Memif{Socket: e.path(1)})
	refused(t, "create", err, api.SYSCALL_ERROR_9)
	v.ClearRefusals()
	_, err = c.CreateMemif(t.Context(), 1, vppapi.Memif{Socket: e.path(1), Secret: "s"})
	ok(t, "create", err)
	if all := v.Interfaces(); len(all) != 1 || all[0].Name != "memif1/0" || all[0].Secret != "s" || all[0].Socket != e.path(1) {
		t.Errorf("%+v", all)
	}
	want := "memif_socket_filename_add_del_v2 memif_create_v2 memif_socket_filename_add_del_v2 memif_create_v2"
	if got := strings.Join(v.Mutations(), " "); got != want {
		t.Errorf("mutations %s", got)
	}
}
