package identity_test

import (
	"crypto/x509"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"

	"go.patchbay.dev/plugins/identity"
	"go.patchbay.dev/plugins/identity/identitytest"
)

// workloadAPI is a SPIFFE Workload API that gives what it is told to.
type workloadAPI struct {
	workload.UnimplementedSpiffeWorkloadAPIServer
	updates chan *workload.X509SVIDResponse
}

func (w *workloadAPI) FetchX509SVID(_ *workload.X509SVIDRequest, out workload.SpiffeWorkloadAPI_FetchX509SVIDServer) error {
	for {
		select {
		case u := <-w.updates:
			if err := out.Send(u); err != nil {
				return err
			}
		case <-out.Context().Done():
			return nil
		}
	}
}

func (w *workloadAPI) give(t *testing.T, a *identitytest.Authority, id string) {
	t.Helper()
	cert, key := a.Issue(identitytest.Cert{SPIFFE: id})
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	w.updates <- &workload.X509SVIDResponse{Svids: []*workload.X509SVID{{SpiffeId: id, X509Svid: cert.Raw, X509SvidKey: der, Bundle: a.Cert.Raw}}}
}

func startWorkloadAPI(t *testing.T, socket string) *workloadAPI {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	w := &workloadAPI{updates: make(chan *workload.X509SVIDResponse)}
	s := grpc.NewServer()
	workload.RegisterSpiffeWorkloadAPIServer(s, w)
	go s.Serve(l)
	t.Cleanup(s.Stop)
	return w
}

// TestWorkloadAPI: there is no identity before the API gives one, and what it gives anew
// counts from the next handshake.
func TestWorkloadAPI(t *testing.T) {
	a, b := identitytest.New(t), identitytest.New(t)
	socket := filepath.Join(t.TempDir(), "spire.sock")
	client, err := identity.FromSPIFFE("n1", "unix://"+socket, (&log{}).logger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	server, dir := fromFiles(t, a, "n2", identitytest.Node("n2"), &log{})
	address, served := serve(t, server)
	if err := call(t, client, "n2", address); err == nil || !strings.Contains(err.Error(), "SPIFFE Workload API") {
		t.Errorf("before the API is there: %v", err)
	}
	api := startWorkloadAPI(t, socket)
	api.give(t, a, "spiffe://test/node/n1")
	eventually(t, func() error { return call(t, client, "n2", address) })
	if p := <-served; !p.Is("n1") {
		t.Errorf("the peer is %q", p.Names)
	}
	b.Write(dir, identitytest.Node("n2"))
	api.give(t, b, "spiffe://test/node/n1")
	eventually(t, func() error { return call(t, client, "n2", address) })
}

// eventually tries for what another goroutine of a library does and tells nobody of.
func eventually(t *testing.T, try func() error) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
