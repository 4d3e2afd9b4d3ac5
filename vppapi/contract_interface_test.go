package vppapi_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.fd.io/govpp/api"
	interfaces "go.fd.io/govpp/binapi/interface"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/memclnt"
	"go.fd.io/govpp/binapi/memif"

	"go.patchbay.dev/vppapi"
)

func finish(t *testing.T, e *env) {
	c := e.client(t)
	i, _ := e.memif(t, c, "")
	for range 2 {
		ok(t, "finish", c.Finish(t.Context(), i, vppapi.Setup{Tag: "patchbay:f:0", MTU: 1432, RxMode: vppapi.Adaptive}))
		got := find(t, c, i)
		if got.Tag != "patchbay:f:0" || got.MTU != 1432 || !got.AdminUp || got.LinkUp {
			t.Errorf("after finish: %+v", got)
		}
	}
	if err := c.Finish(t.Context(), i, vppapi.Setup{Tag: strings.Repeat("x", vppapi.MaxTag+1)}); err == nil {
		t.Error("a tag that VPP would cut was taken")
	}
	long := strings.Repeat("x", vppapi.MaxTag)
	ok(t, "finish with the longest tag", c.Finish(t.Context(), i, vppapi.Setup{Tag: long}))
	if got := find(t, c, i); got.Tag != long {
		t.Errorf("tag %q", got.Tag)
	}
	refused(t, "finish without a tag", c.Finish(t.Context(), i, vppapi.Setup{}), api.INVALID_VALUE)
}

func finishAbsent(t *testing.T, e *env) {
	c := e.client(t)
	refused(t, "finish", c.Finish(t.Context(), absent, vppapi.Setup{Tag: "patchbay:absent:0", MTU: 1500, IP: true, RxMode: vppapi.Polling}), api.INVALID_SW_IF_INDEX)
	if _, there := c.Tagged("patchbay:absent:0"); there {
		t.Error("it is known by its tag")
	}
	i := interface_types.InterfaceIndex(absent)
	for _, p := range []vppapi.Pair{
		{Request: &interfaces.SwInterfaceSetRxMode{SwIfIndex: i, Mode: interface_types.RX_MODE_API_POLLING}, Reply: &interfaces.SwInterfaceSetRxModeReply{}},
		{Request: &interfaces.SwInterfaceSetRxPlacement{SwIfIndex: i}, Reply: &interfaces.SwInterfaceSetRxPlacementReply{}},
		{Request: &interfaces.SwInterfaceSetFlags{SwIfIndex: i}, Reply: &interfaces.SwInterfaceSetFlagsReply{}},
	} {
		refused(t, p.Request.GetMessageName(), c.Ask(t.Context(), p), api.INVALID_SW_IF_INDEX)
	}
}

// A memif without a peer has no queue, so any mode is fine and lost; a vhost-user
// interface has one that takes none; an af_packet interface refuses adaptive.
func rxModes(t *testing.T, e *env) {
	c := e.client(t)
	mode := func(i vppapi.Index, m interface_types.RxMode) error {
		return c.Ask(t.Context(), vppapi.Pair{
			Request: &interfaces.SwInterfaceSetRxMode{SwIfIndex: interface_types.InterfaceIndex(i), Mode: m}, Reply: &interfaces.SwInterfaceSetRxModeReply{}})
	}
	i, _ := e.memif(t, c, "")
	ok(t, "memif, adaptive", mode(i, interface_types.RX_MODE_API_ADAPTIVE))
	v, err := c.CreateVhostUser(t.Context(), vppapi.VhostUser{Socket: e.path(number()), Server: true, MAC: [6]byte{2, 1}}, "patchbay:rx:1")
	ok(t, "create vhost-user", err)
	refused(t, "vhost-user, adaptive", mode(v, interface_types.RX_MODE_API_ADAPTIVE), api.UNIMPLEMENTED)
	ok(t, "vhost-user, adaptive, by the typed call", c.SetRxMode(t.Context(), v, vppapi.Adaptive))
	ok(t, "delete vhost-user", c.DeleteVhostUser(t.Context(), v))

	name, _ := veth(t)
	h, err := c.CreateHostIf(t.Context(), vppapi.HostIf{Name: name, MAC: [6]byte{2, 2}, Frame: 1514})
	ok(t, "create host interface", err)
	refused(t, "host interface, adaptive", mode(h, interface_types.RX_MODE_API_ADAPTIVE), api.UNIMPLEMENTED)
	ok(t, "host interface, polling, before it is up", mode(h, interface_types.RX_MODE_API_POLLING))
	if e.real != nil {
		if got := e.real.CLI("show interface rx-placement"); !strings.Contains(got, "host-"+name+" queue 0 (polling)") {
			t.Errorf("rx-placement:\n%s", got)
		}
	}
	ok(t, "host interface, interrupt", mode(h, interface_types.RX_MODE_API_INTERRUPT))
	ok(t, "delete host interface", c.DeleteHostIf(t.Context(), h, name))
}

