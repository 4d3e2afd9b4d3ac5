package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"sync"

	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

// FromSPIFFE is an identity from the SPIFFE Workload API on a socket, unix:///path, which
// renews it. The API need not answer yet.
func FromSPIFFE(node, socket string, log *slog.Logger) (*Identity, error) {
	client, err := workloadapi.New(context.Background(), workloadapi.WithAddr(socket))
	if err != nil {
		return nil, fmt.Errorf("grpc.tls.spiffe: %s: %w", socket, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &spiffe{log: log, err: fmt.Errorf("the SPIFFE Workload API at %s has given no certificate yet", socket), stop: cancel}
	i := &Identity{node: node, source: s, log: log}
	s.node = i
	s.done.Go(func() {
		defer client.Close()
		if err := client.WatchX509Context(ctx, s); err != nil && ctx.Err() == nil {
			log.Error("the SPIFFE Workload API is not followed any more", "err", err)
		}
	})
	return i, nil
}

type spiffe struct {
	log  *slog.Logger
	node *Identity
	stop context.CancelFunc
	done sync.WaitGroup

	mu      sync.Mutex
	current *material
	err     error // why there is none
}

func (s *spiffe) close() {
	s.stop()
	s.done.Wait()
}

func (s *spiffe) material() (*material, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil {
		return nil, s.err
	}
	return s.current, nil
}

// OnX509ContextUpdate takes in a new certificate, or new authorities.
func (s *spiffe) OnX509ContextUpdate(c *workloadapi.X509Context) {
	svid := c.DefaultSVID()
	bundle, err := c.Bundles.GetX509BundleForTrustDomain(svid.ID.TrustDomain())
	if err != nil {
		s.OnX509ContextWatchError(err)
		return
	}
	m := &material{own: tls.Certificate{PrivateKey: svid.PrivateKey, Leaf: svid.Certificates[0]}, roots: x509.NewCertPool()}
	for _, c := range svid.Certificates {
		m.own.Certificate = append(m.own.Certificate, c.Raw)
	}
	for _, c := range bundle.X509Authorities() {
		m.roots.AddCert(c)
	}
	s.mu.Lock()
	s.current = m
	s.mu.Unlock()
	if err := s.node.fit(m); err != nil {
		s.log.Warn("other agents will refuse this one", "err", err)
		return
	}
	s.log.Info("certificate from the SPIFFE Workload API", "id", svid.ID.String(), "until", m.own.Leaf.NotAfter)
}

// OnX509ContextWatchError keeps what there is: the watch goes on by itself.
func (s *spiffe) OnX509ContextWatchError(err error) {
	s.mu.Lock()
	if s.current == nil {
		s.err = fmt.Errorf("the SPIFFE Workload API gives no certificate: %w", err)
	}
	s.mu.Unlock()
	s.log.Warn("SPIFFE Workload API", "err", err)
}
