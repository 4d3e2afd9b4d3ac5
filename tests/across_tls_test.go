package tests

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	nodes "go.patchbay.dev/agent/lab"
	"go.patchbay.dev/tests/lab"
)

// certified is a node of a story whose certificate for other agents is in a folder of its
// own: etcd goes on with the lab's.
func certified(t *testing.T, s *across, n *lab.Node) (dir string) {
	t.Helper()
	dir = t.TempDir()
	do(t, s.Authority.Issue(dir, nodes.Identity{Node: n.Host.Name}))
	n.Restart(map[string]string{
		"grpc.tls.cert": filepath.Join(dir, nodes.CertFile),
		"grpc.tls.key":  filepath.Join(dir, nodes.KeyFile),
		"grpc.tls.ca":   filepath.Join(dir, nodes.CAFile),
	})
	return dir
}

// Certificates that will not do are refused with the reason, and good ones in their place are
// taken without a restart of the agent whose they are; what is connected stays so.
func TestAcrossCertificatesAreReplaced(t *testing.T) {
	t.Parallel()
	s := newAcross(t, nodes.Options{Nodes: 2})
	far, near := certified(t, s, s.far), certified(t, s, s.near)
	stranger, err := nodes.NewAuthority()
	do(t, err)
	s.knows(t, s.near, "fw-2")
	conn := s.connect(t, "c1", "nsm0")
	f := startFlow(t, s.ns, "10.0.1.2")
	past := time.Now().Add(-time.Minute)
	for _, c := range []struct {
		what    string
		whose   *lab.Node
		dir     string
		by      *nodes.Authority
		id      nodes.Identity
		restart *lab.Node // so that they meet anew
		logged  *lab.Node // who finds it out
		says    string
	}{
		{"the endpoint's node's has expired", s.far, far, s.Authority, nodes.Identity{Node: "n2", Until: past}, s.near, s.near, "for node n2, has expired at"},
		{"the endpoint's node's is of another node", s.far, far, s.Authority, nodes.Identity{Node: "n1"}, s.near, s.near, "names node n1, not node n2"},
		{"the endpoint's node's is of another authority", s.far, far, stranger, nodes.Identity{Node: "n2"}, s.near, s.near, "is not to be trusted"},
		{"the client's node's has expired", s.near, near, s.Authority, nodes.Identity{Node: "n1", Until: past}, s.far, s.near, "for node n1, has expired at"},
		{"the client's node's is of another authority", s.near, near, stranger, nodes.Identity{Node: "n1"}, s.far, s.far, "is not to be trusted"},
	} {
		t.Run(c.what, func(t *testing.T) {
			do(t, c.by.Issue(c.dir, c.id))
			ca, err := os.ReadFile(filepath.Join(c.whose.Host.Dir, nodes.CAFile)) // it goes on to trust the other
			do(t, err)
			do(t, os.WriteFile(filepath.Join(c.dir, nodes.CAFile), ca, 0o644))
			c.restart.Stop()
			c.restart.Start()
			lab.Eventually(t, 20*time.Second, "a refusal", func() error {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				_, err := s.client.Pass(ctx, lab.NewRequest(t, "c2", "fw", s.ns, "nsm1"), s.ns)
				logs := s.Logs()[filepath.Join(c.logged.Host.Name, "agent")]
				if c.logged == s.near && err != nil {
					logs = err.Error()
				}
				if err == nil || !strings.Contains(logs, c.says) {
					return fmt.Errorf("the request: %v", err)
				}
				return nil
			})
			do(t, s.Authority.Issue(c.dir, nodes.Identity{Node: c.whose.Host.Name}))
			s.client.Disconnect(s.connect(t, "c2", "nsm1"))
		})
	}
	f.end(t)
	awaitAt(t, s.near, "c1", "UP")
	if again := s.connect(t, "c1", "nsm0"); farID(again) != farID(conn) {
		t.Error("it is another connection")
	}
}
