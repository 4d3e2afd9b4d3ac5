package kernel

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/sriov"
)

// Parameters of the mechanism.
const (
	// NetNS is the reference to the workload's network namespace, see linux.Canonical.
	NetNS = "netns"
	// Name is the interface's name there; without it one is derived from the id.
	Name = "name"
)

// ignored are parameters that Network Service Mesh defines for KERNEL
// (github.com/networkservicemesh/api, mechanisms/kernel and mechanisms/common). Its
// clients send them unasked; none changes what is made here. So do they with PortKind,
// which they were told.
var ignored = []string{
	"inodeURL", "netnsInode", "supportsVlan", "vlan", "routeLocalNet", "IPTables4NatTemplate",
	"MTU", "src_ip", "dst_ip", PortKind,
}

// ofVF are the parameters of a workload that has a virtual function, see plugins/sriov.
var ofVF = []string{sriov.ParamPCI, sriov.ParamToken, sriov.ParamPool}

// params are the parameters, parsed.
type params struct {
	netns string // canonical
	name  string // empty: derived
}

// Validate checks the parameters of an attachment. An error is a *models.FieldError
// whose field is the parameter's name.
func (m *Mechanism) Validate(parameters map[string]string) error {
	_, err := parse(parameters)
	if err == nil && sriov.Asks(parameters) {
		if m.vfs == nil {
			return field(sriov.ParamPool, "cannot be had: this node has no pools of virtual functions; configure sriov.pools")
		}
		err = m.vfs.Validate(parameters)
	}
	return err
}

func parse(parameters map[string]string) (p params, err error) {
	for _, key := range slices.Sorted(maps.Keys(parameters)) {
		if key != NetNS && key != Name && !slices.Contains(ignored, key) && !slices.Contains(ofVF, key) {
			return p, field(key, "is not a parameter of %s; it has %s and %s", Type, NetNS, Name)
		}
	}
	ref := parameters[NetNS]
	if ref == "" {
		return p, field(NetNS, "is missing; name the workload's network namespace, for instance /run/netns/blue")
	}
	if p.netns, err = linux.Canonical(ref); err != nil {
		return p, field(NetNS, "%v", err)
	}
	p.name = parameters[Name]
	if p.name == "" {
		return p, nil
	}
	return p, validateName(p.name)
}

// validateName checks what the kernel checks (dev_valid_name, net/core/dev.c), and that
// the name is not one that means something else to it: % begins a pattern.
func validateName(name string) error {
	strange := func(c byte) bool { return c <= ' ' || c == 0x7f || c == 0xa0 } // as isspace of the kernel
	switch {
	case len(name) > linux.MaxName:
		return field(Name, "%q has %d bytes; at most %d", name, len(name), linux.MaxName)
	case strings.ContainsAny(name, "/:%") || slices.ContainsFunc([]byte(name), strange):
		return field(Name, "%q holds a character that no interface's name can; use letters, digits, - _ and .", name)
	case slices.Contains([]string{".", "..", "lo", "all", "default"}, name):
		return field(Name, "%q is reserved; choose another", name)
	}
	return nil
}

func field(name, format string, args ...any) error {
	return &models.FieldError{Field: name, Reason: fmt.Sprintf(format, args...)}
}

// derivedName is the name of an interface that was not given one.
func derivedName(tag linux.Tag) string {
	sum := sha256.Sum256([]byte(tag.String()))
	return "nsm-" + hex.EncodeToString(sum[:5])
}
