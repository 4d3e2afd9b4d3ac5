package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"go.patchbay.dev/plugins/linux"
)

// Options of a lab.
type Options struct {
	Nodes   int
	Program string // patchbay's
	Dir     string // of all that it keeps, short, and not there yet; empty: a new one under /tmp
	Name    string // begins the names of its namespaces, which must not be there yet
	MTU     int    // of the underlay in bytes; 0: 1500
	// VPP says which nodes, from 1 on, have a VPP; nil: none.
	VPP func(node int) bool
	// Without are plugins, as gre_plugin.so, that a node's VPP does not load; nil: none.
	Without func(node int) []string
	// Config is added to each agent's configuration: YAML by full key.
	Config map[string]string
}

// Lab is a running lab.
type Lab struct {
	Dir       string
	Nodes     []*Node
	Authority *Authority
	Launcher  *Launcher

	options      Options
	installation *Installation
	spaces       *linux.Namespaces
	underlay     underlay
	hosts        []*Node // the nodes and, for etcd's members, more
	undo         []func() error
}

// Start makes a lab and waits until it is ready. What it made when it fails is gone again.
func Start(ctx context.Context, o Options) (*Lab, error) {
	o.MTU = cmp.Or(o.MTU, 1500)
	l := &Lab{Dir: o.Dir, options: o, underlay: underlay{netns: o.Name + "-underlay", mtu: o.MTU}}
	err := l.start(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lab: %w", err), l.Close())
	}
	return l, nil
}

func (l *Lab) start(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return errors.New("needs root to make network namespaces")
	}
	if _, err := FindEtcd(); err != nil {
		return err
	}
	var err error
	if l.options.VPP != nil {
		if l.installation, err = FindVPP(); err != nil {
			return err
		}
	}
	if l.Authority, err = NewAuthority(); err != nil {
		return err
	}
	if err := l.makeDir(); err != nil {
		return err
	}
	l.Launcher = NewLauncher()
	l.undo = append(l.undo, func() error { l.Launcher.Close(); return nil })
	if l.spaces, err = linux.New(linux.Options{Instance: l.Dir}); err != nil {
		return err
	}
	l.undo = append(l.undo, l.spaces.Close)
	for i := range max(l.options.Nodes, members) {
		l.hosts = append(l.hosts, l.newNode(i+1))
	}
	l.Nodes = l.hosts[:l.options.Nodes]
	if err := l.makeNetwork(); err != nil {
		return err
	}
	return l.run(ctx)
}

// makeDir makes the folder, which must be the lab's own.
func (l *Lab) makeDir() (err error) {
	if l.Dir == "" {
		l.Dir, err = os.MkdirTemp("/tmp", "pbl-") // short enough for the names of sockets
	} else {
		err = os.Mkdir(l.Dir, 0o755)
	}
	if err != nil {
		return err
	}
	l.undo = append(l.undo, func() error { return os.RemoveAll(l.Dir) })
	return os.Chmod(l.Dir, 0o755) // for workloads that are not root
}

// makeNetwork makes the namespaces and what connects them. They are in the state file
// before they are in the kernel.
func (l *Lab) makeNetwork() error {
	names := []string{l.underlay.netns}
	for _, n := range l.hosts {
		names = append(names, n.Netns)
	}
	for _, name := range names {
		if _, err := os.Lstat(namedNetns + name); err == nil {
			return fmt.Errorf("network namespace %s is there already; remove the lab that it is of, or choose another name", name)
		}
	}
	state, err := newState(names)
	if err == nil {
		err = state.write(l.Dir)
	}
	if err != nil {
		return err
	}
	l.undo = append(l.undo, func() error { return deleteAll(names) })
	if err := l.underlay.make(); err != nil {
		return err
	}
	return l.each(l.hosts, (*Node).make)
}

// run starts etcd and the VPPs, then the agents.
func (l *Lab) run(ctx context.Context) error {
	l.undo = append(l.undo, func() error { return l.each(l.hosts, (*Node).stopRest) })
	l.undo = append(l.undo, func() error { return l.each(l.hosts, (*Node).stopAgent) })
	errs := make(chan error)
	go func() { errs <- l.startEtcd(ctx) }()
	err := l.each(l.Nodes, func(n *Node) error {
		if n.VPP == nil {
			return nil
		}
		return n.StartVPP(ctx)
	})
	if err := errors.Join(err, <-errs); err != nil {
		return err
	}
	return l.each(l.Nodes, func(n *Node) error { return n.StartAgent(ctx) })
}

// StartVPP starts the node's VPP, again after it was stopped, with its port attached.
func (n *Node) StartVPP(ctx context.Context) error {
	if err := os.MkdirAll(n.VPP.Dir, 0o700); err != nil {
		return err
	}
	return n.VPP.Start(ctx, n.lab.Launcher, n.LogFile("vpp"), n.uplink()...)
}

// each does something on several nodes at the same time.
func (l *Lab) each(nodes []*Node, do func(*Node) error) error {
	errs := make([]error, len(nodes))
	var all sync.WaitGroup
	for i, n := range nodes {
		all.Go(func() {
			if err := do(n); err != nil {
				errs[i] = fmt.Errorf("%s: %w", n.Name, err)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// Close removes all of it. It may be repeated.
func (l *Lab) Close() error {
	var errs []error
	for len(l.undo) > 0 {
		last := len(l.undo) - 1
		errs = append(errs, l.undo[last]())
		l.undo = l.undo[:last]
	}
	return errors.Join(errs...)
}

// Logs are what the programs of all nodes have logged, by node and program.
func (l *Lab) Logs() map[string]string {
	logs := map[string]string{}
	for _, n := range l.hosts {
		for _, program := range []string{"agent", "etcd", "vpp"} {
			if data, err := os.ReadFile(n.LogFile(program)); err == nil {
				logs[filepath.Join(n.Name, program)] = string(data)
			}
		}
	}
	return logs
}

// UnderlayNetns is the namespace of the bridge; a node's ports there are <node> and, of
// its VPP, <node>-vpp.
func (l *Lab) UnderlayNetns() string { return l.underlay.netns }
