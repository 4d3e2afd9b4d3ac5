package models

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"
)

// ErrFull means that a bridge takes no more: no more members, or a subnet has no more addresses.
var ErrFull = errors.New("is full")

// BridgeMechanism is the type of a mechanism whose end of a cross-connect is a bridge.
const BridgeMechanism = "BRIDGE"

// ParamBridge is its one parameter: the bridge's name.
const ParamBridge = "bridge"

// Interconnects of a bridge.
const (
	MeshInterconnect     = "mesh"     // a full mesh of tunnels between the nodes that have members
	ExternalInterconnect = "external" // something that the agents know nothing of
)

// VNIs of bridges; those below are of the tunnels of single connections, so that neither
// meets the other. A VNI has 24 bits (RFC 7348, section 5).
const (
	MinBridgeVNI = 1 << 23
	MaxBridgeVNI = 1<<24 - 1
)

// Ages of learned MACs. VPP keeps minutes in 8 bits (l2.api, bridge_domain_set_mac_age).
const (
	DefaultMACAge = 300 * time.Second // IEEE 802.1D-2004, table 7-5
	MaxMACAge     = 255 * time.Minute
)

// Limits of a bridge's lists.
const (
	maxSubnets    = 16
	maxStaticMACs = 1024
)

// Learns reports whether learning is on.
func (b *Bridge) Learns() bool { return b.GetLearning() || b != nil && b.Learning == nil }

// Floods reports whether flooding is on.
func (b *Bridge) Floods() bool { return b.GetFlooding() || b != nil && b.Flooding == nil }

// FloodsUnknown reports whether flooding of unknown unicast is on.
func (b *Bridge) FloodsUnknown() bool {
	return b.GetUnknownUnicast() || b != nil && b.UnknownUnicast == nil
}

// Spans reports whether tunnels connect the nodes that have members.
func (b *Bridge) Spans() bool { return b.GetInterconnect() != ExternalInterconnect }

// Age is how long a learned MAC is kept that is not seen.
func (b *Bridge) Age() time.Duration {
	return cmp.Or(time.Duration(b.GetMacAge())*time.Second, DefaultMACAge)
}

// BridgeOf is the bridge that a cross-connect leads to, empty if it leads to none.
func BridgeOf(x *CrossConnect) string {
	if m := x.GetEndpoint().GetMechanism(); m.GetType() == BridgeMechanism {
		return m.GetParameters()[ParamBridge]
	}
	return ""
}

// ValidateBridge checks a bridge as far as that is possible without looking at others and
// at the node. All errors found are joined, each a *FieldError.
func ValidateBridge(b *Bridge) error {
	var errs []error
	if !ValidName(b.GetName()) {
		errs = append(errs, bad("name", "%q must be 1–63 of a-z 0-9 - . and start with a letter or digit", b.GetName()))
	}
	if len(b.GetService()) > maxNSMName {
		errs = append(errs, bad("service", "must be at most %d characters", maxNSMName))
	}
	subnets, more := validateSubnets(b.GetSubnets())
	errs = append(errs, more...)
	errs = append(errs, validateGateways(b.GetGateways(), subnets)...)
	errs = append(errs, validateStaticMACs(b.GetStaticMacs())...)
	if age := b.GetMacAge(); age%60 != 0 || time.Duration(age)*time.Second > MaxMACAge {
		errs = append(errs, bad("macAge", "%d is not possible; use whole minutes in seconds, 60–%d, or 0 for %d", age, int(MaxMACAge.Seconds()), int(DefaultMACAge.Seconds())))
	}
	errs = append(errs, validateMTU(&CrossConnect{Mtu: b.GetMtu(), Client: &Attachment{Addresses: b.GetSubnets()}}))
	if v := b.GetVni(); v != 0 && (v < MinBridgeVNI || v > MaxBridgeVNI) {
		errs = append(errs, bad("vni", "%d is out of range: those below %d are of the tunnels of single connections; use %d–%d, or 0 to have one allocated", v, MinBridgeVNI, MinBridgeVNI, MaxBridgeVNI))
	}
	return errors.Join(append(errs, validateInterconnect(b)...)...)
}

