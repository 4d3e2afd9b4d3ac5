package sriov

// Config is what is configured of SR-IOV.
type Config struct {
	Sysfs  string // where sysfs is mounted: a tree of files may stand in for hardware
	RunDir string // where it is noted how a VF was before it was given away; it must not outlive a boot
	Pools  []Pool
}

// Pool is a set of virtual functions that are alike to whoever asks for one.
type Pool struct {
	Name string // resource name, like sriov.patchbay.dev/radio
	// The physical functions, by one or several of these; all that are given must fit.
	PF     string // interface name, like ens1f0
	PCI    string // PCI address, like 0000:3b:00.0
	Vendor string // PCI vendor id in hexadecimal, like 8086
	Device string // PCI device id of the physical function in hexadecimal, like 10c9

	VFs   string // of each of them by index, like 0-3,5; empty: all
	Count int    // virtual functions to create on each where it has fewer; 0: those that are there

	Services   []string // network services whose workloads get a VF of it when they name no pool; empty: none
	Capability string   // what it is good for, like 10G; Network Service Mesh's clients ask by <name>/<capability>
	VLAN       int      // tag of its traffic on the wire, 1–4094; 0: none
	Rate       int      // Mbit/s that a VF may send at most; 0: no limit
	Trust      bool     // its workloads may change their MAC address and receive what is not for it
	NoSpoof    bool     // its workloads may send from other MAC addresses: bridges, routers with VRRP
}
