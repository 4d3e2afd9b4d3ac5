package vppapi_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.fd.io/govpp/api"
	"go.fd.io/govpp/binapi/interface_types"
	"go.fd.io/govpp/binapi/memif"
	"go.fd.io/govpp/binapi/vhost_user"

	"go.patchbay.dev/vppapi"
)

func isNoStats(err error) bool { return errors.Is(err, vppapi.ErrNoStats) }

func memifLife(t *testing.T, e *env) {
	c := e.client(t)
	n := number()
	mac := [6]byte{2, 0, 0, 0, 1, 1}
	i, err := c.CreateMemif(t.Context(), n, vppapi.Memif{Socket: e.path(n), RingSize: 256, Secret: strings.Repeat("s", vppapi.MaxSecret), MAC: mac})
	ok(t, "create", err)
	if got := find(t, c, i); got.Name != fmt.Sprintf("memif%d/0", n) || got.MAC != mac || got.AdminUp || got.LinkUp || got.Tag != "" || got.MTU == 0 || got.Device != "memif" {
		t.Errorf("%+v", got)
	}
	if s, err := os.Stat(e.path(n)); err != nil || s.Mode() != os.ModeSocket|0o775 {
		t.Errorf("its socket: %v, %v", s.Mode(), err)
	}
	if conn, err := net.Dial("unixpacket", e.path(n)); err != nil {
		t.Error(err)
	} else {
		conn.Close()
	}
	all, sockets, err := c.Memifs(t.Context())
	ok(t, "list", err)
	found := false
	for _, m := range all {
		if m.Index == i {
			found = true
			want := vppapi.MemifFound{Memif: vppapi.Memif{Socket: e.path(n), RingSize: 1, MAC: mac}, Index: i, Number: n, Server: true}
			if m != want {
				t.Errorf("listed as %+v; want %+v", m, want)
			}
		}
	}
	if !found || sockets[n] != e.path(n) || sockets[0] == "" {
		t.Errorf("memifs %+v, sockets %v", all, sockets)
	}
	refused(t, "delete a socket in use", c.DeleteMemifSocket(t.Context(), n), api.UNEXPECTED_INTF_STATE)
	for range 2 {
		ok(t, "delete", c.DeleteMemif(t.Context(), i, n))
		ok(t, "delete socket", c.DeleteMemifSocket(t.Context(), n))
	}
	if _, sockets, err = c.Memifs(t.Context()); err != nil || sockets[n] != "" {
		t.Errorf("after delete: %v, %v", sockets, err)
	}
	if _, err := net.Dial("unixpacket", e.path(n)); err == nil {
		t.Error("somebody listens after it was deleted")
	}
	if _, err := os.Stat(e.path(n)); err != nil { // VPP does not remove it, but takes it for the next
		t.Errorf("its socket after it was deleted: %v", err)
	}
	refused(t, "memif_delete", c.Ask(t.Context(), vppapi.Pair{Request: &memif.MemifDelete{SwIfIndex: interface_types.InterfaceIndex(i)}, Reply: &memif.MemifDeleteReply{}}), api.INVALID_SW_IF_INDEX)
	refused(t, "delete a socket that is not there", c.Ask(t.Context(), vppapi.Pair{Request: &memif.MemifSocketFilenameAddDelV2{SocketID: n}, Reply: &memif.MemifSocketFilenameAddDelV2Reply{}}), api.INVALID_ARGUMENT)
}

func memifRefused(t *testing.T, e *env) {
	c := e.client(t)
	i, n := e.memif(t, c, "")
	_, err := c.CreateMemif(t.Context(), n, vppapi.Memif{Socket: e.path(n)})
	refused(t, "the same again", err, api.SUBIF_ALREADY_EXISTS)
	_, err = c.CreateMemif(t.Context(), n, vppapi.Memif{Socket: e.path(number())})
	refused(t, "the number with another file", err, api.ENTRY_ALREADY_EXISTS)
	_, err = c.CreateMemif(t.Context(), number(), vppapi.Memif{Socket: e.path(n)})
	refused(t, "the file with another number", err, api.SYSCALL_ERROR_4)
	if s, err := os.Stat(e.path(n)); err != nil || s.Mode()&os.ModeSocket == 0 {
		t.Errorf("its socket: %v", err)
	}
	if got := find(t, c, i); got.Index != i {
		t.Error("it is gone")
	}

	// A number with a socket of somebody else and no interface 0.
	n = number()
	ok(t, "somebody's socket", c.Ask(t.Context(), vppapi.Pair{
		Request: &memif.MemifSocketFilenameAddDelV2{IsAdd: true, SocketID: n, SocketFilename: e.path(n)}, Reply: &memif.MemifSocketFilenameAddDelV2Reply{}}))
	before, err := c.Refresh(t.Context())
	ok(t, "list", err)
	_, err = c.CreateMemif(t.Context(), n, vppapi.Memif{Socket: e.path(number())})
	refused(t, "a number with somebody's file", err, api.ENTRY_ALREADY_EXISTS)
	after, err := c.Refresh(t.Context())
	ok(t, "list", err)
	if len(after) != len(before) {
		t.Errorf("%d interfaces; %d before", len(after), len(before))
	}
	ok(t, "delete socket", c.DeleteMemifSocket(t.Context(), n))

	_, err = c.CreateMemif(t.Context(), number(), vppapi.Memif{Socket: e.path(n), RingSize: 1000})
	refused(t, "a ring that is no power of 2", err, api.INVALID_ARGUMENT)
	ok(t, "delete a memif that is none", c.DeleteMemif(t.Context(), absent, number()))
}