func tags(t *testing.T, e *env) {
	c := e.client(t)
	tag := fmt.Sprintf("patchbay:t%d:0", number())
	i, n := e.memif(t, c, tag)
	if got, there := c.Tagged(tag); !there || got.Index != i || !got.AdminUp || got.Name != fmt.Sprintf("memif%d/0", n) {
		t.Errorf("after finish: %+v, %v", got, there)
	}
	if got, there := e.client(t).Tagged(tag); !there || got.Index != i {
		t.Errorf("to a client that came later: %+v, %v", got, there)
	}
	ok(t, "finish with another tag", c.Finish(t.Context(), i, vppapi.Setup{Tag: tag + "'"}))
	if got, there := c.Tagged(tag); there {
		t.Errorf("the old tag: %+v", got)
	}
	all, err := c.Refresh(t.Context())
	ok(t, "refresh", err)
	if got, there := c.Tagged(tag + "'"); !there || got.Index != i || len(all) < 2 {
		t.Errorf("after refresh: %+v, %v of %d", got, there, len(all))
	}
	ok(t, "delete", c.DeleteMemif(t.Context(), i, n))
	if got, there := c.Tagged(tag + "'"); there {
		t.Errorf("after delete: %+v", got)
	}
}

// links records what a watcher is told.
type links struct {
	mu   sync.Mutex
	tags []string
}

func (l *links) watcher() vppapi.Watcher {
	return vppapi.Watcher{Links: func(tags []string) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.tags = append(l.tags, tags...)
	}}
}

func (l *links) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tags = nil
}

func (l *links) told(tag string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range l.tags {
		if t == tag {
			return true
		}
	}
	return false
}

