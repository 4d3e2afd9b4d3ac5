package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// members of the etcd cluster: one may be lost.
const members = 3

// Ports of etcd, as IANA has them.
const (
	etcdClients = 2379
	etcdPeers   = 2380
)

// unpacked is where tests/deps.sh puts Debian's etcd, without its service.
const unpacked = "/usr/local/lib/patchbay/etcd"

// FindEtcd looks for etcd in PATH and where tests/deps.sh unpacks it.
func FindEtcd() (string, error) {
	for _, name := range []string{"etcd", unpacked} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("etcd is neither in PATH nor in " + filepath.Dir(unpacked) + "; install it with: apt-get install etcd-server")
}

func (n *Node) etcdURL(port int) string { return fmt.Sprintf("https://%s:%d", n.Addresses[0], port) }

// EtcdURLs are where the cluster's members answer on the underlay, with TLS.
func (l *Lab) EtcdURLs() (urls []string) {
	for _, n := range l.hosts[:members] {
		urls = append(urls, n.etcdURL(etcdClients))
	}
	return urls
}

// startEtcd starts the whole cluster and waits until each member answers through the
// quorum.
func (l *Lab) startEtcd(ctx context.Context) error {
	for _, n := range l.hosts[:members] {
		if err := n.launchEtcd("new"); err != nil {
			return err
		}
	}
	for _, n := range l.hosts[:members] {
		if err := n.awaitEtcd(ctx); err != nil {
			return err
		}
	}
	return nil
}

// StartEtcd starts the node's member of etcd again, over its data.
func (n *Node) StartEtcd(ctx context.Context) error {
	if err := n.launchEtcd("existing"); err != nil {
		return err
	}
	return n.awaitEtcd(ctx)
}

// KillEtcd ends the node's member as a crash does.
func (n *Node) KillEtcd() error { return n.etcd.Kill() }

// launchEtcd starts the node's member. Clients and members show certificates of the lab;
// on its unix socket, which only root can open, they need none.
func (n *Node) launchEtcd(state string) error {
	program, err := FindEtcd()
	if err != nil {
		return err
	}
	var cluster []string
	for _, m := range n.lab.hosts[:members] {
		cluster = append(cluster, m.Name+"="+m.etcdURL(etcdPeers))
	}
	if err := os.Remove(n.EtcdSocket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	cert, key, ca := filepath.Join(n.Dir, CertFile), filepath.Join(n.Dir, KeyFile), filepath.Join(n.Dir, CAFile)
	cmd := within(n.Netns, program,
		"--name", n.Name, "--data-dir", filepath.Join(n.Dir, "etcd", "data"),
		"--listen-client-urls", n.etcdURL(etcdClients)+",unix://"+filepath.Base(n.EtcdSocket),
		"--advertise-client-urls", n.etcdURL(etcdClients),
		"--listen-peer-urls", n.etcdURL(etcdPeers), "--initial-advertise-peer-urls", n.etcdURL(etcdPeers),
		"--initial-cluster", strings.Join(cluster, ","), "--initial-cluster-state", state, "--initial-cluster-token", filepath.Base(n.lab.Dir),
		"--client-cert-auth", "--cert-file", cert, "--key-file", key, "--trusted-ca-file", ca,
		"--peer-client-cert-auth", "--peer-cert-file", cert, "--peer-key-file", key, "--peer-trusted-ca-file", ca,
		"--logger", "zap", "--log-outputs", "stderr")
	cmd.Dir = filepath.Dir(n.EtcdSocket) // a socket's name must look like host:port, and is relative
	n.etcd, err = n.launch("etcd", cmd)
	return err
}

// awaitEtcd waits for an answer of the node's member that the quorum agrees to.
func (n *Node) awaitEtcd(ctx context.Context) error {
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", n.EtcdSocket)
		},
	}}
	return poll(ctx, n.etcd, func() error {
		in, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://etcd/health", nil)
		if err != nil {
			return err
		}
		r, err := client.Do(in)
		if err != nil {
			return err
		}
		defer r.Body.Close()
		var health struct{ Health, Reason string }
		if err := json.NewDecoder(r.Body).Decode(&health); err != nil {
			return err
		}
		if health.Health != "true" {
			return fmt.Errorf("health is %q: %s", health.Health, health.Reason)
		}
		return nil
	})
}
