package identity_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"go.patchbay.dev/plugins/identity"
	"go.patchbay.dev/plugins/identity/identitytest"
)

// log is a log that a test can read while it is written.
type log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *log) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func files(dir string) identity.Files {
	return identity.Files{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), CA: filepath.Join(dir, "ca.pem")}
}

// fromFiles makes the identity of a node with a certificate.
func fromFiles(t *testing.T, a *identitytest.Authority, node string, c identitytest.Cert, l *log) (*identity.Identity, string) {
	t.Helper()
	dir := t.TempDir()
	a.Write(dir, c)
	i, err := identity.FromFiles(node, files(dir), l.logger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(i.Close)
	return i, dir
}

// serve serves health with an identity, and tells whom it served.
func serve(t *testing.T, i *identity.Identity) (address string, served chan identity.Peer) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served = make(chan identity.Peer, 10)
	s := grpc.NewServer(grpc.Creds(i.Server()), grpc.UnaryInterceptor(func(ctx context.Context, in any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
		p, _ := identity.FromContext(ctx)
		served <- p
		return h(ctx, in)
	}))
	healthpb.RegisterHealthServer(s, health.NewServer())
	go s.Serve(l)
	t.Cleanup(s.Stop)
	return l.Addr().String(), served
}

// call calls a node at an address once, over a connection of its own.
func call(t *testing.T, i *identity.Identity, node, address string, options ...grpc.DialOption) error {
	t.Helper()
	cc, err := grpc.NewClient(address, append(options, grpc.WithTransportCredentials(i.Client(node)))...)
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err = healthpb.NewHealthClient(cc).Check(ctx, &healthpb.HealthCheckRequest{})
	return err
}

func TestPeersAreKnownByTheNameOfTheirNode(t *testing.T) {
	a := identitytest.New(t)
	for _, c := range []struct {
		name string
		cert identitytest.Cert
	}{
		{"by a DNS name", identitytest.Node("n1")},
		{"by one of several", identitytest.Cert{DNS: []string{"n1.example", "n1"}}},
		{"by a SPIFFE ID", identitytest.Cert{SPIFFE: "spiffe://test/patchbay/node/n1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, _ := fromFiles(t, a, "n1", c.cert, &log{})
			server, _ := fromFiles(t, a, "n2", identitytest.Node("n2"), &log{})
			address, served := serve(t, server)
			if err := call(t, client, "n2", address); err != nil {
				t.Fatal(err)
			}
			if p := <-served; !p.Is("n1") || p.Is("n2") || p.Is("") {
				t.Errorf("the peer is %q", p.Names)
			}
		})
	}
}

// TestWrongPeersAreRefused: either side says what is wrong and what to do, where it can be
// done: the caller in its error, the one that is called in its log.
func TestWrongPeersAreRefused(t *testing.T) {
	good, other := identitytest.New(t), identitytest.New(t)
	past, future := time.Now().Add(-time.Minute), time.Now().Add(time.Minute)
	for _, c := range []struct {
		name           string
		client, server identitytest.Cert
		clientCA       *identitytest.Authority
		err            string // of the caller
		log            string // of the one that is called
	}{
		{name: "the called one's certificate has expired", client: identitytest.Node("n1"),
			server: identitytest.Cert{DNS: []string{"n2"}, NotAfter: past}, err: "its certificate, for node n2, has expired at"},
		{name: "the called one's certificate is not valid yet", client: identitytest.Node("n1"),
			server: identitytest.Cert{DNS: []string{"n2"}, NotBefore: future}, err: "set the clocks of both nodes"},
		{name: "the caller's certificate has expired", client: identitytest.Cert{DNS: []string{"n1"}, NotAfter: past},
			server: identitytest.Node("n2"), err: "this agent cannot show who it is: the certificate, for node n1, has expired at"},
		{name: "another node answers", client: identitytest.Node("n1"), server: identitytest.Node("n3"), err: "its certificate names node n3, not node n2"},
		{name: "a SPIFFE ID that is another node's", client: identitytest.Node("n1"),
			server: identitytest.Cert{DNS: []string{"n2"}, SPIFFE: "spiffe://test/node/n3"}, err: "names node n3, not node n2"},
		{name: "the caller is of another authority", client: identitytest.Node("n1"), clientCA: other, server: identitytest.Node("n2"),
			err: "is not to be trusted: x509: certificate signed by unknown authority"},
		{name: "a certificate for servers only", client: identitytest.Cert{DNS: []string{"n1"}, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}},
			server: identitytest.Node("n2"), log: "incompatible key usage; both nodes need certificates of one authority, for clients and for servers"},
	} {
		t.Run(c.name, func(t *testing.T) {
			authority := good
			if c.clientCA != nil {
				authority = c.clientCA
			}
			var heard log
			client, _ := fromFiles(t, authority, "n1", c.client, &log{})
			server, _ := fromFiles(t, good, names(c.server)[0], c.server, &heard)
			address, served := serve(t, server)
			err := call(t, client, "n2", address)
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("the caller hears %v, want %q", err, c.err)
			}
			if c.log != "" {
				eventually(t, func() error {
					if !strings.Contains(heard.String(), c.log) {
						return fmt.Errorf("the log is %q, want %q", heard.String(), c.log)
					}
					return nil
				})
			}
			if len(served) > 0 {
				t.Errorf("it was served as %q", (<-served).Names)
			}
		})
	}
}

