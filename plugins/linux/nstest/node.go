package nstest

import (
	"fmt"
	"os"
	"testing"
)

// NeedDevices skips a test of devices that this kernel cannot make, if something is missing.
// Where they must be there, as in the machine of make test-vm, PATCHBAY_TEST_DEVICES makes
// that a failure.
func NeedDevices(t testing.TB, kind, missing string) {
	t.Helper()
	if missing == "" {
		return
	}
	if os.Getenv("PATCHBAY_TEST_DEVICES") != "" {
		t.Fatalf("this node %s", missing)
	}
	t.Skipf("needs devices of kind %s: this kernel %s; make test-vm has it", kind, missing)
}

// Underlay is what two nodes, namespaces each, reach each other over.
type Underlay struct {
	Nodes     [2]string
	Addresses [2]string // of this family
}

// NewUnderlay makes two nodes with a wire of 1,500 bytes between them.
func NewUnderlay(t testing.TB, ipv6 bool) Underlay {
	t.Helper()
	u := Underlay{Nodes: [2]string{New(t), New(t)}}
	Run(t, u.Nodes[0], "ip", "link", "add", "u0", "type", "veth", "peer", "name", "u0", "netns", u.Nodes[1])
	for i, node := range u.Nodes {
		v4, v6 := fmt.Sprintf("192.0.2.%d", i+1), fmt.Sprintf("2001:db8::%d", i+1)
		Run(t, node, "ip", "address", "add", v4+"/24", "dev", "u0")
		Run(t, node, "ip", "address", "add", v6+"/64", "dev", "u0", "nodad")
		Run(t, node, "ip", "link", "set", "u0", "up")
		u.Addresses[i] = v4
		if ipv6 {
			u.Addresses[i] = v6
		}
	}
	return u
}
