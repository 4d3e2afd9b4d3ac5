package identity

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// Files are PEM files: the agent's certificate (with those between it and the authority's),
// its key, and the authorities that other agents' certificates must descend from.
type Files struct{ Cert, Key, CA string }

// FromFiles is an identity from files, which are read again when they have changed. An
// error says which file is wrong, or that the certificate is another node's.
func FromFiles(node string, f Files, log *slog.Logger) (*Identity, error) {
	s := &files{Files: f, log: log}
	s.seen = s.stamp()
	m, err := s.read()
	if err != nil {
		return nil, err
	}
	s.current = m
	i := &Identity{node: node, source: s, log: log}
	if err := i.fit(m); err != nil {
		if valid("", m.own.Leaf) == nil {
			return nil, fmt.Errorf("%s: %w", f.Cert, err)
		}
		log.Warn("other agents will refuse this one", "err", err) // until the file is renewed
	}
	return i, nil
}

type files struct {
	Files
	log *slog.Logger

	mu      sync.Mutex
	seen    stamp // of what was tried last
	current *material
}

// stamp tells one state of the three files from another.
type stamp [3]struct {
	size    int64
	changed time.Time
}

func (f *files) close() {}

// material is that of the files as they are now, or as they were when they were good.
func (f *files) material() (*material, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.stamp()
	if now == f.seen {
		return f.current, nil
	}
	f.seen = now
	m, err := f.read()
	if err != nil {
		f.log.Warn("the certificate files have changed and cannot be used; what was read before counts", "err", err)
		return f.current, nil
	}
	f.current = m
	f.log.Info("certificate files read again", "names", names(m.own.Leaf), "until", m.own.Leaf.NotAfter)
	return m, nil
}

func (f *files) stamp() (s stamp) {
	for i, path := range []string{f.Cert, f.Key, f.CA} {
		if info, err := os.Stat(path); err == nil {
			s[i].size, s[i].changed = info.Size(), info.ModTime()
		}
	}
	return s
}

func (f *files) read() (*material, error) {
	own, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("grpc.tls.cert %s, grpc.tls.key %s: %w", f.Cert, f.Key, err)
	}
	pem, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, fmt.Errorf("grpc.tls.ca: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("grpc.tls.ca: %s holds no certificate in PEM form", f.CA)
	}
	return &material{own, roots}, nil
}
