package manager

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/networkservicemesh/api/pkg/api/networkservice/mechanisms/common"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.patchbay.dev/plugins/fdpass"
	"go.patchbay.dev/plugins/identity"
)

// A peer is who calls: a process of this node by its credentials on the unix socket, the
// agent of another node by its certificate, or this agent itself.
type peer struct {
	conn *fdpass.Conn
	fdpass.Peer
	agent *identity.Peer // another node's; nil: a process of this node
	node  string         // that the agent has spoken for
	as    string         // the owner for whom this agent itself asks
}

func peerOf(ctx context.Context) (peer, error) {
	if c, ok := fdpass.FromContext(ctx); ok {
		return peer{conn: c, Peer: c.Peer()}, nil
	}
	if p, ok := identity.FromContext(ctx); ok {
		return peer{agent: &p}, nil
	}
	return peer{}, status.Error(codes.Unauthenticated, "the caller is not known: connect over the agent's unix socket")
}

// Owner identifies a workload over its own restarts: its user in its network namespace,
// which is a pod's identity on the node.
func Owner(p fdpass.Peer) string { return fmt.Sprintf("uid=%d,netns=%d", p.UID, p.Netns) }

// IsRoot reports whether the peer is root of the node, whose agent runs in the network
// namespace own: root in a pod is not.
func IsRoot(p fdpass.Peer, own uint64) bool { return p.UID == 0 && p.Netns == own }

// nodeOwner owns what the agent of another node has asked for.
func nodeOwner(node string) string { return ownerNode + node }

const ownerNode = "node="

func (p peer) owner() string {
	switch {
	case p.as != "":
		return p.as
	case p.agent != nil:
		return nodeOwner(p.node)
	}
	return Owner(p.Peer)
}

func (m *Manager) isRoot(p peer) bool {
	return p.agent == nil && p.as == "" && IsRoot(p.Peer, m.OwnNetns)
}

// may reports whether the peer may change what belongs to owner. Root of the node may
// change everything.
func (m *Manager) may(p peer, owner string) bool { return p.owner() == owner || m.isRoot(p) }

// namespace turns an NSM inodeURL into a lasting reference: inode:// for a descriptor
// that the peer passed, file:// for a path.
func (m *Manager) namespace(ctx context.Context, p peer, url string) (ref string, err error) {
	if ref, err = m.refer(ctx, p, url); err != nil {
		err = fmt.Errorf("parameter %s: %w", common.InodeURL, err)
	}
	return ref, err
}

// refer is namespace, whose errors say which parameter is meant.
func (m *Manager) refer(ctx context.Context, p peer, url string) (string, error) {
	path, isFile := strings.CutPrefix(url, "file://")
	if isFile || strings.HasPrefix(url, "/") {
		return m.namespaceByPath(p, path)
	}
	dev, ino, err := fdpass.ParseURL(url)
	if err != nil {
		return "", fmt.Errorf("%q is neither inode://dev/ino with the descriptor passed nor file:///path", url)
	}
	if p.conn == nil {
		return "", fmt.Errorf("%s: no descriptor can be passed on this connection; use the unix socket", url)
	}
	f, err := p.conn.Receive(ctx, dev, ino)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			err = errors.New("its descriptor was not passed")
		}
		return "", fmt.Errorf("%s: %w", url, err)
	}
	defer f.Close()
	return m.Namespaces.FromDescriptor(f, int(p.PID))
}

// namespaceByPath allows root a path, and everyone the namespace they are in.
func (m *Manager) namespaceByPath(p peer, path string) (string, error) {
	for _, self := range []string{"/proc/self/", "/proc/thread-self/"} {
		if rest, ok := strings.CutPrefix(path, self); ok && rest == "ns/net" {
			return m.openAndRefer(fmt.Sprintf("/proc/%d/ns/net", p.PID), int(p.PID))
		}
	}
	if !m.isRoot(p) {
		return "", fmt.Errorf("%s: only root of the node may name a namespace by path; pass its descriptor", path)
	}
	return m.Namespaces.FromPath(path)
}

// openAndRefer refers to a process's namespace by its inode, which outlives the process.
func (m *Manager) openAndRefer(path string, pid int) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return m.Namespaces.FromDescriptor(f, pid)
}
