package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"

	"go.patchbay.dev/agent/lab"
)

// nodesStory is the demo with several nodes: a workload on the first, an endpoint on the
// last, and between them what their agents negotiate.
func (d *demonstration) nodesStory(ctx context.Context, nodes int, vpp bool) error {
	l, err := d.startLab(ctx, nodes, vpp)
	if err != nil {
		return err
	}
	near, far := l.Nodes[0], l.Nodes[nodes-1]
	if err := d.onNode(ctx, near, "get", "agents"); err != nil {
		return err
	}
	if err := d.makeNamespaces(ctx); err != nil {
		return err
	}
	d.title("An endpoint on node %s offers the network service \"hello\" from the second namespace.", far.Name)
	server, err := d.startOn(ctx, far, "serving ", "serve", "hello", "--netns", d.server, "--cidr", "10.60.0.0/24")
	if err != nil {
		return err
	}
	d.title("A workload on node %s asks for \"hello\" from the first namespace.", near.Name)
	client, err := d.startOn(ctx, near, "connected ", "connect", "hello", "--netns", d.client, "--interface", "nsm0", "--id", "demo")
	if err != nil {
		return err
	}
	d.title("Packets flow through the tunnel, also the largest ones.")
	if err := d.command(ctx, "ip", "netns", "exec", d.client, "ping", "-c", "3", "-i", "0.2", "-W", "2", "10.60.0.2"); err != nil {
		return err
	}
	if err := d.fullSizePing(ctx); err != nil {
		return err
	}
	d.title("What each node decided and why, and what its interfaces counted.")
	if err := d.describeOn(ctx, near, far); err != nil {
		return err
	}
	if vpp {
		for _, n := range []*lab.Node{near, far} {
			if err := d.showAs(ctx, n.Name, []string{"vppctl", "show", "interface"}, n.VPP.Ctl("show", "interface")); err != nil {
				return err
			}
		}
	}
	d.title("The workload leaves; its connection goes on both nodes.")
	if err := client.Stop(); err != nil {
		return err
	}
	if err := server.Stop(); err != nil {
		return err
	}
	for _, n := range []*lab.Node{near, far} {
		if err := d.onNode(ctx, n, "get", "crossconnects"); err != nil {
			return err
		}
	}
	return d.emptyNamespaces(ctx)
}

// startLab makes the nodes.
func (d *demonstration) startLab(ctx context.Context, nodes int, vpp bool) (*lab.Lab, error) {
	dir := filepath.Join(d.dir, "lab")
	d.title("%d nodes in network namespaces, with an etcd of three members; all that they keep is in %s.", nodes, dir)
	o := lab.Options{Nodes: nodes, Program: d.program, Dir: dir, Name: d.name}
	if vpp {
		o.VPP = func(int) bool { return true }
	}
	l, err := lab.Start(ctx, o)
	if err != nil {
		return nil, err
	}
	d.undo = append(d.undo, l.Close)
	for _, n := range l.Nodes {
		fmt.Fprintf(d.out, "   %s: namespace %s, agent at %s, tunnels end at %s and %s\n", n.Name, n.Netns, n.AgentURL(), n.Tunnel[0], n.Tunnel[1])
	}
	return l, nil
}

// onNode shows a command of this program on a node.
func (d *demonstration) onNode(ctx context.Context, n *lab.Node, args ...string) error {
	return d.showAs(ctx, n.Name, append([]string{"patchbay"}, args...), n.Patchbay(args...))
}

// startOn is start on a node.
func (d *demonstration) startOn(ctx context.Context, n *lab.Node, sign string, args ...string) (*lab.Process, error) {
	return d.await(ctx, sign, func(out io.Writer) (*lab.Process, error) {
		cmd := n.Patchbay(args...)
		return d.launchAs(n.Name, cmd, cmd.Env, out, args)
	})
}

// fullSizePing sends what fills the interface's MTU and must not be cut on the way.
func (d *demonstration) fullSizePing(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "ip", "netns", "exec", d.client, "cat", "/sys/class/net/nsm0/mtu").Output()
	if err != nil {
		return err
	}
	var mtu int
	if _, err := fmt.Sscan(string(out), &mtu); err != nil {
		return err
	}
	const headers = 20 + 8 // of IPv4 and ICMP
	return d.command(ctx, "ip", "netns", "exec", d.client, "ping", "-c", "1", "-W", "2", "-M", "do", "-s", fmt.Sprint(mtu-headers), "10.60.0.2")
}

// describeOn shows the cross-connect of each node; the far one has an id of its own.
func (d *demonstration) describeOn(ctx context.Context, near, far *lab.Node) error {
	if err := d.onNode(ctx, near, "describe", "crossconnect", "demo"); err != nil {
		return err
	}
	out, err := far.Patchbay("get", "crossconnects").Output()
	if err != nil {
		return fmt.Errorf("patchbay get crossconnects on %s: %w", far.Name, err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != 2 {
		return errors.New("node " + far.Name + " has not one cross-connect: " + string(out))
	}
	return d.onNode(ctx, far, "describe", "crossconnect", strings.Fields(lines[1])[0])
}
