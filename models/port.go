package models

import "net/netip"

// Port is where an attachment ends in a node's forwarder.
type Port struct {
	Key string // of the engine's value that makes it: what joins it depends on that
	Tag string // of the forwarder's interface, see [Tag]
	// Needs is the key of another value without which nothing may be joined to the port; empty: none.
	Needs string
	// Ethernet: it carries frames; else IP packets to and from the one host behind it.
	Ethernet bool
	// MAC is that of the host behind an Ethernet port, Addresses are the next hops to it, the
	// host's for instance: what is needed to send it IP packets. A port that is not Ethernet
	// has Addresses only where the forwarder wants to be told a next hop all the same.
	MAC       [6]byte
	Addresses []netip.Addr
}
