package config

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.patchbay.dev/models"
)

// maxSocketPath is the length of sun_path in sockaddr_un less the final zero (unix(7)).
const maxSocketPath = 107

func optional(check func(string) error) func(string) error {
	return func(s string) error {
		if s == "" {
			return nil
		}
		return check(s)
	}
}

func oneOf(values ...string) func(string) error {
	return func(s string) error {
		if !slices.Contains(values, s) {
			return fmt.Errorf("use %s", strings.Join(values, ", "))
		}
		return nil
	}
}

func recordName(s string) error {
	if !models.ValidName(s) {
		return errors.New("use 1–63 of a-z 0-9 - . that start with a letter or digit")
	}
	return nil
}

// Limits: those of memif are the mechanism's, and no machine has as many workers.
const (
	maxWorker = 1023
	maxQueues = 16
	maxRing   = 1 << 14
)

func between(low, high int) func(string) error {
	return func(s string) error {
		if n, err := strconv.Atoi(s); err != nil || n < low || n > high {
			return fmt.Errorf("use %d to %d", low, high)
		}
		return nil
	}
}

func optionalNumber(low, high int) func(string) error {
	check := between(low, high)
	return func(s string) error {
		if s == "0" {
			return nil
		}
		return check(s)
	}
}

func ringSize(s string) error {
	if n, err := strconv.Atoi(s); err != nil || n < 0 || n > maxRing || n == 1 || n&(n-1) != 0 {
		return fmt.Errorf("use a power of 2 from 2 to %d", maxRing)
	}
	return nil
}

func address(s string) error {
	a, err := netip.ParseAddr(s)
	if err != nil || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a.Zone() != "" {
		return errors.New("use an IP address of this node that other nodes reach, like 192.0.2.1")
	}
	return nil
}

func address6(s string) error {
	a, err := netip.ParseAddr(s)
	if address(s) != nil || err != nil || !a.Is6() || a.Is4In6() || a.IsLinkLocalUnicast() {
		return errors.New("use an IPv6 address of this node that other nodes reach, like 2001:db8::1")
	}
	return nil
}

func path(s string) error {
	if !filepath.IsAbs(s) {
		return errors.New("use an absolute path")
	}
	return nil
}

func hostPort(s string) error {
	_, port, err := net.SplitHostPort(s)
	if _, e := strconv.ParseUint(port, 10, 16); err != nil || e != nil {
		return errors.New("use host:port, like 127.0.0.1:9641, or :9641 for every address")
	}
	return nil
}

func grpcURL(s string) error {
	if addr, ok := strings.CutPrefix(s, "tcp://"); ok {
		return hostPort(addr)
	}
	if !strings.HasPrefix(s, "unix://") {
		return errors.New("use unix:///path or tcp://host:port")
	}
	return unixURL(s)
}

func tcpURL(s string) error {
	host, port, err := net.SplitHostPort(strings.TrimPrefix(s, "tcp://"))
	n, e := strconv.ParseUint(port, 10, 16)
	if !strings.HasPrefix(s, "tcp://") || err != nil || e != nil || n == 0 || unspecified(host) {
		return errors.New("use tcp://host:port, like tcp://192.0.2.1:9640")
	}
	return nil
}

// unspecified tells whether a listener's host stands for every address.
func unspecified(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "" || err == nil && a.IsUnspecified()
}

