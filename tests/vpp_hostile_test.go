package tests

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.patchbay.dev/tests/lab"
	"go.patchbay.dev/vppapi/vpptest"
)

// The memif control protocol, as far as its handshake (VPP: src/plugins/memif/memif.h):
// messages of 128 bytes on a SOCK_SEQPACKET socket.
const (
	memifAck        = 1
	memifHello      = 2
	memifInit       = 3
	memifDisconnect = 8
	memifVersion    = 2 << 8
)

// dialMemif connects to a memif server and says nothing.
func dialMemif(socket string) (*net.UnixConn, error) {
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: socket, Net: "unixpacket"})
	if err != nil {
		return nil, err
	}
	return c, c.SetDeadline(time.Now().Add(5 * time.Second))
}

// introduce goes as far in the handshake as a secret leads: nil if the server acknowledges
// it, else what the server says.
func introduce(c *net.UnixConn, secret string) error {
	if err := expectMemif(c, memifHello); err != nil {
		return err
	}
	m := make([]byte, 128)
	binary.LittleEndian.PutUint16(m, memifInit)
	binary.LittleEndian.PutUint16(m[2:], memifVersion)
	copy(m[9:33], secret)
	copy(m[33:65], "hostile")
	if _, err := c.Write(m); err != nil {
		return err
	}
	return expectMemif(c, memifAck)
}

func expectMemif(c *net.UnixConn, kind uint16) error {
	m := make([]byte, 256)
	n, err := c.Read(m)
	switch {
	case err != nil:
		return err
	case n != 128:
		return fmt.Errorf("a message of %d bytes", n)
	}
	if got := binary.LittleEndian.Uint16(m); got == memifDisconnect {
		text, _, _ := strings.Cut(string(m[6:102]), "\x00")
		return fmt.Errorf("disconnected: %s", text)
	} else if got != kind {
		return fmt.Errorf("message %d, want %d", got, kind)
	}
	return nil
}

// A workload that abuses its socket harms neither others' packets, nor the agent, nor,
// once it ends, itself.
func TestHostileMemifPeer(t *testing.T) {
	a, v, client, _ := vppSetup(t)
	s := connectEnds(t, a, "c2", "ETHERNET", 0, end{mechanism: "MEMIF"},
		end{mechanism: "MEMIF", parameters: map[string]string{"secret": "s3cret"}})
	socket := s.Endpoint.Parameters["socketfile"]
	pid, f := v.PID(), startFlow(t, client.ns, "10.60.0.2")
	for _, attack := range []struct {
		name string
		do   func(t *testing.T)
	}{
		{"connects and never speaks", func(t *testing.T) {
			var held []net.Conn
			for range 200 {
				lab.Eventually(t, 5*time.Second, "room in the backlog", func() error {
					c, err := dialMemif(socket)
					if err == nil {
						held = append(held, c)
					}
					return err
				})
			}
			began := time.Now()
			if out := v.CLI("show version"); !strings.Contains(out, "vpp v") {
				t.Error(out)
			}
			t.Logf("with 200 connections that say nothing, VPP's CLI takes %s", time.Since(began))
			connectEnds(t, a, "c3", "ETHERNET", 0, end{mechanism: "MEMIF"}, end{mechanism: "MEMIF"})
			for _, c := range held {
				c.Close()
			}
		}},
		{"connects and vanishes 1000 times", func(t *testing.T) {
			for i := range 1000 {
				c, err := dialMemif(socket)
				if err != nil {
					continue // the backlog is full
				}
				if i%2 == 0 {
					_ = introduce(c, "s3cret") // as far as it gets
				}
				c.Close()
			}
		}},
		{"introduces itself with garbage", func(t *testing.T) {
			for _, at := range []int{2, 4, 8, 9, 33} { // version, id, mode, secret, name
				c, err := dialMemif(socket)
				if err != nil {
					t.Fatal(err)
				}
				m := make([]byte, 128)
				binary.LittleEndian.PutUint16(m, memifInit)
				binary.LittleEndian.PutUint16(m[2:], memifVersion)
				for i := at; i < len(m); i++ {
					m[i] = byte(i*7 + 0x80)
				}
				if _, err := c.Write(m); err != nil {
					t.Error(err)
				}
				for {
					if _, err := c.Read(m); err != nil { // VPP closes it
						break
					}
				}
				c.Close()
			}
		}},
		{"has another secret", func(t *testing.T) {
			for _, secret := range []string{"", "S3cret", "s3cret1", strings.Repeat("x", 24)} {
				c, err := dialMemif(socket)
				if err != nil {
					t.Fatal(err)
				}
				if err := introduce(c, secret); err == nil || !strings.Contains(err.Error(), "disconnected") {
					t.Errorf("VPP took the secret %q: %v", secret, err)
				}
				c.Close()
			}
		}},
	} {
		t.Run(attack.name, func(t *testing.T) {
			attack.do(t)
			lab.Eventually(t, 10*time.Second, "its own peer to connect", func() error {
				c, err := dialMemif(socket)
				if err != nil {
					return err
				}
				defer c.Close()
				return introduce(c, "s3cret")
			})
			client.ns.Ping(t, "10.60.0.2")
		})
	}
	f.complete(t)
	if err := syscall.Kill(pid, 0); err != nil {
		t.Errorf("VPP has died: %v", err)
	}
	if n := scrape(a)[`patchbay_dataplane_restarts_total`]; n != 0 {
		t.Errorf("VPP went away %v times", n)
	}
}