func names(c identitytest.Cert) []string {
	if i := strings.LastIndex(c.SPIFFE, "/"); i >= 0 {
		return []string{c.SPIFFE[i+1:]}
	}
	return c.DNS
}

func TestFilesThatNeverWillDo(t *testing.T) {
	a := identitytest.New(t)
	dir := t.TempDir()
	a.Write(dir, identitytest.Node("n3"))
	if _, err := identity.FromFiles("n1", files(dir), (&log{}).logger()); err == nil || !strings.Contains(err.Error(), "names node n3, not node n1; give this agent one of its own") {
		t.Errorf("another node's certificate: %v", err)
	}
	a.Write(dir, identitytest.Cert{})
	if _, err := identity.FromFiles("n1", files(dir), (&log{}).logger()); err == nil || !strings.Contains(err.Error(), "names no node") {
		t.Errorf("a certificate without a name: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := identity.FromFiles("n1", files(dir), (&log{}).logger()); err == nil || !strings.Contains(err.Error(), "grpc.tls.ca: ") {
		t.Errorf("no authority: %v", err)
	}
}

// onWrite is a connection on which something happens before the first byte is sent.
type onWrite struct {
	net.Conn
	do func()
}

func (c onWrite) Write(b []byte) (int, error) {
	c.do()
	return c.Conn.Write(b)
}

// TestNoOtherNodesCertificateIsShown: not even by a handshake that has begun with the right one.
func TestNoOtherNodesCertificateIsShown(t *testing.T) {
	a := identitytest.New(t)
	server, _ := fromFiles(t, a, "n2", identitytest.Node("n2"), &log{})
	client, dir := fromFiles(t, a, "n1", identitytest.Node("n1"), &log{})
	address, served := serve(t, server)
	replace := sync.OnceFunc(func() { a.Write(dir, identitytest.Node("n3")) })
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		return onWrite{c, replace}, err
	}
	err := call(t, client, "n2", address, grpc.WithContextDialer(dial))
	if err == nil || !strings.Contains(err.Error(), "the certificate names node n3, not node n1; give this agent one of its own") {
		t.Errorf("the caller hears %v", err)
	}
	if len(served) > 0 {
		t.Errorf("it was served as %q", (<-served).Names)
	}
}

// TestFilesAreReadAgain: new handshakes use new files, connections that exist live on, and
// files that cannot be used change nothing.
func TestFilesAreReadAgain(t *testing.T) {
	first, second := identitytest.New(t), identitytest.New(t)
	var heard log
	server, serverDir := fromFiles(t, first, "n2", identitytest.Node("n2"), &heard)
	client, clientDir := fromFiles(t, first, "n1", identitytest.Node("n1"), &log{})
	address, _ := serve(t, server)
	cc, err := grpc.NewClient(address, grpc.WithTransportCredentials(client.Client("n2")))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	lives := func(when string) {
		t.Helper()
		if _, err := healthpb.NewHealthClient(cc).Check(context.Background(), &healthpb.HealthCheckRequest{}); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
	}
	lives("at first")

	if err := os.WriteFile(filepath.Join(serverDir, "cert.pem"), []byte("half a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := call(t, client, "n2", address); err != nil {
		t.Errorf("with a broken file: %v", err)
	}
	if !strings.Contains(heard.String(), "cannot be used; what was read before counts") {
		t.Errorf("the log does not say that a file is broken: %s", heard.String())
	}

	second.Write(serverDir, identitytest.Node("n2"))
	if err := call(t, client, "n2", address); err == nil || !strings.Contains(err.Error(), "not to be trusted") {
		t.Errorf("with the other authority's at one end: %v", err)
	}
	lives("with the other authority's at one end")
	second.Write(clientDir, identitytest.Node("n1"))
	if err := call(t, client, "n2", address); err != nil {
		t.Errorf("with the other authority's at both ends: %v", err)
	}
	lives("at the end")
}
