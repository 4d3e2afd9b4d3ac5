package models

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// FieldError says which field of a message is wrong and what would be right.
type FieldError struct {
	Field  string // as in the JSON: client.addresses[0]
	Reason string // what is wrong and what to write instead
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Reason }

func bad(field, format string, args ...any) error {
	return &FieldError{Field: field, Reason: fmt.Sprintf(format, args...)}
}

// OneLine is a reason on one line, as it stands in tables, of errors that are joined.
func OneLine(reason string) string { return strings.ReplaceAll(reason, "\n", "; ") }

// OfKey gives what has no name, or id, the last part of the key that it lies under. One that is
// another is a *FieldError of that field.
func OfKey(field string, name *string, key string) error {
	if *name == "" {
		*name = key
	}
	if *name != key {
		return bad(field, "%q differs from the key's %q; make them equal", *name, key)
	}
	return nil
}

var name = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,62}$`)

// ValidName reports whether s can be the name or id of a record: 1–63 of
// a-z 0-9 - . that starts with a letter or digit.
func ValidName(s string) bool { return name.MatchString(s) }

// maxNSMName is how long the names of services and endpoints may be.
const maxNSMName = 253

// Limits of what a record may hold, against records that would stall a node.
const (
	MaxListLength = 1024  // addresses, routes, neighbours, policies of one end
	MinMTU        = 68    // RFC 791
	MinMTU6       = 1280  // RFC 8200
	MaxMTU        = 65535 // the length field of an IPv4 packet
)

// ValidateCrossConnect checks what can be known without looking at the node: the form of
// every field and that the fields do not contradict each other. Mechanism parameters are
// checked by the mechanism. All errors found are joined, each a *FieldError.
func ValidateCrossConnect(x *CrossConnect) error {
	var errs []error
	if !ValidName(x.GetId()) {
		errs = append(errs, bad("id", "%q must be 1–63 of a-z 0-9 - . and start with a letter or digit", x.GetId()))
	}
	if n := len(x.GetNetworkService()); n > maxNSMName {
		errs = append(errs, bad("networkService", "has %d bytes; at most %d", n, maxNSMName))
	}
	if p := x.GetPayload(); p != "" && p != Ethernet && p != IP {
		errs = append(errs, bad("payload", "%q is not known; use ETHERNET or IP", p))
	}
	errs = append(errs, validatePath(x.GetPath()), validateMTU(x))
	errs = append(errs, validateAttachment("client", x.GetClient())...)
	errs = append(errs, validateAttachment("endpoint", x.GetEndpoint())...)
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return errors.Join(validateEnds(x)...)
}

// NoRoom is in the reason of a FAILED status when the dataplane has no room for more.
const NoRoom = "VPP has no room"

// Paths between two ends on one node.
const (
	DirectPath    = "direct"    // nothing in between: one veth pair, one shared memory socket
	ForwarderPath = "forwarder" // through the forwarder, which sees and counts
)

func validatePath(path string) error {
	switch path {
	case "", DirectPath, ForwarderPath:
		return nil
	}
	return bad("path", "%q is not known; use direct or forwarder, or leave it empty", path)
}

func validateMTU(x *CrossConnect) error {
	mtu := x.GetMtu()
	if mtu == 0 {
		return nil
	}
	if mtu < MinMTU || mtu > MaxMTU {
		return bad("mtu", "%d is out of range; use %d–%d bytes, or 0 for the default", mtu, MinMTU, MaxMTU)
	}
	all := slices.Concat(x.GetClient().GetAddresses(), x.GetEndpoint().GetAddresses())
	if mtu < MinMTU6 && slices.ContainsFunc(all, func(a string) bool { return strings.Contains(a, ":") }) {
		return bad("mtu", "%d is too small for the IPv6 addresses; use at least %d", mtu, MinMTU6)
	}
	return nil
}

func validateAttachment(at string, a *Attachment) []error {
	if a.GetMechanism().GetType() == "" {
		return []error{bad(at+".mechanism.type", "is missing; name the mechanism, for instance KERNEL")}
	}
	var errs []error
	for _, l := range []struct {
		name string
		n    int
	}{{"addresses", len(a.Addresses)}, {"routes", len(a.Routes)}, {"neighbors", len(a.Neighbors)}, {"policies", len(a.Policies)}} {
		if l.n > MaxListLength {
			return []error{bad(at+"."+l.name, "has %d entries; at most %d", l.n, MaxListLength)}
		}
	}
	if a.Mac != "" {
		errs = append(errs, validateMAC(at+".mac", a.Mac))
	}
	seen := map[netip.Addr]int{}
	for i, s := range a.Addresses {
		field := fmt.Sprintf("%s.addresses[%d]", at, i)
		if err := validateAddress(field, s); err != nil {
			errs = append(errs, err)
			continue
		}
		ip := netip.MustParsePrefix(s).Addr()
		if j, dup := seen[ip]; dup {
			errs = append(errs, bad(field, "%s is in addresses[%d] already; remove one", ip, j))
		}
		seen[ip] = i
	}
	errs = append(errs, validateRoutes(at+".routes", a.Routes)...)
	for i, n := range a.Neighbors {
		field := fmt.Sprintf("%s.neighbors[%d]", at, i)
		if _, err := netip.ParseAddr(n.GetAddress()); err != nil {
			errs = append(errs, bad(field+".address", "%q is not an IP address", n.GetAddress()))
		}
		errs = append(errs, validateMAC(field+".mac", n.GetMac()))
	}
	for i, p := range a.Policies {
		errs = append(errs, validatePolicy(fmt.Sprintf("%s.policies[%d]", at, i), p)...)
	}
	return errs
}

func validateAddress(field, s string) error {
	p, err := netip.ParsePrefix(s)
	switch ip := p.Addr(); {
	case err != nil:
		return bad(field, "%q is not an address with a prefix length, like 10.60.0.1/24 or fd00::1/64", s)
	case ip.IsUnspecified() || ip.IsMulticast() || ip.IsLoopback():
		return bad(field, "%s cannot be an interface's address; use a unicast address", s)
	}
	return nil
}

func validateMAC(field, s string) error {
	mac, err := net.ParseMAC(s)
	if err != nil || len(mac) != 6 {
		return bad(field, "%q is not an Ethernet address, like 02:00:00:00:00:01", s)
	}
	if mac[0]&1 == 1 || mac.String() == "00:00:00:00:00:00" {
		return bad(field, "%s cannot be an interface's address; use a unicast address", s)
	}
	return nil
}

func validateRoutes(at string, routes []*Route) []error {
	var errs []error
	seen := map[netip.Prefix]int{}
	for i, r := range routes {
		field := fmt.Sprintf("%s[%d]", at, i)
		p, err := netip.ParsePrefix(r.GetPrefix())
		if err != nil {
			errs = append(errs, bad(field+".prefix", "%q is not a prefix, like 10.61.0.0/16", r.GetPrefix()))
			continue
		}
		if j, dup := seen[p.Masked()]; dup {
			errs = append(errs, bad(field+".prefix", "%s is in [%d] already; one destination has one next hop", r.Prefix, j))
		}
		seen[p.Masked()] = i
		if r.NextHop == "" {
			continue
		}
		hop, err := netip.ParseAddr(r.NextHop)
		switch {
		case err != nil:
			errs = append(errs, bad(field+".nextHop", "%q is not an IP address", r.NextHop))
		case hop.Is4() != p.Addr().Is4():
			errs = append(errs, bad(field+".nextHop", "%s and prefix %s are of different families", r.NextHop, r.Prefix))
		}
	}
	return errs
}

var protocols = []string{"tcp", "udp", "sctp", "icmp", "icmpv6"}

func validatePolicy(at string, p *Policy) []error {
	var errs []error
	if f := p.GetFrom(); f != "" {
		if _, err := ParsePrefix(f); err != nil {
			errs = append(errs, bad(at+".from", "%q is not an address or prefix", f))
		}
	}
	if s := p.GetProtocol(); s != "" && !slices.Contains(protocols, strings.ToLower(s)) {
		if n, err := strconv.ParseUint(s, 10, 8); err != nil || n == 0 {
			errs = append(errs, bad(at+".protocol", "%q is not known; use 1–255 or one of %s", s, strings.Join(protocols, ", ")))
		}
	}
	for _, port := range []struct{ field, s string }{{"sourcePort", p.GetSourcePort()}, {"destinationPort", p.GetDestinationPort()}} {
		if port.s == "" {
			continue
		}
		if _, _, err := ParsePorts(port.s); err != nil {
			errs = append(errs, bad(at+"."+port.field, "%v", err))
		} else if p.GetProtocol() == "" {
			errs = append(errs, bad(at+"."+port.field, "needs a protocol; set protocol to tcp, udp or sctp"))
		}
	}
	return append(errs, validateRoutes(at+".routes", p.GetRoutes())...)
}

// ParsePrefix reads an address or a prefix; an address is its own whole prefix.
func ParsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	return netip.ParsePrefix(s)
}

// ParsePorts reads "80" or "8000-8999".
func ParsePorts(s string) (from, to uint16, err error) {
	a, b, ranged := strings.Cut(s, "-")
	if !ranged {
		b = a
	}
	lo, err1 := strconv.ParseUint(a, 10, 16)
	hi, err2 := strconv.ParseUint(b, 10, 16)
	if err1 != nil || err2 != nil || lo == 0 || hi < lo {
		return 0, 0, fmt.Errorf("%q is not a port or a range of ports, like 80 or 8000-8999", s)
	}
	return uint16(lo), uint16(hi), nil
}

// validateEnds checks the two ends against each other; both are well formed.
func validateEnds(x *CrossConnect) []error {
	var errs []error
	c, e := x.GetClient(), x.GetEndpoint()
	if c.Mac != "" && strings.EqualFold(c.Mac, e.Mac) {
		errs = append(errs, bad("endpoint.mac", "%s is the client's too; the ends need different ones", e.Mac))
	}
	for i, s := range e.Addresses {
		ip := netip.MustParsePrefix(s).Addr()
		if slices.ContainsFunc(c.Addresses, func(o string) bool { return netip.MustParsePrefix(o).Addr() == ip }) {
			errs = append(errs, bad(fmt.Sprintf("endpoint.addresses[%d]", i), "%s is the client's too; the ends need different ones", ip))
		}
	}
	errs = append(errs, validateNextHops("client", c, e)...)
	return append(errs, validateNextHops("endpoint", e, c)...)
}

// validateNextHops checks that a next hop is on the link: in a prefix of this end or an
// address of the other, and never this end itself.
func validateNextHops(at string, own, other *Attachment) []error {
	var errs []error
	check := func(field string, routes []*Route) {
		for i, r := range routes {
			hop, err := netip.ParseAddr(r.NextHop)
			if err != nil {
				continue // empty
			}
			onLink := slices.ContainsFunc(own.Addresses, func(s string) bool { return netip.MustParsePrefix(s).Contains(hop) }) ||
				slices.ContainsFunc(other.Addresses, func(s string) bool { return netip.MustParsePrefix(s).Addr() == hop })
			self := slices.ContainsFunc(own.Addresses, func(s string) bool { return netip.MustParsePrefix(s).Addr() == hop })
			f := fmt.Sprintf("%s[%d].nextHop", field, i)
			switch {
			case self:
				errs = append(errs, bad(f, "%s is this end's own address; name the other end or leave it empty", hop))
			case !onLink && !hop.IsLinkLocalUnicast():
				errs = append(errs, bad(f, "%s is on no prefix of this end and is not the other end's address", hop))
			}
		}
	}
	check(at+".routes", own.Routes)
	for i, p := range own.Policies {
		check(fmt.Sprintf("%s.policies[%d].routes", at, i), p.Routes)
	}
	return errs
}

// ValidateService checks a network service.
func ValidateService(s *Service) error {
	if s.GetName() == "" || len(s.Name) > maxNSMName {
		return bad("name", "%q must be 1–%d characters", s.GetName(), maxNSMName)
	}
	if p := s.Payload; p != "" && p != Ethernet && p != IP {
		return bad("payload", "%q is not known; use ETHERNET or IP", p)
	}
	return validatePath(s.Path)
}

// ValidateEndpoint checks an endpoint that registers.
func ValidateEndpoint(e *Endpoint) error {
	switch {
	case e.GetName() == "" || len(e.Name) > maxNSMName:
		return bad("name", "%q must be 1–%d characters", e.GetName(), maxNSMName)
	case len(e.Services) == 0:
		return bad("services", "is empty; name at least one network service")
	case e.Url == "":
		return bad("url", "is empty; say where the endpoint answers, for instance unix:///run/fw.sock")
	}
	for i, s := range e.Services {
		if s == "" || len(s) > maxNSMName {
			return bad(fmt.Sprintf("services[%d]", i), "%q must be 1–%d characters", s, maxNSMName)
		}
	}
	return nil
}