// Any other message before the introduction makes VPP 25.10 abort sooner or later: it
// frees the connection twice (src/plugins/memif/socket.c, memif_msg_receive). So whoever
// can connect to a socket can end VPP, which is one reason why each has one owner; what
// the agent can do is to have everything back when VPP is.
func TestMemifPeerThatKillsVPP(t *testing.T) {
	a, v, client, workload := vppSetup(t)
	s := connectEnds(t, a, "c2", "ETHERNET", 0, end{mechanism: "MEMIF"}, end{mechanism: "MEMIF"})
	socket := s.Endpoint.Parameters["socketfile"]
	alive := func() bool { c, err := net.Dial("unix", v.APISocket); return err == nil && c.Close() == nil }
	n := 0
	for ; n < 500 && alive(); n++ {
		c, err := dialMemif(socket)
		if err != nil {
			continue // the backlog is full, or it has happened
		}
		m := make([]byte, []int{1, 2, 127, 128, 4096}[n%5])
		m[0] = byte(n % 12)
		_, _ = c.Write(m)
		c.Close()
	}
	t.Logf("after %d messages VPP is alive: %v", n, alive())
	v.Restart()
	awaitState(t, a, "c1", func(s linkStatus) bool { return s.Endpoint.Interface != "" })
	workload.Reconnect()
	awaitState(t, a, "c1", func(s linkStatus) bool { return s.State == "UP" })
	awaitState(t, a, "c2", func(s linkStatus) bool { return s.State == "DOWN" && s.Endpoint.Interface != "" })
	client.ns.Ping(t, "10.60.0.2")
}

// complete stops a ping and checks that every packet was answered but those under way at
// the end, however late on a machine that is busy.
func (f *flow) complete(t *testing.T) {
	t.Helper()
	f.cmd.Process.Signal(syscall.SIGINT)
	f.cmd.Wait()
	seen, last := map[int]bool{}, 0
	for _, line := range strings.Split(f.out.String(), "\n") {
		if _, rest, ok := strings.Cut(line, "icmp_seq="); ok && strings.Contains(line, "bytes from") {
			var seq int
			if _, err := fmt.Sscan(rest, &seq); err == nil {
				seen[seq], last = true, max(last, seq)
			}
		}
	}
	if last == 0 || len(seen) != last {
		t.Errorf("of the first %d packets %d were answered", last, len(seen))
	}
}

