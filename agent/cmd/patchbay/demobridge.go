package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"go.patchbay.dev/agent/lab"
)

// demoBridge is the bridge that the demo's pods are on.
const demoBridge = `kind: Bridge
name: lan1
service: lan1
subnets: [10.60.0.0/24, "fd60::/64"]
`

// bridgeStory is the demo of a bridge: a pod on each node, all on one segment.
func (d *demonstration) bridgeStory(ctx context.Context, nodes int, vpp bool) error {
	l, err := d.startLab(ctx, nodes, vpp)
	if err != nil {
		return err
	}
	first, last := l.Nodes[0], l.Nodes[nodes-1]
	if err := d.applyBridge(ctx, first); err != nil {
		return err
	}
	d.title("A pod on each node asks for the network service \"lan1\", which the bridge itself answers.")
	var pods []*lab.Process
	for _, n := range l.Nodes {
		if err := d.makeNamespace(ctx, d.pod(n)); err != nil {
			return err
		}
		pod, err := d.startOn(ctx, n, "connected ", "connect", "lan1", "--netns", d.pod(n), "--interface", "nsm0", "--id", "pod-"+n.Name)
		if err != nil {
			return err
		}
		pods = append(pods, pod)
	}
	if err := d.pingAll(ctx, l); err != nil {
		return err
	}
	d.title("The bridge: its nodes and members, and what node %s forwards where.", first.Name)
	if err := d.onNode(ctx, first, "describe", "bridge", "lan1"); err != nil {
		return err
	}
	if vpp {
		if err := d.inVPP(ctx, first); err != nil {
			return err
		}
	}
	d.title("The pod on node %s leaves, and with its last member the node.", last.Name)
	if err := pods[nodes-1].Stop(); err != nil {
		return err
	}
	if err := d.onNode(ctx, first, "get", "bridges"); err != nil {
		return err
	}
	d.title("The others leave; then nothing is left of the bridge.")
	for _, pod := range pods[:nodes-1] {
		if err := pod.Stop(); err != nil {
			return err
		}
	}
	if err := d.onNode(ctx, first, "delete", "bridge", "lan1"); err != nil {
		return err
	}
	return d.onNode(ctx, first, "get", "bridges")
}

// inVPP shows the bridge domain of a node, by the number that the agent knows.
func (d *demonstration) inVPP(ctx context.Context, n *lab.Node) error {
	out, err := n.Patchbay("describe", "bridge", "lan1", "-o", "json").Output()
	if err != nil {
		return fmt.Errorf("patchbay describe bridge lan1 on %s: %w", n.Name, err)
	}
	var here struct{ Interface string }
	if err := json.Unmarshal(out, &here); err != nil {
		return err
	}
	args := []string{"show", "bridge-domain", here.Interface, "detail"}
	return d.showAs(ctx, n.Name, append([]string{"vppctl"}, args...), n.VPP.Ctl(args...))
}

// pod is the network namespace of the pod on a node.
func (d *demonstration) pod(n *lab.Node) string { return d.name + "-pod-" + n.Name }

func (d *demonstration) applyBridge(ctx context.Context, n *lab.Node) error {
	d.title("A bridge, one record for all nodes.")
	file := filepath.Join(d.dir, "lan1.yaml")
	if err := os.WriteFile(file, []byte(demoBridge), 0o600); err != nil {
		return err
	}
	if err := d.command(ctx, "cat", file); err != nil {
		return err
	}
	return d.onNode(ctx, n, "apply", "-f", file)
}

// pingAll shows that the pod on the first node reaches those on the others.
func (d *demonstration) pingAll(ctx context.Context, l *lab.Lab) error {
	d.title("The pods reach each other as on one wire, whatever node they are on.")
	for _, n := range l.Nodes[1:] {
		for _, family := range []string{"-4", "-6"} {
			address, err := d.addressOf(ctx, n, family)
			if err != nil {
				return err
			}
			if err := d.command(ctx, "ip", "netns", "exec", d.pod(l.Nodes[0]), "ping", "-c", "2", "-i", "0.2", "-W", "2", address); err != nil {
				return err
			}
		}
	}
	return nil
}

// addressOf is the address that the pod on a node was given.
func (d *demonstration) addressOf(ctx context.Context, n *lab.Node, family string) (string, error) {
	out, err := exec.CommandContext(ctx, "ip", "-n", d.pod(n), family, "-oneline", "address", "show", "dev", "nsm0", "scope", "global").Output()
	if err != nil {
		return "", err
	}
	fields := strings.Fields(string(out))
	if len(fields) < 4 {
		return "", fmt.Errorf("the pod on node %s has no address: %q", n.Name, out)
	}
	address, _, _ := strings.Cut(fields[3], "/")
	return address, nil
}
