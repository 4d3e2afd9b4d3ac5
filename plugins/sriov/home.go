package sriov

import (
	"fmt"
	"strings"

	"go.patchbay.dev/plugins/linux"
)

// Home is how a virtual function was before it was given away, and so what it becomes again.
// It is noted before anything is changed, in a file that lives as long as the kernel's own memory of it:
// an agent that dies at any step finds by it what is to be put back, also when no record is left.
type Home struct {
	Tag    string   // whose it is now: the tag of the end of a cross-connect
	Name   string   // of its interface; empty: it had none
	MTU    int      // bytes, of its interface
	Up     bool     // its interface was
	Driver string   // or noDriver
	PF     linux.VF // how its physical function treated it
}

// Home is how a function was that is made ready for tag. Whoever works on it asks first: the error
// says that it is another's.
func (p *Plugin) Home(pci string, tag linux.Tag) (Home, error) {
	home, ok, err := p.homes.Get(pci)
	switch {
	case err != nil:
		return home, err
	case !ok:
		return home, fmt.Errorf("%s is not made ready yet", pci)
	case home.Tag != tag.String():
		return home, fmt.Errorf("%s %w: it was made ready for %s", pci, ErrInUse, home.Tag)
	}
	return home, nil
}

// Present tells whether a function is there at all.
func (p *Plugin) Present(pci string) bool {
	_, ok := p.sys.there(pci)
	return ok
}

// Group is the IOMMU group of a function; -1: none.
func (p *Plugin) Group(pci string) int {
	vf, ok := p.sys.virtual(pci)
	if !ok {
		return -1
	}
	return vf.group
}

// Kind is what a function is: its PCI vendor and device in hexadecimal, like 8086:154c. Virtual functions of some cards
// leave out the vendor, which is then that of the card (PCIe, SR-IOV, 3.4.1.1).
func (p *Plugin) Kind(pci string) string {
	id := func(of, file string) string { return strings.TrimPrefix(p.sys.text(of, file), "0x") }
	vendor := id(pci, "vendor")
	if vendor == "" || vendor == "ffff" {
		vendor = id(p.sys.target(pci, "physfn"), "vendor")
	}
	return vendor + ":" + id(pci, "device")
}

// Netdev is the name of a function's interface in the agent's own namespace; empty: it has none there.
func (p *Plugin) Netdev(pci string) string { return p.sys.netdev(pci) }
