// Package identity is who an agent is to the agents of other nodes, and how it knows them:
// mutual TLS with certificates from files or from the SPIFFE Workload API.
package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"

	"google.golang.org/grpc/credentials"
	grpcpeer "google.golang.org/grpc/peer"
)

// source gives what this agent shows and what it believes, as they are now.
type source interface {
	material() (*material, error)
	close()
}

// material is what a handshake needs. It does not change any more.
type material struct {
	own   tls.Certificate // with its Leaf
	roots *x509.CertPool
}

// Identity is that of one agent. Its methods may be called at any time.
type Identity struct {
	node   string
	source source
	log    *slog.Logger
}

// Close ends what keeps the identity up to date.
func (i *Identity) Close() { i.source.close() }

// Peer is who is at the other end of a connection between agents.
type Peer struct {
	credentials.CommonAuthInfo
	Names []string // of its node: those that its certificate has
}

// AuthType is that of credentials.AuthInfo.
func (Peer) AuthType() string { return "mtls" }

// Is reports whether the peer may speak for a node.
func (p Peer) Is(node string) bool { return node != "" && slices.Contains(p.Names, node) }

// FromContext gives the peer of a call that came over [Identity.Server] credentials.
func FromContext(ctx context.Context) (Peer, bool) {
	p, ok := grpcpeer.FromContext(ctx)
	if !ok {
		return Peer{}, false
	}
	peer, ok := p.AuthInfo.(Peer)
	return peer, ok
}

// Server are the credentials of a server for agents. Whom it refuses is logged: a caller
// that has no business here is told little by TLS.
func (i *Identity) Server() credentials.TransportCredentials {
	config := i.config()
	config.ClientAuth = tls.RequireAnyClientCert // checked by VerifyConnection, with better words
	config.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return i.certificate() }
	config.VerifyConnection = func(s tls.ConnectionState) error {
		return i.verify(s.PeerCertificates, x509.ExtKeyUsageClientAuth, "")
	}
	return transport{credentials.NewTLS(config), i, ""}
}

// Client are the credentials of a client that means the agent of a node and no other.
func (i *Identity) Client(node string) credentials.TransportCredentials {
	config := i.config()
	config.InsecureSkipVerify = true // VerifyConnection does it: names are those of nodes, not of hosts
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return i.fitting() }
	config.VerifyConnection = func(s tls.ConnectionState) error {
		return i.verify(s.PeerCertificates, x509.ExtKeyUsageServerAuth, node)
	}
	return transport{credentials.NewTLS(config), i, node}
}

// config is what both sides have in common. Without tickets every handshake shows a
// certificate that is valid now.
func (i *Identity) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true}
}

func (i *Identity) certificate() (*tls.Certificate, error) {
	m, err := i.source.material()
	if err != nil {
		return nil, err
	}
	return &m.own, nil
}

// fitting is the certificate, unless it is one that the peer must refuse: only this side can say
// what is wrong with it. A peer that took another node's would tell this agent of that node's connections.
func (i *Identity) fitting() (*tls.Certificate, error) {
	m, err := i.source.material()
	if err == nil {
		err = i.fit(m)
	}
	if err != nil {
		return nil, fmt.Errorf("this agent cannot show who it is: %w", err)
	}
	return &m.own, nil
}

// transport adds to gRPC's TLS who the peer is, and words for what goes wrong.
type transport struct {
	credentials.TransportCredentials
	id   *Identity
	node string // that is dialled; empty: a server's
}

// ClientHandshake says in its error which agent was dialled.
func (t transport) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, info, err := t.TransportCredentials.ClientHandshake(ctx, authority, conn)
	if err != nil {
		return nil, nil, fmt.Errorf("agent of node %s at %s: %w", t.node, conn.RemoteAddr(), err)
	}
	return c, peerOf(info), nil
}

// ServerHandshake says in the log who was refused and why.
func (t transport) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, info, err := t.TransportCredentials.ServerHandshake(conn)
	if err != nil {
		why := err.Error()
		if strings.Contains(why, "didn't provide a certificate") {
			why = "it shows no certificate; only agents with one that names their node are served here"
		}
		t.id.log.Warn("a connection to this agent is refused", "peer", conn.RemoteAddr().String(), "err", why)
		return nil, nil, err
	}
	return c, peerOf(info), nil
}

// Clone is that of credentials.TransportCredentials.
func (t transport) Clone() credentials.TransportCredentials {
	return transport{t.TransportCredentials.Clone(), t.id, t.node}
}

func peerOf(info credentials.AuthInfo) credentials.AuthInfo {
	p := Peer{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}
	if s, ok := info.(credentials.TLSInfo); ok && len(s.State.PeerCertificates) > 0 {
		p.Names = names(s.State.PeerCertificates[0])
	}
	return p
}
