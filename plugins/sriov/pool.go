package sriov

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Config is what is configured of SR-IOV.
type Config struct {
	Sysfs  string // where sysfs is mounted: a tree of files may stand in for hardware
	RunDir string // where it is noted how a VF was before it was given away; it must not outlive a boot
	Pools  []Pool
}

// Pool is a set of virtual functions that are alike to whoever asks for one.
type Pool struct {
	Name string // resource name, like sriov.patchbay.dev/radio; without a domain kubelet does not count it
	// The physical functions, by one or several of these; all that are given must fit.
	PF     string // interface name, like ens1f0
	PCI    string // PCI address, like 0000:3b:00.0
	Vendor string // PCI vendor id in hexadecimal, like 8086
	Device string // PCI device id of the physical function in hexadecimal, like 10c9

	VFs   string // of each of them by index, like 0-3,5; empty: all
	Count int    // virtual functions to create on each that has none; 0: those that are there

	Services   []string // network services whose workloads get a VF of it when they name no pool
	Capability string   // what it is good for, like 10G; Network Service Mesh's clients ask by <domain>/<capability>
	VLAN       int      // tag of its traffic on the wire, 1–4094; 0: none
	Rate       int      // Mbit/s that a VF may send at most; 0: no limit
	Trust      bool     // its workloads may change their MAC address and receive what is not for it
	NoSpoof    bool     // its workloads may send from other MAC addresses: bridges, routers with VRRP
}

// Forms of what a pool is given.
var (
	resourceName = regexp.MustCompile(`^([a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`)
	pciAddress   = regexp.MustCompile(`^[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]$`)
	pciID        = regexp.MustCompile(`^[0-9a-f]{4}$`)
)

// ValidPCI tells whether a text is a PCI address as sysfs writes it: 0000:3b:10.0.
func ValidPCI(s string) bool { return pciAddress.MatchString(s) }

// MaxVLAN is the highest VLAN (IEEE 802.1Q).
const MaxVLAN = 4094

// check says what is wrong with the configuration; the error names the key.
func (c Config) check() error {
	for i, p := range c.Pools {
		if err := p.check(); err != nil {
			return fmt.Errorf("sriov.pools[%d].%w", i, err)
		}
		if slices.ContainsFunc(c.Pools[:i], func(o Pool) bool { return o.Name == p.Name }) {
			return fmt.Errorf("sriov.pools[%d].name: %q is there twice; rename one", i, p.Name)
		}
	}
	if _, err := os.Stat(c.Sysfs); err != nil && len(c.Pools) > 0 {
		return fmt.Errorf("sriov.sysfs: %w; name the folder that sysfs is mounted on", err)
	}
	return nil
}

func (p Pool) check() error {
	switch {
	case !resourceName.MatchString(p.Name):
		return fmt.Errorf("name: %q is not a resource name; write domain/name, like sriov.patchbay.dev/radio, or for a pool that kubelet does not count a name alone", p.Name)
	case p.PF == "" && p.PCI == "" && p.Vendor == "" && p.Device == "":
		return errors.New("name alone would take every card; give pf, pci, vendor or device beside it")
	case p.PCI != "" && !ValidPCI(p.PCI):
		return fmt.Errorf("pci: %q is not a PCI address; write it like 0000:3b:00.0", p.PCI)
	case p.Vendor != "" && !pciID.MatchString(p.Vendor):
		return fmt.Errorf("vendor: %q is not a PCI id; write it like 8086", p.Vendor)
	case p.Device != "" && !pciID.MatchString(p.Device):
		return fmt.Errorf("device: %q is not a PCI id; write it like 10c9", p.Device)
	case p.Count < 0 || p.Count > maxVFs:
		return fmt.Errorf("count: %d is out of range; use 0 to %d", p.Count, maxVFs)
	case p.Capability != "" && !resourceName.MatchString("capability/"+p.Capability):
		return fmt.Errorf("capability: %q is not the name of a resource without its domain; write it like 10G", clip(p.Capability))
	case p.VLAN < 0 || p.VLAN > MaxVLAN:
		return fmt.Errorf("vlan: %d is out of range; use 1 to %d, or 0 for none", p.VLAN, MaxVLAN)
	case p.Rate < 0:
		return fmt.Errorf("rate: %d is negative; use Mbit/s, or 0 for no limit", p.Rate)
	}
	if _, err := ranges(p.VFs); err != nil {
		return fmt.Errorf("vfs: %w", err)
	}
	return nil
}

// maxVFs is more than any card has.
const maxVFs = 1024

// ranges reads indexes like 0-3,5; nil: all.
func ranges(s string) (func(int) bool, error) {
	if s == "" {
		return func(int) bool { return true }, nil
	}
	in, err := numbers(s, maxVFs)
	return func(i int) bool { return in[i] }, err
}

// numbers reads a list like 0-3,5 of numbers that are less than most.
func numbers(s string, most int) (map[int]bool, error) {
	in := map[int]bool{}
	for part := range strings.SplitSeq(s, ",") {
		from, to, two := strings.Cut(strings.TrimSpace(part), "-")
		if !two {
			to = from
		}
		a, err1 := strconv.Atoi(from)
		b, err2 := strconv.Atoi(to)
		if err1 != nil || err2 != nil || a < 0 || b < a || b >= most {
			return nil, fmt.Errorf("%q is no list of indexes; write it like 0-3,5", s)
		}
		for i := a; i <= b; i++ {
			in[i] = true
		}
	}
	return in, nil
}

// takes tells whether the pool's virtual functions are on this physical one.
func (p Pool) takes(pf physical) bool {
	fits := func(want, is string) bool { return want == "" || want == is }
	return fits(p.PF, pf.name) && fits(p.PCI, pf.pci) && fits(p.Vendor, pf.vendor) && fits(p.Device, pf.device)
}
