package identity

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// names are the nodes that a certificate speaks for: by a SPIFFE ID whose path ends in
// /node/<name> (SPIFFE-ID, section 2.2), else by its DNS names.
func names(c *x509.Certificate) (list []string) {
	for _, u := range c.URIs {
		if name, ok := nodeOf(u); ok {
			list = append(list, name)
		}
	}
	if len(list) == 0 {
		list = c.DNSNames
	}
	return list
}

func nodeOf(u *url.URL) (string, bool) {
	i := strings.LastIndex(u.Path, "/node/")
	if u.Scheme != "spiffe" || i < 0 {
		return "", false
	}
	name := u.Path[i+len("/node/"):]
	return name, name != "" && !strings.Contains(name, "/")
}

func namesText(c *x509.Certificate) string {
	if list := names(c); len(list) > 0 {
		return "names node " + strings.Join(list, ", ")
	}
	return "names no node; it needs a SPIFFE ID that ends in /node/<name>, or a DNS name"
}

// verify checks a peer's certificates; node is the one that was dialled, if any.
func (i *Identity) verify(chain []*x509.Certificate, usage x509.ExtKeyUsage, node string) error {
	if len(chain) == 0 {
		return errors.New("it shows no certificate; configure grpc.tls there")
	}
	m, err := i.source.material()
	if err != nil {
		return err
	}
	leaf := chain[0]
	if err := valid("its certificate", leaf); err != nil {
		return err
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err = leaf.Verify(x509.VerifyOptions{Roots: m.roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{usage}})
	switch {
	case err != nil:
		return fmt.Errorf("its certificate, for %s, is not to be trusted: %w; both nodes need certificates of one authority, for clients and for servers", subject(leaf), err)
	case node != "" && !slices.Contains(names(leaf), node):
		return fmt.Errorf("its certificate %s, not node %s: another node answers at the address that node %s gives, or its certificate is that of another", namesText(leaf), node, node)
	case len(names(leaf)) == 0:
		return fmt.Errorf("its certificate %s", namesText(leaf))
	}
	return nil
}

// fit says why this agent's own certificate will not do.
func (i *Identity) fit(m *material) error {
	if !slices.Contains(names(m.own.Leaf), i.node) {
		return fmt.Errorf("the certificate %s, not node %s; give this agent one of its own, or set node.name", namesText(m.own.Leaf), i.node)
	}
	return valid("the certificate", m.own.Leaf)
}

// valid checks the time, by this node's clock.
func valid(what string, c *x509.Certificate) error {
	now := time.Now()
	switch {
	case now.After(c.NotAfter):
		return fmt.Errorf("%s, for %s, has expired at %s and this node's clock says %s; renew it, or set the clock", what, subject(c), c.NotAfter.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	case now.Before(c.NotBefore):
		return fmt.Errorf("%s, for %s, is valid from %s on and this node's clock says %s; set the clocks of both nodes", what, subject(c), c.NotBefore.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return nil
}

func subject(c *x509.Certificate) string {
	if list := names(c); len(list) > 0 {
		return "node " + strings.Join(list, ", ")
	}
	return fmt.Sprintf("%q", c.Subject.CommonName)
}
