package linux

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Address tells whether an address is on an interface of the agent's own namespace, and
// that interface's MTU in bytes. One on lo may be reached over any other interface: the
// smallest MTU of those that are up and have an address of its family then counts.
func (n *Namespaces) Address(a netip.Addr) (mtu int, ok bool) {
	err := n.at(func(c *conn) error {
		addresses, err := c.addresses(0)
		if err != nil {
			return err
		}
		for _, f := range addresses {
			if f.prefix.Addr() != a {
				continue
			}
			h := nl.NewIfInfomsg(unix.AF_UNSPEC)
			h.Index = int32(f.index)
			l, err := c.link(h)
			if err != nil {
				return err
			}
			mtu, ok = l.MTU, true
			if l.Loopback {
				mtu, err = n.leastMTU(c, addresses, a.Is4(), l.MTU)
			}
			return err
		}
		return nil
	})
	if err != nil {
		n.log.Warn("cannot look at the node's addresses", "err", err)
		return 0, false
	}
	return mtu, ok
}

// Foreign gives the addresses in the agent's own namespace that are none of ours, with the
// lengths of their prefixes. A kernel before 5.18 does not tell: then all are foreign.
func (n *Namespaces) Foreign() (all []netip.Prefix, err error) {
	err = n.at(func(c *conn) error {
		addresses, err := c.addresses(0)
		for _, f := range addresses {
			if !f.ours {
				all = append(all, f.prefix)
			}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	return all, nil
}

// leastMTU is the smallest of those interfaces over which packets of a family may leave, or
// otherwise where there is none.
func (n *Namespaces) leastMTU(c *conn, addresses []foundAddress, ipv4 bool, otherwise int) (int, error) {
	links, err := n.listed(c, Own)
	if err != nil {
		return 0, err
	}
	outward := map[int]bool{}
	for _, f := range addresses {
		if a := f.prefix.Addr(); a.Is4() == ipv4 && !a.IsLinkLocalUnicast() {
			outward[f.index] = true
		}
	}
	least := 0
	for _, l := range links {
		if l.Up && !l.Loopback && outward[l.Index] && (least == 0 || l.MTU < least) {
			least = l.MTU
		}
	}
	if least == 0 {
		return otherwise, nil
	}
	return least, nil
}
