package lab

import (
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
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// TrustDomain of the lab's SPIFFE IDs.
const TrustDomain = "lab.patchbay.dev"

// Names of the files of a node's certificate, and of the authority's.
const (
	CertFile = "cert.pem"
	KeyFile  = "key.pem"
	CAFile   = "ca.pem"
)

// Authority makes certificates for nodes.
type Authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// validity of what is made, unless something else is asked for. It begins early, for
// machines whose clock is behind.
const validity = 30 * 24 * time.Hour

// NewAuthority makes an Authority with a key of its own.
func NewAuthority() (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Patchbay lab"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(validity),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		URIs: []*url.URL{{Scheme: "spiffe", Host: TrustDomain}},
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	if err == nil {
		cert, err = x509.ParseCertificate(der)
	}
	if err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	return &Authority{cert: cert, key: key}, nil
}

// Identity is what a certificate says.
type Identity struct {
	Node      string // its SPIFFE ID is spiffe://<TrustDomain>/node/<Node>
	Addresses []netip.Addr
	Until     time.Time // zero: for long enough
}

// Issue writes a certificate, its key (mode 0600) and the authority's certificate into a
// folder, which may hold others: each file is replaced at once.
func (a *Authority) Issue(dir string, id Identity) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return err
	}
	if id.Until.IsZero() {
		id.Until = a.cert.NotAfter
	}
	cert := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: id.Node},
		NotBefore: a.cert.NotBefore, NotAfter: id.Until,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:    []string{id.Node},
		URIs:        []*url.URL{{Scheme: "spiffe", Host: TrustDomain, Path: "/node/" + id.Node}},
	}
	for _, addr := range id.Addresses {
		cert.IPAddresses = append(cert.IPAddresses, net.IP(addr.AsSlice()))
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return fmt.Errorf("certificate of %s: %w", id.Node, err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		writePEM(filepath.Join(dir, KeyFile), "PRIVATE KEY", pkcs8, 0o600),
		writePEM(filepath.Join(dir, CertFile), "CERTIFICATE", der, 0o644),
		writePEM(filepath.Join(dir, CAFile), "CERTIFICATE", a.cert.Raw, 0o644))
}

func writePEM(path, kind string, der []byte, mode os.FileMode) error {
	return replace(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode)
}

// replace writes a file so that nobody reads half of it.
func replace(path string, data []byte, mode os.FileMode) error {
	if err := os.WriteFile(path+".new", data, mode); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
