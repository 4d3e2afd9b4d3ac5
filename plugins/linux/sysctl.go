package linux

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// ipv6Disabled tells whether a step failed because IPv6 is switched off for the
// interface, as container runtimes do in namespaces that they give no IPv6 address.
func ipv6Disabled(todo []step, errs []error) bool {
	return slices.ContainsFunc(errs, func(e error) bool { return errors.Is(e, unix.EACCES) }) &&
		slices.ContainsFunc(todo, func(s step) bool { return s.Type == unix.RTM_NEWADDR })
}

// enableIPv6 switches IPv6 on for one interface.
func (ns *Namespace) enableIPv6(index int) error {
	l, err := ns.LinkByIndex(index)
	if err != nil {
		return err
	}
	// What lies under /proc/sys/net depends on the namespace of the thread that opens it.
	return ns.n.visiting(func(enter func(fd int) error) error {
		if err := enter(ns.fd); err != nil {
			return err
		}
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+l.Name+"/disable_ipv6", []byte("0"), 0); err != nil {
			return fmt.Errorf("switch IPv6 on for %q in network namespace %q: %w", l.Name, ns.ref, err)
		}
		return nil
	})
}

// guardBridge keeps the node out of a bridge's reach: it takes no routes and addresses that a
// member advertises (RFC 4861, 6.2) and, where the kernel itself is not on the bridge,
// forwards nothing that comes in. Where a setting cannot be had, it is logged.
func (n *Namespaces) guardBridge(name string, host bool) {
	const net = "/proc/sys/net/"
	err := n.visiting(func(enter func(fd int) error) error {
		if err := enter(n.ownFd); err != nil {
			return err
		}
		errs := []error{os.WriteFile(net+"ipv6/conf/"+name+"/accept_ra", []byte("0"), 0)}
		for _, family := range []string{"ipv4", "ipv6"} {
			forwards, err := os.ReadFile(net + family + "/conf/all/forwarding")
			if !host {
				forwards = []byte("0")
			}
			errs = append(errs, err, os.WriteFile(net+family+"/conf/"+name+"/forwarding", forwards, 0))
		}
		errs = slices.DeleteFunc(errs, func(err error) bool { return errors.Is(err, os.ErrNotExist) }) // without IPv6
		return errors.Join(errs...)
	})
	if err != nil {
		n.log.Warn("the node is not kept out of reach of a bridge", "interface", name, "err", err)
	}
}