func told(t *testing.T, e *env) {
	var l links
	c, other := e.client(t, watch(l.watcher())), e.client(t)
	tag := fmt.Sprintf("patchbay:o%d:0", number())
	i, n := e.memif(t, c, tag)
	quiet := fmt.Sprintf("patchbay:o%d:1", number())
	q, _ := e.memif(t, c, quiet)
	ok(t, "another's tag", other.Ask(t.Context(), vppapi.Pair{
		Request: &interfaces.SwInterfaceTagAddDel{IsAdd: true, SwIfIndex: interface_types.InterfaceIndex(q), Tag: "mine"}, Reply: &interfaces.SwInterfaceTagAddDelReply{}}))
	if l.told(quiet) {
		t.Error("VPP tells of a tag by itself; nobody need look")
	}
	find(t, c, q)
	if _, there := c.Tagged(quiet); there || !l.told(quiet) {
		t.Errorf("after a look: there %v, told %v", there, l.told(quiet))
	}
	set := func(flags interface_types.IfStatusFlags) {
		t.Helper()
		ok(t, "set flags", other.Ask(t.Context(), vppapi.Pair{
			Request: &interfaces.SwInterfaceSetFlags{SwIfIndex: interface_types.InterfaceIndex(i), Flags: flags}, Reply: &interfaces.SwInterfaceSetFlagsReply{}}))
	}
	up := func() bool { got, _ := c.Tagged(tag); return got.AdminUp }
	set(0)
	soon(t, "it is down", func() bool { return !up() })
	soon(t, "the link is told", func() bool { return l.told(tag) })
	set(interface_types.IF_STATUS_API_FLAG_ADMIN_UP)
	soon(t, "it is up", up)
	ok(t, "delete by another", other.Ask(t.Context(),
		vppapi.Pair{Request: &memif.MemifDelete{SwIfIndex: interface_types.InterfaceIndex(i)}, Reply: &memif.MemifDeleteReply{}},
		vppapi.Pair{Request: &memif.MemifSocketFilenameAddDelV2{SocketID: n}, Reply: &memif.MemifSocketFilenameAddDelV2Reply{}}))
	soon(t, "it is gone", func() bool { _, there := c.Tagged(tag); return !there })

	// Another may have its index before its event has come.
	for range 20 {
		a, n := e.memif(t, c, tag)
		ok(t, "delete", c.DeleteMemif(t.Context(), a, n))
		next := fmt.Sprintf("patchbay:o%d:1", number())
		b, _ := e.memif(t, c, next)
		ok(t, "ping", c.Ask(t.Context(), vppapi.Pair{Request: &memclnt.ControlPing{}, Reply: &memclnt.ControlPingReply{}}))
		if got, there := c.Tagged(next); !there || got.Index != b {
			t.Fatalf("%+v, %v; want index %d (the one before had %d)", got, there, b, a)
		}
	}
}

// peer connects a memif to another of the same VPP.
func peer(t *testing.T, e *env) {
	var l links
	c := e.client(t, watch(l.watcher()))
	tag := fmt.Sprintf("patchbay:p%d:0", number())
	i, n := e.memif(t, c, tag)
	other := number()
	come := func() {
		if e.fake != nil {
			ok(t, "link", e.fake.SetLink(tag, true))
			return
		}
		e.real.CLI(fmt.Sprintf("create memif socket id %d filename %s", other, e.path(n)))
		e.real.CLI(fmt.Sprintf("create interface memif id 0 socket-id %d slave", other))
		e.real.CLI(fmt.Sprintf("set interface state memif%d/0 up", other))
	}
	leave := func() {
		if e.fake != nil {
			ok(t, "link", e.fake.SetLink(tag, false))
			return
		}
		e.real.CLI(fmt.Sprintf("delete interface memif memif%d/0", other))
		e.real.CLI(fmt.Sprintf("delete memif socket id %d", other))
	}
	come()
	soon(t, "the link is up, and it is still set up", func() bool { got, _ := c.Tagged(tag); return got.LinkUp && got.AdminUp })
	soon(t, "the link is told", func() bool { return l.told(tag) })
	ok(t, "rx-mode", c.SetRxMode(t.Context(), i, vppapi.Adaptive))
	all, _, err := c.Memifs(t.Context())
	ok(t, "list memifs", err)
	for _, m := range all {
		if m.Index == i && (m.RingSize != 1 || m.BufferSize != 0) { // VPP does not tell even now
			t.Errorf("with a peer: %+v", m)
		}
	}
	leave()
	soon(t, "the link is down, and it is still set up", func() bool { got, _ := c.Tagged(tag); return !got.LinkUp && got.AdminUp })
}