// badParameters of MEMIF and what the answer names.
var badParameters = []struct{ name, parameter, value string }{
	{"a path", "socket", "a/b"},
	{"an absolute path", "socket", "/etc/passwd"},
	{"the folder above", "socket", ".."},
	{"a path to the folder above", "socket", "../../x"},
	{"a hidden name", "socket", ".names"},
	{"a zero byte", "socket", "a\x00b"},
	{"64 bytes", "socket", strings.Repeat("a", 64)},
	{"a line", "socket", "a\nb"},
	{"capitals", "socket", "FW"},
	{"no number", "mode", "rw"},
	{"more than permissions", "mode", "4777"},
	{"a negative mode", "mode", "-1"},
	{"24 bytes", "secret", strings.Repeat("s", 24)},
	{"a zero byte in it", "secret", "a\x00b"},
	{"no power of 2", "ring-size", "1000"},
	{"nothing", "ring-size", "0"},
	{"too many", "ring-size", "32768"},
	{"a number beyond all", "ring-size", "99999999999999999999"},
	{"too small", "buffer-size", "64"},
	{"too large", "buffer-size", "65536"},
	{"none", "rx-queues", "0"},
	{"too many", "rx-queues", "17"},
	{"too many", "tx-queues", "1000"},
	{"another interface", "id", "1"},
	{"unknown", "sockets", "x"},
}

// A record that asks for what cannot be had is refused by the field's name, and what was
// programmed before stays.
func TestParametersThatAreRefused(t *testing.T) {
	a, v := lab.StartOnVPP(t)
	connectEnds(t, a, "c1", "ETHERNET", 0, end{mechanism: "MEMIF"}, end{mechanism: "MEMIF", parameters: map[string]string{"socket": "fw0"}})
	before := dumpVPP(v)
	inRecords := []struct{ name, parameter, value string }{
		{"a path of its own", "socketfile", "/etc/passwd"},
		{"a name", "owner", "nobody"}, {"a user only", "owner", "1000"}, {"negative", "owner", "-1:-1"},
		{"beyond 31 bits", "owner", "4294967295:4294967295"}, {"three", "owner", "1:2:3"},
	}
	for _, bad := range append(badParameters, inRecords...) {
		t.Run("record "+bad.parameter+" "+bad.name, func(t *testing.T) {
			for id, client := range map[string]bool{"c1": false, "new": true} {
				good, wrong := map[string]any{"type": "MEMIF"}, map[string]any{"type": "MEMIF", "parameters": map[string]string{bad.parameter: bad.value}}
				sides := map[string]any{"client": map[string]any{"mechanism": good}, "endpoint": map[string]any{"mechanism": wrong}}
				field := "endpoint"
				if client {
					sides["client"], sides["endpoint"], field = sides["endpoint"], sides["client"], "client"
				}
				sides["id"] = id
				data, err := json.Marshal(sides)
				if err != nil {
					t.Fatal(err)
				}
				put(a, id, string(data))
				awaitState(t, a, id, func(s linkStatus) bool {
					return s.State == "FAILED" && strings.Contains(s.Reason, field+".mechanism.parameters."+bad.parameter)
				})
			}
		})
	}
	if after := dumpVPP(v); after != before {
		t.Errorf("VPP has changed:\n%s\nand before:\n%s", after, before)
	}
	if _, err := os.Stat(filepath.Join(a.RunDir(), ".names", "fw0")); err != nil {
		t.Error(err)
	}
}

func TestParametersThatAreRefusedOverGRPC(t *testing.T) {
	a, v := lab.StartOnVPP(t)
	client := lab.NewClient(t, a.Dial())
	endpoint := lab.NewEndpoint(t, a, "fw-1").Accept("MEMIF")
	endpoint.Register(a.Dial(), "fw")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	conn, err := client.Request(ctx, lab.MemifRequest("c1", "fw"))
	if err != nil {
		t.Fatal(err)
	}
	before := dumpVPP(v)
	for _, bad := range append(badParameters, struct{ name, parameter, value string }{"another's", "owner", "1000:1000"}) {
		if strings.Contains(bad.value, "\x00") {
			continue // a string of protobuf may hold it; the record above does
		}
		for _, id := range []string{"c1", "new"} {
			in := lab.MemifRequest(id, "fw")
			in.MechanismPreferences[0].Parameters[bad.parameter] = bad.value
			if _, err := client.Request(ctx, in); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), bad.parameter) {
				t.Errorf("%s %s: %v", bad.parameter, bad.name, err)
			}
		}
	}
	if after := dumpVPP(v); after != before {
		t.Errorf("VPP has changed:\n%s\nand before:\n%s", after, before)
	}
	client.Disconnect(conn)
}

