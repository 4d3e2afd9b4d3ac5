package store

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The socket is its owner's alone from the moment it appears, whatever the umask.
func TestSocketIsPrivateFromTheStart(t *testing.T) {
	umask := unix.Umask(0)
	defer unix.Umask(umask)
	path := filepath.Join(t.TempDir(), "sock")
	stop, wide := make(chan struct{}), make(chan os.FileMode, 1)
	go func() {
		defer close(wide)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if fi, err := os.Lstat(path); err == nil && fi.Mode().Perm() != 0o600 {
				wide <- fi.Mode()
				return
			}
		}
	}()
	for range 200 {
		l, err := listenUnix(path)
		if err != nil {
			t.Fatal(err)
		}
		if fi, err := os.Lstat(path); err != nil || fi.Mode() != 0o600|os.ModeSocket {
			t.Fatal(fi, err)
		}
		l.Close()
	}
	close(stop)
	if mode, ok := <-wide; ok {
		t.Errorf("the socket had mode %v", mode)
	}
}

func TestSocketThatIsThere(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "sock")
	t.Run("of a dead process", func(t *testing.T) {
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		l.(*net.UnixListener).SetUnlinkOnClose(false)
		l.Close()
		again, err := listenUnix(path)
		if err != nil {
			t.Fatal(err)
		}
		again.Close()
	})
	t.Run("of a live one", func(t *testing.T) {
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if _, err := listenUnix(path); !errors.Is(err, errInUse) {
			t.Error(err)
		}
	})
	t.Run("that is no socket", func(t *testing.T) {
		os.WriteFile(path, []byte("precious"), 0o644)
		if _, err := listenUnix(path); err == nil || !strings.Contains(err.Error(), "is no socket") {
			t.Error(err)
		}
		if b, _ := os.ReadFile(path); string(b) != "precious" {
			t.Error("the file is gone")
		}
	})
}

// By default nothing of etcd can be reached over the network.
func TestNothingListensOnTCP(t *testing.T) {
	before := listening(t)
	newServer(t)
	if after := listening(t); len(after) > len(before) {
		t.Errorf("listening before %v, after %v", before, after)
	}
}

// listening is the inodes of this process's listening TCP sockets.
func listening(t *testing.T) []string {
	t.Helper()
	mine := map[string]bool{}
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, "socket:[") {
			mine[strings.Trim(to, "socket:[]")] = true
		}
	}
	var found []string
	for _, file := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		table, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(string(table), "\n") {
			// proc_pid_net(5): 3 is the state (0A: LISTEN), 9 the inode.
			if f := strings.Fields(line); len(f) > 9 && f[3] == "0A" && mine[f[9]] {
				found = append(found, f[9])
			}
		}
	}
	return found
}

func TestEtcdctl(t *testing.T) {
	ctl, err := exec.LookPath("etcdctl")
	if err != nil {
		t.Skip("no etcdctl here (Debian's etcd-client)")
	}
	s := newServer(t)
	run := func(args ...string) (string, error) {
		cmd := exec.Command(ctl, append([]string{"--endpoints=" + s.Listen}, args...)...)
		cmd.Env = append(os.Environ(), "ETCDCTL_API=3")
		out, err := cmd.CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	v, _ := watch(t, s.Store, "/orchestrator/")
	for _, c := range []struct{ args, want string }{
		{"put /orchestrator/a one", "OK"},
		{"get /orchestrator/a", "/orchestrator/a\none"},
		{"get --prefix --keys-only /orchestrator/", "/orchestrator/a"},
		{"del /orchestrator/a", "1"},
		{"put /orchestrator/b two", "OK"},
	} {
		out, err := run(strings.Fields(c.args)...)
		if err != nil || out != c.want {
			t.Errorf("etcdctl %s: %q, %v", c.args, out, err)
		}
	}
	if out, err := run("endpoint", "health"); err != nil || !strings.Contains(out, "is healthy") {
		t.Errorf("etcdctl endpoint health: %q, %v", out, err)
	}
	v.has(t, "/orchestrator/b", "two")
	v.has(t, "/orchestrator/a", "")

	cmd := exec.Command(ctl, "--endpoints="+s.Listen, "watch", "/agent")
	cmd.Env = append(os.Environ(), "ETCDCTL_API=3")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		for sc := bufio.NewScanner(out); sc.Scan(); {
			lines <- sc.Text()
		}
	}()
	eventually(t, "etcdctl watch shows a put of the agent", func() bool {
		mustPut(t, s.Store, "/agent", "x")
		select {
		case line, ok := <-lines:
			return ok && line == "PUT"
		case <-time.After(50 * time.Millisecond):
			return false
		}
	})
}

