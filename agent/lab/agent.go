package lab

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// agentPort is where agents reach each other.
const agentPort = 9640

// AgentURL is where other agents reach the node's.
func (n *Node) AgentURL() string { return fmt.Sprintf("tcp://%s:%d", n.Addresses[0], agentPort) }

// Config is the agent's configuration file.
func (n *Node) Config() string { return filepath.Join(n.Dir, "patchbay.yaml") }

// settings are the agent's configuration by full key, as YAML.
func (n *Node) settings() map[string]string {
	at := func(name string) string { return filepath.Join(n.Dir, name) }
	s := map[string]string{
		"node.name":      n.Name,
		"node.address":   n.Tunnel[0].String(),
		"node.address6":  fmt.Sprintf("%q", n.Tunnel[1]),
		"dataplane":      "kernel",
		"grpc.listen":    fmt.Sprintf("[%q, %q]", "unix://"+n.AgentSocket, n.AgentURL()),
		"grpc.tls.cert":  at(CertFile),
		"grpc.tls.key":   at(KeyFile),
		"grpc.tls.ca":    at(CAFile),
		"etcd.data_dir":  at("etcd-embedded"), // none; but what the agent keeps is beside it
		"etcd.endpoints": `["` + strings.Join(n.lab.EtcdURLs(), `", "`) + `"]`,
		"etcd.tls.cert":  at(CertFile),
		"etcd.tls.key":   at(KeyFile),
		"etcd.tls.ca":    at(CAFile),
		"http.listen":    fmt.Sprintf("%q", n.HTTP()),
		"log.level":      "debug",
	}
	if n.VPP != nil {
		s["dataplane"] = "vpp"
		s["vpp.api_socket"] = n.VPP.APISocket()
		s["vpp.stats_socket"] = n.VPP.StatsSocket()
		s["vpp.run_dir"] = at("run")
	}
	maps.Copy(s, n.lab.options.Config)
	return s
}

// HTTP is where the agent serves its metrics, in the node's namespace: host:port.
func (n *Node) HTTP() string { return fmt.Sprintf("%s:9641", n.Addresses[0]) }

// yaml nests settings by their keys.
func yaml(settings map[string]string) string {
	var b strings.Builder
	var open []string // groups of the line before
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		parts := strings.Split(key, ".")
		groups := parts[:len(parts)-1]
		same := 0
		for same < len(groups) && same < len(open) && groups[same] == open[same] {
			same++
		}
		for i, g := range groups[same:] {
			fmt.Fprintf(&b, "%s%s:\n", strings.Repeat("  ", same+i), g)
		}
		fmt.Fprintf(&b, "%s%s: %s\n", strings.Repeat("  ", len(groups)), parts[len(groups)], settings[key])
		open = groups
	}
	return b.String()
}

// Configure writes the agent's configuration with more or other settings, by full key, as
// YAML; it counts from the agent's next start on.
func (n *Node) Configure(more map[string]string) error {
	s := n.settings()
	maps.Copy(s, more)
	return os.WriteFile(n.Config(), []byte(yaml(s)), 0o600)
}

// StartAgent starts the node's agent and waits until it says that it is ready.
func (n *Node) StartAgent(ctx context.Context) error {
	socket := filepath.Join(n.Dir, "notify.sock")
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	word, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer word.Close()
	cmd := within(n.Netns, n.lab.options.Program, "run", "--config", n.Config())
	cmd.Env = append(cleanEnviron(), "NOTIFY_SOCKET="+socket) // sd_notify(3)
	if n.agent, err = n.launch("agent", cmd); err != nil {
		return err
	}
	ready := make(chan struct{})
	go func() {
		buf := make([]byte, 64)
		for {
			size, err := word.Read(buf)
			if err != nil {
				return // closed
			}
			if string(buf[:size]) == "READY=1" {
				close(ready)
				return
			}
		}
	}()
	return n.agent.Await(ctx, ready)
}

// Agent is the running agent.
func (n *Node) Agent() *Process { return n.agent }

// cleanEnviron is the environment without what configures an agent.
func cleanEnviron() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "PATCHBAY_") })
}

// stopAgent stops the agent, if it runs.
func (n *Node) stopAgent() error {
	if n.agent == nil {
		return nil
	}
	return n.agent.End()
}

// stopRest ends what the agent used. etcd is killed: its data goes, and a member that is to
// stop first looks for another to lead.
func (n *Node) stopRest() error {
	var errs []error
	if n.etcd != nil {
		errs = append(errs, n.etcd.Kill())
	}
	if n.VPP != nil {
		errs = append(errs, n.VPP.Stop())
	}
	return errors.Join(errs...)
}
