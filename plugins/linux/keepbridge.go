package linux

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// KeepBridge makes a bridge in a network namespace and has those interfaces there be its
// ports, up, whose names member accepts: those that there are, and each that comes, until ctx
// ends, when the bridge goes. It is what a workload does that is a bridge itself; a bridge of
// that name that is there already is somebody else's. made is called when it is there; again has all
// looked at once more; problem is told what could not be done with one.
func KeepBridge(ctx context.Context, ns *os.File, name string, member func(name string) bool, again <-chan struct{}, made func(), problem func(error)) error {
	return offMain(func() (err error) { // the thread stays there, and dies
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter the network namespace: %w", err)
		}
		bridge := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs()}
		bridge.Name, bridge.Flags = name, unix.IFF_UP
		if err := netlink.LinkAdd(bridge); err != nil {
			return fmt.Errorf("make the bridge %s: %w", name, err)
		}
		defer func() {
			if e := netlink.LinkDel(bridge); e != nil {
				err = errors.Join(err, fmt.Errorf("remove the bridge %s: %w", name, e))
			}
		}()
		if err := netlink.LinkSetUp(bridge); err != nil {
			return fmt.Errorf("set the bridge %s up: %w", name, err)
		}
		updates, done := make(chan netlink.LinkUpdate, 256), make(chan struct{})
		defer close(done)
		options := netlink.LinkSubscribeOptions{ListExisting: true, ErrorCallback: problem}
		if err := netlink.LinkSubscribeWithOptions(updates, done, options); err != nil {
			return fmt.Errorf("listen to the kernel: %w", err)
		}
		take := func(l netlink.Link) {
			if a := l.Attrs(); a.MasterIndex == 0 && a.Index != bridge.Index && member(a.Name) {
				if err := errors.Join(netlink.LinkSetMaster(l, bridge), netlink.LinkSetUp(l)); err != nil {
					problem(fmt.Errorf("put %s into the bridge %s: %w", a.Name, name, err))
				}
			}
		}
		made()
		for {
			select {
			case u, ok := <-updates:
				if !ok {
					return errors.New("the kernel has stopped telling of interfaces")
				}
				if u.Header.Type == unix.RTM_NEWLINK {
					take(u.Link)
				}
			case <-again:
				all, err := netlink.LinkList()
				if err != nil {
					problem(err)
				}
				for _, l := range all {
					take(l)
				}
			case <-ctx.Done():
				return nil
			}
		}
	})
}
