package sriov

// Device is a virtual function of a pool, as it was seen last.
type Device struct {
	ID      string // PCI address, like 0000:3b:10.0
	Pool    string // name of its pool
	PF      string // interface name of its physical function; empty: it has none now
	Card    string // PCI address of its physical function
	VF      int    // index on the physical function
	NUMA    int    // node; -1: not known
	Driver  string // of the kernel that has it now; empty: none
	Group   int    // IOMMU group; -1: none
	Healthy bool
	Why     string // why it is not healthy
	Owner   string // what has it, <connection>/<side> of a cross-connect; empty: it is free
}

// Want is what a workload asks for. With a token it is that device; with a pool it is the
// first that is free: beside Near or else on the NUMA node, if one is free there.
type Want struct {
	Pool  string
	Token string
	NUMA  int    // -1: any
	Near  string // PCI address of the virtual function at the other end; empty: none
}

// Tokens verifies what the device plugin handed out.
type Tokens interface {
	// Device is the device that a token stands for. The error says why it stands for none;
	// it does not repeat the token.
	Device(token string) (pool, id string, err error)
	// Counts tells whether kubelet gives a pool's devices away: without a token they are
	// nobody's.
	Counts(pool string) bool
}
