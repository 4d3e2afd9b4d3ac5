package linux

import "net/netip"

// Address tells whether an address is on an interface of the agent's own namespace, and
// that interface's MTU in bytes. One on lo may be reached over any other interface: the
// smallest MTU of those that are up and have an address of its family then counts.
func (n *Namespaces) Address(a netip.Addr) (mtu int, ok bool) {
	var addresses []foundAddress
	links := map[int]Link{}
	err := n.at(func(c *conn) (err error) {
		if addresses, err = c.addresses(0); err != nil {
			return err
		}
		all, err := n.listed(c, Own)
		for _, l := range all {
			links[l.Index] = l
		}
		return err
	})
	if err != nil {
		n.log.Warn("cannot look at the node's addresses", "error", err)
		return 0, false
	}
	least := 0
	for _, f := range addresses {
		l := links[f.index]
		switch {
		case f.prefix.Addr() == a && !l.Loopback:
			return l.MTU, true
		case f.prefix.Addr() == a:
			mtu, ok = l.MTU, true
		case l.Up && !l.Loopback && f.prefix.Addr().Is4() == a.Is4() && !f.prefix.Addr().IsLinkLocalUnicast() && (least == 0 || l.MTU < least):
			least = l.MTU
		}
	}
	if ok && least > 0 {
		mtu = least
	}
	return mtu, ok
}