// etcdURL checks the form; plugins/store knows more.
func etcdURL(s string) error {
	if strings.HasPrefix(s, "unix://") {
		return unixURL(s)
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Port() == "" || u.User != nil {
		return errors.New("use https://host:port or unix:///path")
	}
	return nil
}

func unixURL(s string) error {
	p, ok := strings.CutPrefix(s, "unix://")
	if !ok || !filepath.IsAbs(p) {
		return errors.New("use an absolute path with three slashes, like unix:///run/patchbay/agent.sock")
	}
	if len(p) > maxSocketPath {
		return fmt.Errorf("a socket's path has at most %d bytes, this one has %d", maxSocketPath, len(p))
	}
	return nil
}

var mechanismType = regexp.MustCompile(`^[A-Z][A-Z0-9_]{0,62}$`)

func mechanism(s string) error {
	if !mechanismType.MatchString(s) {
		return errors.New("use mechanism types in capitals, like KERNEL")
	}
	return nil
}

// check looks at what no key shows by itself.
func (c *Config) check() error {
	if len(c.GRPC.Listen) == 0 {
		return errors.New("grpc.listen: is empty; give at least one address, like unix:///run/patchbay/agent.sock")
	}
	if i := duplicate(c.GRPC.Listen); i >= 0 {
		return fmt.Errorf("grpc.listen[%d]: %q is there twice; remove one", i, c.GRPC.Listen[i])
	}
	if i := duplicate(c.Mechanisms.Prefer); i >= 0 {
		return fmt.Errorf("mechanisms.prefer[%d]: %q is there twice; remove one", i, c.Mechanisms.Prefer[i])
	}
	if c.Node.MTU != 0 && (c.Node.MTU < models.MinMTU6 || c.Node.MTU > models.MaxMTU) {
		return fmt.Errorf("node.mtu: %d is out of range; use %d–%d bytes, or 0 for that of the interface", c.Node.MTU, models.MinMTU6, models.MaxMTU)
	}
	if err := c.GRPC.check(c.Node); err != nil {
		return err
	}
	return c.Etcd.TLS.check("etcd.tls")
}

// check settles where other agents reach this one, and that they cannot without TLS.
func (g *GRPC) check(node Node) error {
	if g.SPIFFE != "" && g.TLS != (TLS{}) {
		return errors.New("grpc.tls.spiffe: is set beside grpc.tls.cert, key or ca; use files or the SPIFFE Workload API, not both")
	}
	if err := g.TLS.check("grpc.tls"); err != nil {
		return err
	}
	listen := g.TCP()
	switch {
	case len(listen) == 0 && g.Advertise != "":
		return errors.New("grpc.advertise: is set, but grpc.listen has no tcp://host:port; add one, or remove grpc.advertise")
	case len(listen) == 0:
		return nil
	case g.SPIFFE == "" && (g.TLS.Cert == "" || g.TLS.CA == ""):
		return fmt.Errorf("grpc.listen: tcp://%s without TLS would let anyone ask for connections; set grpc.tls.cert, grpc.tls.key and grpc.tls.ca, or grpc.tls.spiffe", listen[0])
	case g.Advertise != "":
		return nil
	}
	host, port, _ := net.SplitHostPort(listen[0]) // checked with its key
	if unspecified(host) {
		host = cmp.Or(node.Address, node.Address6)
	}
	if host == "" || port == "0" {
		return fmt.Errorf("grpc.advertise: tcp://%s does not say where other nodes reach it; set node.address and a port, or grpc.advertise", listen[0])
	}
	g.Advertise = "tcp://" + net.JoinHostPort(host, port)
	return nil
}

func duplicate(list []string) int {
	for i, s := range list {
		if slices.Contains(list[:i], s) {
			return i
		}
	}
	return -1
}

func (t TLS) check(at string) error {
	switch {
	case t.Cert == "" && t.Key != "":
		return fmt.Errorf("%s.cert: is missing, %s.key is set; set both or none", at, at)
	case t.Cert != "" && t.Key == "":
		return fmt.Errorf("%s.key: is missing, %s.cert is set; set both or none", at, at)
	}
	for _, f := range []struct{ key, path string }{{"cert", t.Cert}, {"key", t.Key}, {"ca", t.CA}} {
		if f.path == "" {
			continue
		}
		if _, err := os.Stat(f.path); err != nil {
			return fmt.Errorf("%s.%s: %w; name a PEM file that the agent can read", at, f.key, err)
		}
	}
	return nil
}