func memifUnopenable(t *testing.T, e *env) {
	c := e.client(t)
	file := filepath.Join(e.dir, "file")
	ok(t, "write", os.WriteFile(file, []byte("precious"), 0o600))
	for what, path := range map[string]string{
		"in a folder that is not there": filepath.Join(e.dir, "none", "x.sock"),
		"a file that is no socket":      file,
		"too long":                      filepath.Join(e.dir, strings.Repeat("x", 120)),
	} {
		n := number()
		for range 2 { // the second must not seem to succeed
			_, err := c.CreateMemif(t.Context(), n, vppapi.Memif{Socket: path})
			refused(t, what, err, api.SYSCALL_ERROR_4)
		}
		all, sockets, err := c.Memifs(t.Context())
		ok(t, "list", err)
		for _, m := range all {
			if m.Number == n {
				t.Errorf("%s: %+v", what, m)
			}
		}
		if sockets[n] != "" {
			t.Errorf("%s: socket %q", what, sockets[n])
		}
		i, err := c.CreateMemif(t.Context(), n, vppapi.Memif{Socket: e.path(n)})
		ok(t, "the number for a better one", err)
		ok(t, "delete", c.DeleteMemif(t.Context(), i, n))
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "precious" {
		t.Errorf("the file: %q, %v", text, err)
	}
}

func memifIP(t *testing.T, e *env) {
	c := e.client(t)
	n := number()
	i, err := c.CreateMemif(t.Context(), n, vppapi.Memif{Socket: e.path(n), IP: true})
	ok(t, "create", err)
	if got := find(t, c, i); got.MTU != 0 {
		t.Errorf("%+v", got)
	}
	for range 2 {
		ok(t, "finish", c.Finish(t.Context(), i, vppapi.Setup{Tag: "patchbay:ip:0", MTU: 1400, IP: true}))
	}
	if got := find(t, c, i); got.MAC != [6]byte{} || got.MTU != 1400 || !got.AdminUp {
		t.Errorf("%+v", got)
	}
	all, _, err := c.Memifs(t.Context())
	ok(t, "list", err)
	for _, m := range all {
		if m.Index == i && !m.IP {
			t.Errorf("%+v", m)
		}
	}
	ok(t, "delete", c.DeleteMemif(t.Context(), i, n))
}

func vhostLife(t *testing.T, e *env) {
	c := e.client(t)
	path, mac := e.path(number()), [6]byte{2, 0, 0, 0, 2, 1}
	i, err := c.CreateVhostUser(t.Context(), vppapi.VhostUser{Socket: path, Server: true, MAC: mac}, "patchbay:v:0")
	ok(t, "create", err)
	if got := find(t, c, i); !strings.HasPrefix(got.Name, "VirtualEthernet0/0/") || got.MAC != mac || got.Tag != "patchbay:v:0" || got.AdminUp || got.Device != "vhost-user" {
		t.Errorf("%+v", got)
	}
	if s, err := os.Stat(path); err != nil || s.Mode() != os.ModeSocket|0o755 {
		t.Errorf("its socket: %v, %v", s.Mode(), err)
	}
	all, err := c.VhostUsers(t.Context())
	ok(t, "list", err)
	found := false
	for _, v := range all {
		found = found || v == vppapi.VhostUserFound{VhostUser: vppapi.VhostUser{Socket: path, Server: true}, Index: i}
	}
	if !found {
		t.Errorf("list: %+v", all)
	}
	ok(t, "finish", c.Finish(t.Context(), i, vppapi.Setup{Tag: "patchbay:v:0", MTU: 1500, RxMode: vppapi.Adaptive}))
	if got, there := c.Tagged("patchbay:v:0"); !there || !got.AdminUp || got.LinkUp || got.MTU != 1500 {
		t.Errorf("after finish: %+v, %v", got, there)
	}
	for range 2 {
		ok(t, "delete", c.DeleteVhostUser(t.Context(), i))
	}
	if _, there := c.Tagged("patchbay:v:0"); there {
		t.Error("it is known after it was deleted")
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its socket after it was deleted: %v", err)
	}
	refused(t, "delete_vhost_user_if", c.Ask(t.Context(), vppapi.Pair{
		Request: &vhost_user.DeleteVhostUserIf{SwIfIndex: interface_types.InterfaceIndex(i)}, Reply: &vhost_user.DeleteVhostUserIfReply{}}), api.INVALID_SW_IF_INDEX)
}

func vhostRefused(t *testing.T, e *env) {
	c := e.client(t)
	v := vppapi.VhostUser{Socket: e.path(number()), Server: true, MAC: [6]byte{2, 5}}
	i, err := c.CreateVhostUser(t.Context(), v, "patchbay:v:1")
	ok(t, "create", err)
	again, err := c.CreateVhostUser(t.Context(), v, "patchbay:v:2")
	refused(t, "create again", err, api.IF_ALREADY_EXISTS)
	if again != i {
		t.Errorf("create again names %d, not %d", again, i)
	}
	if got := find(t, c, i); got.Tag != "patchbay:v:1" {
		t.Errorf("tag %q", got.Tag)
	}
	ok(t, "delete", c.DeleteVhostUser(t.Context(), i))
	_, err = c.CreateVhostUser(t.Context(), vppapi.VhostUser{Socket: filepath.Join(e.dir, "none", "x"), Server: true}, "x")
	refused(t, "a folder that is not there", err, api.SYSCALL_ERROR_2)
	_, err = c.CreateVhostUser(t.Context(), vppapi.VhostUser{Server: true}, "x")
	refused(t, "no path", err, api.INVALID_ARGUMENT)
}