func validateInterconnect(b *Bridge) []error {
	switch {
	case b.GetInterconnect() == ExternalInterconnect && b.GetVni() != 0:
		return []error{bad("vni", "is of a mesh, and interconnect is external; leave it out")}
	case b.GetInterconnect() == ExternalInterconnect:
		if b.GetUplink() != "" && !ValidName(b.Uplink) {
			return []error{bad("uplink", "%q is no id of a cross-connect: 1–63 of a-z 0-9 - .", b.Uplink)}
		}
	case b.GetInterconnect() != "" && b.Interconnect != MeshInterconnect:
		return []error{bad("interconnect", "%q is not known; use mesh or external", b.Interconnect)}
	case b.GetUplink() != "":
		return []error{bad("uplink", "leads out of a bridge whose interconnect is external; set that, or leave uplink out")}
	}
	return nil
}

// validateSubnets gives those that are valid.
func validateSubnets(list []string) (subnets []netip.Prefix, errs []error) {
	if len(list) > maxSubnets {
		return nil, []error{bad("subnets", "has %d entries; at most %d", len(list), maxSubnets)}
	}
	for i, s := range list {
		field := fmt.Sprintf("subnets[%d]", i)
		p, err := netip.ParsePrefix(s)
		switch ip := p.Addr(); {
		case err != nil:
			errs = append(errs, bad(field, "%q is not a prefix, like 10.60.0.0/24 or fd60::/64", s))
			continue
		case p != p.Masked():
			errs = append(errs, bad(field, "%s has bits behind its length; use %s", s, p.Masked()))
			continue
		case ip.IsMulticast() || ip.IsLoopback() || ip.IsLinkLocalUnicast() || p.Bits() == 0:
			errs = append(errs, bad(field, "%s has no addresses for interfaces; use a unicast prefix", s))
			continue
		}
		if j := slices.IndexFunc(subnets, p.Overlaps); j >= 0 {
			errs = append(errs, bad(field, "%s overlaps %s; remove one", p, subnets[j]))
		}
		subnets = append(subnets, p)
	}
	return subnets, errs
}

func validateGateways(list []string, subnets []netip.Prefix) (errs []error) {
	if len(list) > maxSubnets {
		return []error{bad("gateways", "has %d entries; at most %d", len(list), maxSubnets)}
	}
	seen := map[netip.Addr]bool{}
	for i, s := range list {
		field := fmt.Sprintf("gateways[%d]", i)
		if err := validateAddress(field, s); err != nil {
			errs = append(errs, err)
			continue
		}
		ip := netip.MustParsePrefix(s).Addr()
		if seen[ip] {
			errs = append(errs, bad(field, "%s is there twice; remove one", ip))
		}
		seen[ip] = true
		if len(subnets) > 0 && !slices.ContainsFunc(subnets, func(p netip.Prefix) bool { return p.Contains(ip) }) {
			errs = append(errs, bad(field, "%s is in none of the subnets; members could not reach it", ip))
		}
	}
	return errs
}

func validateStaticMACs(list []*StaticMAC) (errs []error) {
	if len(list) > maxStaticMACs {
		return []error{bad("staticMacs", "has %d entries; at most %d", len(list), maxStaticMACs)}
	}
	seen := map[string]int{}
	for i, s := range list {
		field := fmt.Sprintf("staticMacs[%d]", i)
		if err := validateMAC(field+".mac", s.GetMac()); err != nil {
			errs = append(errs, err)
			continue
		}
		if !ValidName(s.GetConnection()) {
			errs = append(errs, bad(field+".connection", "%q is no id of a cross-connect; name the member that has the MAC", s.GetConnection()))
		}
		mac, _ := net.ParseMAC(s.GetMac())
		if j, dup := seen[mac.String()]; dup {
			errs = append(errs, bad(field+".mac", "%s is in staticMacs[%d] already; a MAC is at one member", mac, j))
		}
		seen[mac.String()] = i
	}
	return errs
}