// What is where a socket is to be is cleared away without being followed; what cannot be
// is said, and the rest goes on.
func TestSocketsPlaceIsTaken(t *testing.T) {
	a, v := lab.StartOnVPP(t)
	victim := filepath.Join(t.TempDir(), "passwd")
	if err := os.WriteFile(victim, []byte("root:x:0:0::/root:/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, mechanism := range []struct{ name, file string }{{"MEMIF", "memif.sock"}, {"VHOST_USER", "vhost/vhost.sock"}} {
		for name, occupy := range map[string]func(path string) error{
			"file":      func(path string) error { return os.WriteFile(path, []byte("mine"), 0o644) },
			"symlink":   func(path string) error { return os.Symlink(victim, path) },
			"dangling":  func(path string) error { return os.Symlink("/nowhere/at/all", path) },
			"directory": func(path string) error { return os.Mkdir(path, 0o755) },
			"full":      func(path string) error { return os.MkdirAll(path+"/sub", 0o755) },
		} {
			t.Run(mechanism.name+" "+name, func(t *testing.T) {
				id := strings.ToLower(strings.ReplaceAll(mechanism.name, "_", "-")) + "-" + name
				path := filepath.Join(a.RunDir(), id, mechanism.file)
				if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
					t.Fatal(err)
				}
				if err := occupy(path); err != nil {
					t.Fatal(err)
				}
				put(a, id, fmt.Sprintf(`{"client":{"mechanism":{"type":"MEMIF"}},"endpoint":{"mechanism":{"type":%q}}}`, mechanism.name))
				if name == "full" {
					awaitState(t, a, id, func(s linkStatus) bool { return s.State == "FAILED" && strings.Contains(s.Reason, path) })
					if err := os.RemoveAll(path); err != nil {
						t.Fatal(err)
					}
				}
				awaitState(t, a, id, func(s linkStatus) bool { return s.State == "DOWN" && s.Endpoint.Interface != "" })
				if st, err := os.Lstat(path); err != nil || st.Mode()&os.ModeSocket == 0 {
					t.Errorf("the socket is %v, %v", st, err)
				}
				a.Etcdctl("del", "/patchbay/v1/nodes/n1/crossconnects/"+id)
			})
		}
	}
	if st, err := os.Stat(victim); err != nil || st.Mode() != 0o600 {
		t.Errorf("the victim is %v, %v", st, err)
	}
	if data, err := os.ReadFile(victim); err != nil || string(data) != "root:x:0:0::/root:/bin/sh\n" {
		t.Errorf("the victim holds %q, %v", data, err)
	}
	emptied(t, a, v)
}

// emptied waits until nothing is left of any connection, in VPP and in the run directory.
func emptied(t *testing.T, a *lab.Agent, v *vpptest.VPP) {
	t.Helper()
	lab.Eventually(t, 10*time.Second, "nothing to be left", func() error {
		left := strings.Fields(v.CLI("show memif") + v.CLI("show vhost-user"))
		left = slices.DeleteFunc(left, func(s string) bool { return !strings.HasPrefix(s, a.RunDir()) })
		files, err := os.ReadDir(a.RunDir())
		if err != nil {
			return err
		}
		for _, f := range files {
			if !strings.HasPrefix(f.Name(), ".") {
				left = append(left, f.Name())
			}
		}
		return none(left)
	})
}

