package nsm

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/networkservicemesh/api/pkg/api/networkservice"

	"go.patchbay.dev/tests/nsm/workload"
)

// startNodes starts the agents of two nodes, n1 and n2, that share the etcd of the first
// and a cable.
func startNodes(t *testing.T) (n1, n2 *agent) {
	t.Helper()
	nets := [2]*netns{newNetns(t), newNetns(t)}
	run(t, "ip", "link", "add", "eth0", "netns", nets[0].name, "type", "veth", "peer", "name", "eth0", "netns", nets[1].name)
	authority := newAuthority(t)
	var agents [2]*agent
	for i, in := range nets {
		in.run("ip", "address", "add", fmt.Sprintf("192.0.2.%d/24", i+1), "dev", "eth0")
		in.run("ip", "link", "set", "eth0", "up")
	}
	for i, in := range nets {
		agents[i] = startNode(t, in, func(a *agent) string {
			authority.issue(a.dir, fmt.Sprintf("n%d", i+1))
			etcd := fmt.Sprintf("listen: %q, data_dir: %q", a.etcd(), filepath.Join(a.dir, "etcd"))
			if i > 0 {
				etcd = fmt.Sprintf("endpoints: [%q], data_dir: %q", agents[0].etcd(), filepath.Join(a.dir, "etcd"))
			}
			return fmt.Sprintf(`
dataplane: kernel
node: {name: n%d, address: 192.0.2.%d}
grpc: {listen: [%q, "tcp://:9640"], tls: {cert: %q, key: %q, ca: %q}}
etcd: {%s}
`, i+1, i+1, a.socket, filepath.Join(a.dir, "cert.pem"), filepath.Join(a.dir, "key.pem"), filepath.Join(a.dir, "ca.pem"), etcd)
		})
	}
	return agents[0], agents[1]
}

// authority signs the certificates of agents.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	a.cert, a.key = a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

func (a *authority) sign(template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

// issue writes a node's certificate, its key and the authority's certificate into a folder.
func (a *authority) issue(dir, node string) {
	a.t.Helper()
	cert, key := a.sign(&x509.Certificate{DNSNames: []string{node}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}})
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"cert.pem": {Type: "CERTIFICATE", Bytes: cert.Raw}, "key.pem": {Type: "PRIVATE KEY", Bytes: der}, "ca.pem": {Type: "CERTIFICATE", Bytes: a.cert.Raw},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
}

func names(conn *networkservice.Connection) string {
	var list []string
	for _, s := range conn.GetPath().GetPathSegments() {
		list = append(list, s.Name)
	}
	return strings.Join(list, " ")
}

// TestClientAndEndpointOnTwoNodes: they know nothing of the tunnel between them, keep the
// connection by NSM's own refresh while packets flow, and close it.
func TestClientAndEndpointOnTwoNodes(t *testing.T) {
	start(t)
	a, b := startNodes(t)
	short := func(c *workload.Config) { c.Lifetime, c.Timeout = 6*time.Second, 2*time.Second }
	e := b.endpoint("nse", 1, short).register()
	n := newNetns(t)
	w := a.client(n, short)
	conn := w.connect("nsc-0", "nsm-1")
	if got := names(conn); got != "nsc n1 n2 nse" || conn.Id != "nsc-0" || conn.GetMechanism().GetType() != "KERNEL" {
		t.Errorf("path %q, id %q, mechanism %v", got, conn.Id, conn.GetMechanism())
	}
	if mtu := conn.GetContext().GetMTU(); mtu == 0 || mtu >= 1500 {
		t.Errorf("the MTU is %d", mtu)
	}
	pingBoth(t, n, e.net, conn)
	before, theirs := n.only(), e.net.only()
	ping := n.keepPinging(first(t, conn, "10."))
	began := w.await(workload.Answered, nil).Connection().GetPath().GetPathSegments()[0].GetExpires().AsTime()
	w.await(workload.Answered, func(e workload.Event) bool {
		return e.Error == "" && e.Connection().GetPath().GetPathSegments()[0].Expires.AsTime().Sub(began) > 8*time.Second
	})
	ping.stop()
	if now := n.only(); now != before {
		t.Errorf("after refreshes the client's interface is %v, it was %v", now, before)
	}
	if now := e.net.only(); now != theirs {
		t.Errorf("after refreshes the endpoint's interface is %v, it was %v", now, theirs)
	}
	w.do(workload.Command{Do: workload.Close, ID: "nsc-0"})
	eventually(t, "both interfaces to be gone", func() error {
		if err := count(n.interfaces(), 0); err != nil {
			return err
		}
		return count(e.net.interfaces(), 0)
	})
}

// TestClientHealsToAnotherNode: NSM's client hears of the loss from its own agent and asks for
// the twin, which is on its node.
func TestClientHealsToAnotherNode(t *testing.T) {
	start(t)
	a, b := startNodes(t)
	far := b.endpoint("nse-1", 1, nil).register()
	n := newNetns(t)
	w := a.client(n, nil)
	conn := w.connect("nsc-0", "nsm-1")
	pingBoth(t, n, far.net, conn)
	a.endpoint("nse-2", 2, nil).register()
	far.kill()
	healed := w.await(workload.Answered, func(e workload.Event) bool {
		return e.Error == "" && e.Connection().GetNetworkServiceEndpointName() == "nse-2"
	}).Connection()
	if got := names(healed); got != "nsc n1 nse-2" {
		t.Errorf("path %q", got)
	}
	eventually(t, "the client's interface", func() error { return count(n.interfaces(), 1) })
	n.ping(first(t, healed, "10.2."))
}

// TestBothAgentsAreKilled: what is on record on either side answers NSM's clients again.
func TestBothAgentsAreKilled(t *testing.T) {
	start(t)
	a, b := startNodes(t)
	e := b.endpoint("nse", 1, nil).register()
	n := newNetns(t)
	w := a.client(n, nil)
	conn := w.connect("nsc-0", "nsm-1")
	ping := n.keepPinging(first(t, conn, "10."))
	theirs := e.net.only()
	for _, x := range []*agent{b, a} {
		x.kill()
		x.start()
	}
	w.await(workload.Answered, func(e workload.Event) bool { return e.Error == "" })
	ping.stop()
	if now := e.net.only(); now != theirs {
		t.Errorf("the endpoint's interface is %v, it was %v", now, theirs)
	}
}
