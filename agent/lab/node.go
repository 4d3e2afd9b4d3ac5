package lab

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
)

// Node is one host of the lab.
type Node struct {
	Name        string        // n1, n2, …
	Netns       string        // its network namespace, by name
	Dir         string        // of all that is its own
	Addresses   [2]netip.Addr // of its kernel, agent and etcd: IPv4, IPv6
	Tunnel      [2]netip.Addr // that tunnels end at: VPP's, or its kernel's
	AgentSocket string
	EtcdSocket  string // of its member, for root, without TLS
	VPP         *VPP   // nil: its dataplane is the kernel's

	index int // from 1
	lab   *Lab
	agent *Process
	etcd  *Process // nil: it has no member
}

func (l *Lab) newNode(index int) *Node {
	n := &Node{Name: fmt.Sprintf("n%d", index), index: index, lab: l}
	n.Netns = l.options.Name + "-" + n.Name
	n.Dir = filepath.Join(l.Dir, n.Name)
	n.AgentSocket = filepath.Join(n.Dir, "agent.sock")
	n.EtcdSocket = filepath.Join(n.Dir, "etcd", "etcd.sock:0")
	own := kernelPort
	if index <= l.options.Nodes && l.options.VPP != nil && l.options.VPP(index) {
		n.VPP = NewVPP(l.installation, filepath.Join(n.Dir, "vpp"), n.Netns)
		if l.options.Without != nil {
			n.VPP.without = l.options.Without(index)
		}
		own = vppPort
	}
	for i := range n.Addresses {
		n.Addresses[i], n.Tunnel[i] = kernelPort.addresses(n)[i].Addr(), own.addresses(n)[i].Addr()
	}
	return n
}

// make makes the node's folder, certificate and namespace, and plugs it in.
func (n *Node) make() error {
	// Workloads need not be root, so they may enter; etcd's socket is for root alone.
	if err := os.MkdirAll(filepath.Join(n.Dir, "etcd"), 0o700); err != nil {
		return err
	}
	if err := os.Chmod(n.Dir, 0o755); err != nil {
		return err
	}
	if err := n.lab.Authority.Issue(n.Dir, Identity{Node: n.Name, Addresses: n.Addresses[:]}); err != nil {
		return err
	}
	if err := n.Configure(nil); err != nil {
		return err
	}
	if err := ip("", "netns add "+n.Netns); err != nil {
		return err
	}
	lines := []string{"link set lo up"}
	for _, k := range ports(n) {
		if err := n.lab.underlay.plug(n, k, n.lab.spaces); err != nil {
			return err
		}
	}
	for _, a := range kernelPort.addresses(n) {
		lines = append(lines, fmt.Sprintf("addr add %s dev %s %s", a, KernelLink, nodad(a)))
	}
	return ip(n.Netns, lines...)
}

// nodad: the lab's addresses are its own, so nobody has to wait until that is found out.
func nodad(a netip.Prefix) string {
	if a.Addr().Is6() {
		return "nodad"
	}
	return ""
}

// uplink are the commands that have VPP attach its port. An af_packet interface is polled:
// sixteen busy ones in interrupt mode stop VPP 25.10.
func (n *Node) uplink() []string {
	name := "host-" + VPPLink
	lines := []string{
		fmt.Sprintf("create host-interface name %s hw-addr %s", VPPLink, vppPort.mac(n)),
		"set interface rx-mode " + name + " polling",
		fmt.Sprintf("set interface mtu packet %d %s", n.lab.underlay.mtu, name),
		"set interface state " + name + " up",
	}
	for _, a := range vppPort.addresses(n) {
		lines = append(lines, fmt.Sprintf("set interface ip address %s %s", name, a))
	}
	return lines
}

// Command gives a command that runs on the node.
func (n *Node) Command(program string, args ...string) *exec.Cmd {
	return within(n.Netns, program, args...)
}

// Patchbay gives a command of the program that speaks to the node's agent, as its root.
func (n *Node) Patchbay(args ...string) *exec.Cmd {
	cmd := n.Command(n.lab.options.Program, args...)
	cmd.Env = append(cleanEnviron(), "PATCHBAY_AGENT=unix://"+n.AgentSocket)
	return cmd
}

// LogFile is where a program of the node logs: agent, etcd, vpp.
func (n *Node) LogFile(program string) string { return filepath.Join(n.Dir, program+".log") }

// launch starts a program of the node that logs to its file.
func (n *Node) launch(name string, cmd *exec.Cmd) (*Process, error) {
	out, err := appended(n.LogFile(name))
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	p, err := n.lab.Launcher.Start(name+" of "+n.Name, cmd)
	if err == nil {
		p.Log = n.LogFile(name)
	}
	return p, err
}