func TestListenOnTLS(t *testing.T) {
	t.Parallel()
	ca := newCA(t, "ours")
	listen := "https://" + freePort(t)
	s := newServerAt(t, Config{DataDir: filepath.Join(t.TempDir(), "data"), Listen: listen, TLS: ca.issue("127.0.0.1")})
	mustPut(t, s.Store, "/a", "one")

	c := Config{Endpoints: []string{listen}, TLS: ca.issue("client"), Log: testLog(t)}
	client := open(t, c)
	if kv, err := client.Get(t.Context(), "/a"); err != nil || string(kv.Value) != "one" {
		t.Errorf("with a certificate: %+v, %v", kv, err)
	}
	stranger := newCA(t, "stranger")
	foreign := stranger.issue("client")
	foreign.CA = ca.file
	for name, tls := range map[string]TLS{
		"without a certificate":           {CA: ca.file},
		"with the certificate of another": foreign,
		"of a server of another":          stranger.issue("client"),
		"without the CA":                  {Cert: c.TLS.Cert, Key: c.TLS.Key},
	} {
		c.TLS = tls
		if err := open(t, c).Up(); !errors.Is(err, ErrUnavailable) {
			t.Errorf("a client %s: %v", name, err)
		}
	}
}

// Certificates are renewed while the agent runs.
func TestRenewedCertificate(t *testing.T) {
	t.Parallel()
	old, young := newCA(t, "old"), newCA(t, "young")
	certs := old.issue("127.0.0.1")
	listen := "https://" + freePort(t)
	newServerAt(t, Config{DataDir: filepath.Join(t.TempDir(), "data"), Listen: listen, TLS: certs})
	c := Config{Endpoints: []string{listen}, TLS: old.issue("client")}
	c.TLS.CA = young.file
	if err := open(t, c).Up(); err == nil {
		t.Error("the young CA is not the server's yet")
	}
	renewed := young.issue("127.0.0.1")
	copyFile(t, renewed.Cert, certs.Cert)
	copyFile(t, renewed.Key, certs.Key)
	if err := open(t, c).Up(); err != nil {
		t.Error(err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// authority issues certificates for tests.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newCA(t testing.TB, name string) *authority {
	a := &authority{t: t}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	}
	a.cert, a.key, a.file, _ = a.sign(template)
	return a
}

// issue gives a certificate that a server at an address or a client can use.
func (a *authority) issue(name string) TLS {
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: name},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	}
	_, _, cert, key := a.sign(template)
	return TLS{Cert: cert, Key: key, CA: a.file}
}

func (a *authority) sign(template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey, string, string) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := template, key
	if a.cert != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	dir := a.t.TempDir()
	return cert, key, a.write(dir, "CERTIFICATE", der), a.write(dir, "EC PRIVATE KEY", keyDER)
}

func (a *authority) write(dir, kind string, der []byte) string {
	a.t.Helper()
	var b bytes.Buffer
	if err := pem.Encode(&b, &pem.Block{Type: kind, Bytes: der}); err != nil {
		a.t.Fatal(err)
	}
	path := filepath.Join(dir, fmt.Sprint(strings.ToLower(strings.ReplaceAll(kind, " ", "-")), ".pem"))
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}
