package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"go.patchbay.dev/agent/lab"
)

// labOptions are the flags of the lab's commands.
type labOptions struct {
	dir, name  string
	nodes, mtu int
	dataplane  string
	foreground bool
}

func newLab(a *app) *cobra.Command {
	var o labOptions
	cmd := &cobra.Command{
		Use:   "lab",
		Short: "Several nodes on this machine, to try things out",
		Long: `Lab is several nodes on this machine: network namespaces on an underlay of their own, an etcd
cluster of three, an agent and, where it is found, a VPP on each. It touches nothing else on the
machine. It needs root, and Debian's etcd-server.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.PersistentFlags().StringVar(&o.dir, "dir", "/tmp/patchbay-lab", "folder of all that the lab keeps")
	up := &cobra.Command{
		Use:   "up",
		Short: "Make a lab and leave it running",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return a.labUp(cmd.Context(), o) },
	}
	up.Flags().IntVar(&o.nodes, "nodes", 3, "how many nodes, 1 to 9")
	up.Flags().IntVar(&o.mtu, "mtu", 1500, "of the underlay, in bytes")
	up.Flags().StringVar(&o.name, "name", "pb", "begins the names of the nodes' network namespaces")
	up.Flags().StringVar(&o.dataplane, "dataplane", "auto", "kernel; vpp: a VPP on each node; auto: vpp where it is found")
	up.Flags().BoolVar(&o.foreground, "foreground", false, "stay until SIGINT or SIGTERM, and remove the lab then")
	down := &cobra.Command{
		Use:   "down",
		Short: "Remove the lab, also one whose process was killed",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return a.labDown(cmd.Context(), o.dir) },
	}
	cmd.AddCommand(up, down)
	return cmd
}

func (a *app) labUp(ctx context.Context, o labOptions) error {
	if o.nodes < 1 || o.nodes > 9 {
		return usage("--nodes %d: use 1 to 9", o.nodes)
	}
	if o.mtu < 1280 || o.mtu > 65535 {
		return usage("--mtu %d: use 1280, which IPv6 needs, to 65535", o.mtu)
	}
	if _, err := os.Stat(filepath.Join(o.dir, lab.StateFile)); err == nil {
		return fmt.Errorf("lab: there is one in %s already; remove it with: patchbay lab down --dir %s", o.dir, o.dir)
	}
	if !o.foreground {
		return a.labInBackground(o)
	}
	options, err := o.lab()
	if err != nil {
		return err
	}
	ctx, stop := untilSignal(ctx)
	defer stop()
	l, err := lab.Start(ctx, options)
	if err != nil {
		return err
	}
	describeLab(a.out, l, o.dir)
	if c, ok := a.out.(io.Closer); ok {
		c.Close() // nothing more will be said: who reads it need not wait for the end
	}
	<-ctx.Done()
	return l.Close()
}

// lab are the options of the lab itself.
func (o labOptions) lab() (lab.Options, error) {
	program, err := os.Executable()
	if err != nil {
		return lab.Options{}, err
	}
	out := lab.Options{Nodes: o.nodes, Program: program, Dir: o.dir, Name: o.name, MTU: o.mtu}
	_, missing := lab.FindVPP()
	switch {
	case o.dataplane == "vpp" || o.dataplane == "auto" && missing == nil:
		out.VPP = func(int) bool { return true }
	case o.dataplane != "kernel" && o.dataplane != "auto":
		return out, usage("--dataplane %s: use auto, kernel or vpp", o.dataplane)
	}
	return out, nil
}

// labInBackground starts this program once more, to keep the lab up, and shows what it
// says until the lab is ready.
func (a *app) labInBackground(o labOptions) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	log, err := os.CreateTemp("", "patchbay-lab-*.log")
	if err != nil {
		return err
	}
	defer os.Remove(log.Name())
	defer log.Close()
	cmd := exec.Command(program, "lab", "up", "--foreground", "--dir", o.dir, "--name", o.name, "--nodes", fmt.Sprint(o.nodes),
		"--mtu", fmt.Sprint(o.mtu), "--dataplane", o.dataplane)
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	said, err := io.Copy(a.out, out)
	if err == nil && said == 0 { // it has ended
		return errors.Join(readError(log.Name()), cmd.Wait())
	}
	return err
}

// readError is the error that this program wrote into a file.
func readError(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return errors.New(strings.TrimPrefix(strings.TrimSpace(string(data)), "patchbay: "))
}

func (a *app) labDown(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*stepTimeout)
	defer cancel()
	err := lab.Remove(ctx, dir)
	if errors.Is(err, lab.ErrNoLab) {
		fmt.Fprintln(a.out, err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	fmt.Fprintf(a.out, "The lab in %s is gone.\n", dir)
	return nil
}

// describeLab says how to reach what there is.
func describeLab(w io.Writer, l *lab.Lab, dir string) {
	fmt.Fprintf(w, "A lab of %d nodes is up; all that it keeps is in %s.\n", len(l.Nodes), dir)
	for _, n := range l.Nodes {
		fmt.Fprintf(w, "\nNode %s, network namespace %s, %s and %s; tunnels end at %s and %s\n",
			n.Name, n.Netns, n.Addresses[0], n.Addresses[1], n.Tunnel[0], n.Tunnel[1])
		fmt.Fprintf(w, "  agent   ip netns exec %s env PATCHBAY_AGENT=unix://%s patchbay get agents\n", n.Netns, n.AgentSocket)
		fmt.Fprintf(w, "  config  %s, log %s\n", n.Config(), n.LogFile("agent"))
		if n.VPP != nil {
			fmt.Fprintf(w, "  VPP     %s show interface\n", strings.Join(n.VPP.Ctl().Args, " "))
		}
	}
	n := l.Nodes[0]
	fmt.Fprintf(w, "\netcd      etcdctl --endpoints=unix://%s get --prefix --keys-only /patchbay/v1/\n", n.EtcdSocket)
	fmt.Fprintf(w, "          or, with TLS, on a node: ip netns exec %s etcdctl --endpoints=%s --cacert=%s --cert=%s --key=%s member list\n", n.Netns,
		strings.Join(l.EtcdURLs(), ","), filepath.Join(n.Dir, lab.CAFile), filepath.Join(n.Dir, lab.CertFile), filepath.Join(n.Dir, lab.KeyFile))
	fmt.Fprintf(w, "cut       ip -n %s link set %s down; ... up mends it\n", l.UnderlayNetns(), n.Name)
	fmt.Fprintf(w, "remove    patchbay lab down --dir %s\n", dir)
}