func hostLife(t *testing.T, e *env) {
	name, _ := veth(t)
	c := e.client(t)
	mac := [6]byte{2, 0, 0, 0, 9, 1}
	i, err := c.CreateHostIf(t.Context(), vppapi.HostIf{Name: name, MAC: mac, Frame: 1414})
	ok(t, "create", err)
	if got := find(t, c, i); got.Name != "host-"+name || got.Device != "af-packet" || got.MAC != mac || got.AdminUp || got.MTU != 9000 || !got.LinkUp {
		t.Errorf("%+v", got)
	}
	again, err := c.CreateHostIf(t.Context(), vppapi.HostIf{Name: name, MAC: mac, Frame: 1414})
	refused(t, "create again", err, api.IF_ALREADY_EXISTS)
	if again != i {
		t.Errorf("create again names %d, not %d", again, i)
	}
	all, err := c.HostIfs(t.Context())
	ok(t, "list", err)
	if all[name] != i {
		t.Errorf("list: %v", all)
	}
	ok(t, "finish", c.Finish(t.Context(), i, vppapi.Setup{Tag: "patchbay:h:0", MTU: 1400, RxMode: vppapi.Polling}))
	if got := find(t, c, i); got.MTU != 1400 || !got.AdminUp || !got.LinkUp {
		t.Errorf("after finish: %+v", got)
	}
	for range 2 {
		ok(t, "delete", c.DeleteHostIf(t.Context(), i, name))
	}
	if _, there := c.Tagged("patchbay:h:0"); there {
		t.Error("it is known after it was deleted")
	}
	_, err = c.CreateHostIf(t.Context(), vppapi.HostIf{Name: "pb-not-there", MAC: mac, Frame: 1514})
	refused(t, "create where the kernel has none", err, api.INVALID_INTERFACE)
}

func stats(t *testing.T, e *env) {
	s := vppapi.NewStats(e.stats)
	if e.fake != nil {
		if _, _, err := s.Read(); !isNoStats(err) {
			t.Errorf("%v; want ErrNoStats", err)
		}
		return
	}
	if _, _, err := vppapi.NewStats(filepath.Join(e.dir, "none.sock")).Read(); !isNoStats(err) {
		t.Errorf("no socket: %v; want ErrNoStats", err)
	}
	c := e.client(t)
	i, _ := e.memif(t, c, "patchbay:stats:0")
	counters, buffers, err := s.Read()
	ok(t, "read", err)
	if len(counters) <= int(i) || buffers == 0 {
		t.Errorf("%d counters, %d buffers", len(counters), buffers)
	}
	whileInterfacesComeAndGo(t, e, c, func() {
		if _, buffers, err := s.Read(); err != nil || buffers == 0 {
			t.Errorf("read while interfaces come and go: %d buffers, %v", buffers, err)
		}
	})
	if os.Geteuid() == 0 {
		name, peer := veth(t)
		h, err := c.CreateHostIf(context.Background(), vppapi.HostIf{Name: name, MAC: [6]byte{2, 3}, Frame: 1414})
		ok(t, "create host interface", err)
		ok(t, "finish", c.Finish(t.Context(), h, vppapi.Setup{Tag: "patchbay:stats:1"}))
		run(t, "ip", "link", "set", peer, "up") // the kernel looks for routers
		soon(t, "a packet is counted", func() bool {
			counters, _, err := s.Read()
			ok(t, "read", err)
			return len(counters) > int(h) && counters[h].RxPackets > 0 && counters[h].RxBytes > 0
		})
		ok(t, "delete host interface", c.DeleteHostIf(t.Context(), h, name))
	}
	e.restart(t)
	s.Reset()
	_, buffers, err = s.Read()
	ok(t, "read after a restart", err)
	if buffers == 0 {
		t.Error("no buffers after a restart")
	}
}

// whileInterfacesComeAndGo calls do again and again while VPP makes and deletes interfaces.
func whileInterfacesComeAndGo(t *testing.T, e *env, c *vppapi.Client, do func()) {
	t.Helper()
	came := make(chan error, 1)
	go func() {
		for range 200 {
			n := number()
			i, err := c.CreateMemif(context.Background(), n, vppapi.Memif{Socket: e.path(n)})
			if err == nil {
				err = c.DeleteMemif(context.Background(), i, n)
			}
			if err != nil {
				came <- err
				return
			}
		}
		came <- nil
	}()
	for times := 0; ; times++ {
		select {
		case err := <-came:
			ok(t, fmt.Sprint("make interfaces, looked at ", times, " times"), err)
			if times == 0 {
				t.Error("it was not looked at")
			}
			return
		default:
			do()
		}
	}
}
