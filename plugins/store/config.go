package store

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// Config says where etcd is. Its fields are the keys under `etcd` of the configuration,
// and errors name them so.
type Config struct {
	Endpoints []string // external: https://host:port, http://host:port, unix:///path; none: embedded
	Prefix    string   // external: a key at or under it is what the probe of the connection reads
	TLS       TLS      // external: the client's side; embedded: of a listener on https://
	Username  string   // external, with Password: etcd's own authentication
	Password  string
	Listen    string // embedded: unix:///path (mode 0600), https://ip:port, http://ip:port with Insecure; none: no listener
	Insecure  bool   // a listener or a password without TLS on TCP is meant
	DataDir   string // embedded; made with mode 0700
	Log       *slog.Logger

	tuning tuning
}

// TLS names files in PEM. They are read again for every connection, so that they can be renewed.
type TLS struct{ Cert, Key, CA string }

// check refuses what cannot work, and by name.
func (c *Config) check() error {
	if err := c.TLS.check(); err != nil {
		return err
	}
	if (c.Username == "") != (c.Password == "") {
		return errors.New("etcd.username and etcd.password: one is set without the other")
	}
	if len(c.Endpoints) > 0 {
		return c.checkExternal()
	}
	if c.Username != "" {
		return errors.New("etcd.username: the embedded etcd has no users (etcd.endpoints is empty)")
	}
	if !filepath.IsAbs(c.DataDir) {
		return fmt.Errorf("etcd.data_dir %q: not an absolute path", c.DataDir)
	}
	return c.checkListen()
}

func (c *Config) checkExternal() error {
	schemes := map[string]bool{}
	for i, e := range c.Endpoints {
		u, err := parseURL(e)
		if err != nil {
			return fmt.Errorf("etcd.endpoints[%d]: %w", i, err)
		}
		schemes[u.Scheme] = true
	}
	switch {
	case len(schemes) > 1:
		return errors.New("etcd.endpoints: all must be https://, or all http://, or all unix://")
	case schemes["http"] && c.TLS != TLS{}:
		return errors.New("etcd.tls is set, but etcd.endpoints begin with http://")
	case schemes["http"] && c.Username != "" && !c.Insecure:
		return errors.New("etcd.password would go over http:// in clear: use https://, or set etcd.insecure")
	}
	return nil
}

func (c *Config) checkListen() error {
	if c.Listen == "" {
		return nil
	}
	u, err := parseURL(c.Listen)
	switch {
	case err != nil:
		return fmt.Errorf("etcd.listen: %w", err)
	case u.Scheme == "http" && !c.Insecure:
		return fmt.Errorf("etcd.listen %q: who reaches it owns the node's network: use unix:// or https://, or set etcd.insecure", c.Listen)
	case u.Scheme == "https" && c.TLS.Cert == "":
		return fmt.Errorf("etcd.listen %q: etcd.tls.cert and etcd.tls.key are missing", c.Listen)
	case u.Scheme == "https" && c.TLS.CA == "":
		return fmt.Errorf("etcd.listen %q: etcd.tls.ca is missing (clients must have a certificate)", c.Listen)
	case u.Scheme == "unix" && len(u.Path) > maxSocketPath:
		return fmt.Errorf("etcd.listen %q: a socket's path has at most %d bytes", c.Listen, maxSocketPath)
	}
	return nil
}

// parseURL takes unix:///path, http://host:port and https://host:port. Its errors do not
// repeat what was given: somebody may have put a password there.
func parseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, errors.New("not a URL")
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("want only a scheme and an address")
	}
	switch u.Scheme {
	case "unix":
		if u.Host != "" || !filepath.IsAbs(u.Path) {
			return nil, errors.New("want unix:///absolute/path")
		}
	case "http", "https":
		if strings.Trim(u.Path, "/") != "" {
			return nil, errors.New("want only a scheme and an address")
		}
		if _, port, err := net.SplitHostPort(u.Host); err != nil || port == "" {
			return nil, errors.New("want host:port after the scheme")
		}
	default:
		return nil, errors.New("want unix://, https:// or http://")
	}
	return u, nil
}

func (t TLS) check() error {
	if (t.Cert == "") != (t.Key == "") {
		return errors.New("etcd.tls.cert and etcd.tls.key: one is set without the other")
	}
	if t.Cert != "" {
		if _, err := tls.LoadX509KeyPair(t.Cert, t.Key); err != nil {
			return fmt.Errorf("etcd.tls.cert, etcd.tls.key: %w", err)
		}
	}
	_, err := t.pool()
	return err
}

// pool holds the certificates of TLS.CA; none are given: nil, which means the system's.
func (t TLS) pool() (*x509.CertPool, error) {
	if t.CA == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(t.CA)
	if err != nil {
		return nil, fmt.Errorf("etcd.tls.ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("etcd.tls.ca: %s holds no certificate in PEM", t.CA)
	}
	return pool, nil
}

// client is the configuration of a connection to an external etcd.
func (t TLS) client() (*tls.Config, error) {
	pool, err := t.pool()
	if err != nil {
		return nil, err
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
	if t.Cert != "" {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return t.load() }
	}
	return c, nil
}

// server is the configuration of the embedded etcd's listener: clients must have a
// certificate of the CA.
func (t TLS) server() (*tls.Config, error) {
	pool, err := t.pool()
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		ClientAuth:     tls.RequireAndVerifyClientCert,
		ClientCAs:      pool,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return t.load() },
	}, nil
}

func (t TLS) load() (*tls.Certificate, error) {
	cert, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	return &cert, err
}