// A socket name is one connection's; the next gets it when that goes.
func TestOneSocketNameForTwoConnections(t *testing.T) {
	a, v := lab.StartOnVPP(t)
	named := end{mechanism: "MEMIF", parameters: map[string]string{"socket": "fw0"}}
	s := connectEnds(t, a, "first", "ETHERNET", 0, end{mechanism: "MEMIF"}, named)
	name := filepath.Join(a.RunDir(), ".names", "fw0")
	leads := func(to string) {
		t.Helper()
		if target, err := os.Readlink(name); err != nil || target != to {
			t.Errorf("the name leads to %q, %v; want %q", target, err, to)
		}
	}
	leads(s.Endpoint.Parameters["socketfile"])
	put(a, "second", `{"client":{"mechanism":{"type":"MEMIF"}},"endpoint":{"mechanism":{"type":"MEMIF","parameters":{"socket":"fw0"}}}}`)
	awaitState(t, a, "second", func(s linkStatus) bool { return s.State == "FAILED" && strings.Contains(s.Reason, `"first"`) })
	// It is tried again and again, and leaves nothing each time.
	retries := func() float64 { return scrape(a)[`patchbay_retries_total{kind="memif"}`] }
	lab.Eventually(t, 10*time.Second, "three more attempts", func() error {
		if n := retries(); n < 3 {
			return fmt.Errorf("%v", n)
		}
		return nil
	})
	if n := strings.Count(v.CLI("show memif"), "interface memif"); n > 4 {
		t.Errorf("VPP has %d memif interfaces:\n%s", n, v.CLI("show memif"))
	}
	// Neither VPP nor the agent that come again turn it round.
	v.Restart()
	awaitState(t, a, "first", func(s linkStatus) bool { return s.State == "DOWN" && s.Endpoint.Interface != "" })
	leads(s.Endpoint.Parameters["socketfile"])
	a.Kill()
	a.Start()
	a.WaitReady()
	awaitState(t, a, "first", func(s linkStatus) bool { return s.State == "DOWN" && s.Endpoint.Interface != "" })
	awaitState(t, a, "second", func(s linkStatus) bool { return s.State == "FAILED" && strings.Contains(s.Reason, `"first"`) })
	leads(s.Endpoint.Parameters["socketfile"])

	a.Etcdctl("del", "/patchbay/v1/nodes/n1/crossconnects/first")
	lab.Eventually(t, 40*time.Second, "the second to have the name", func() error {
		if s, err := readStatus(a, "second"); err != nil || s.State != "DOWN" {
			return fmt.Errorf("it is %+v, %w", s, err)
		}
		return nil
	})
	leads(strings.Replace(s.Endpoint.Parameters["socketfile"], "/first/", "/second/", 1))
	a.Etcdctl("del", "/patchbay/v1/nodes/n1/crossconnects/second")
	emptied(t, a, v)
}

// A workload that is not root connects to the socket that names it as owner, by either
// name of it, and to no other.
func TestSocketsBelongToTheirOwners(t *testing.T) {
	a, _ := lab.StartOnVPP(t)
	of := func(uid int, name string) end {
		return end{mechanism: "MEMIF", parameters: map[string]string{"owner": fmt.Sprintf("%d:%d", uid, uid), "socket": name}}
	}
	s := connectEnds(t, a, "c1", "ETHERNET", 0, of(1001, "fw1"), of(1002, "fw2"))
	one, two := s.Client.Parameters["socketfile"], s.Endpoint.Parameters["socketfile"]
	vhost := connectEnds(t, a, "c2", "ETHERNET", 0, end{mechanism: "VHOST_USER", parameters: map[string]string{"owner": "1001:1001"}}, end{mechanism: "MEMIF"})
	for _, c := range []struct {
		uid     uint32
		network string
		socket  string
		may     bool
	}{
		{1001, "unixpacket", one, true},
		{1001, "unixpacket", filepath.Join(a.RunDir(), ".names", "fw1"), true},
		{1001, "unixpacket", two, false},
		{1001, "unixpacket", filepath.Join(a.RunDir(), ".names", "fw2"), false},
		{1002, "unixpacket", two, true},
		{1002, "unixpacket", one, false},
		{1001, "unix", vhost.Client.Parameters["socketfile"], true},
		{1002, "unix", vhost.Client.Parameters["socketfile"], false},
	} {
		code, text := as(t, c.uid, errand{Socket: c.socket, Call: "dial " + c.network})
		if c.may && code != codes.OK {
			t.Errorf("user %d cannot connect to %s: %s", c.uid, c.socket, text)
		}
		if !c.may && (code == codes.OK || !strings.Contains(text, "permission denied")) {
			t.Errorf("user %d and %s: %v %s", c.uid, c.socket, code, text)
		}
	}
	if code, text := as(t, 1001, errand{Socket: filepath.Join(filepath.Dir(one), "mine"), Call: "listen"}); code == codes.OK || !strings.Contains(text, "permission denied") {
		t.Errorf("a workload makes a file beside its socket: %v %s", code, text)
	}
}
