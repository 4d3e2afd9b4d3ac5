package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"go.patchbay.dev/models"
	"go.patchbay.dev/plugins/linux"
	"go.patchbay.dev/plugins/reconcile"
)

// DefaultMTU in bytes, of connections that ask for none.
const DefaultMTU = 1500

// Pair renders a cross-connect of two KERNEL ends on this node: one veth pair, and what
// is set on each end. The record is valid by itself; an error is a *models.FieldError,
// its field as in the record.
func (m *Mechanism) Pair(x *models.CrossConnect) ([]reconcile.Value, error) {
	veth, err := renderVeth(x)
	if err != nil {
		return nil, err
	}
	values := []reconcile.Value{{Key: vethKey(x.GetId()), Spec: veth}}
	at := [2]*models.Attachment{x.GetClient(), x.GetEndpoint()}
	var addresses [2][]netip.Prefix
	for i, side := range linux.Sides {
		if addresses[i], err = prefixes(at[i].GetAddresses()); err != nil {
			return nil, under(string(side), err)
		}
	}
	for i, side := range linux.Sides {
		e := ends{own: addresses[i]}
		for _, p := range addresses[1-i] {
			e.other = append(e.other, p.Addr())
		}
		config, err := e.config(at[i])
		if err != nil {
			return nil, under(string(side), err)
		}
		spec := IPConfig{NetNS: veth.Ends[i].NetNS, Name: veth.Ends[i].Name, Maker: vethKey(x.GetId()), Config: config}
		values = append(values, reconcile.Value{Key: ipKey(linux.Tag{ID: x.GetId(), Side: side}), Spec: spec})
	}
	return values, nil
}

// under puts the path of a part of the record before the field that an error names.
func under(at string, err error) error {
	var f *models.FieldError
	if errors.As(err, &f) {
		if !strings.HasPrefix(f.Field, "[") {
			at += "."
		}
		return &models.FieldError{Field: at + f.Field, Reason: f.Reason}
	}
	return fmt.Errorf("%s: %w", at, err)
}

func renderVeth(x *models.CrossConnect) (Veth, error) {
	v := Veth{MTU: mtuOf(x)}
	at := [2]*models.Attachment{x.GetClient(), x.GetEndpoint()}
	for i, side := range linux.Sides {
		end, err := renderEnd(linux.Tag{ID: x.GetId(), Side: side}, at[i])
		if err != nil {
			return v, under(string(side), err)
		}
		v.Ends[i] = end
	}
	a, b := v.Ends[0], v.Ends[1]
	if a.NetNS == b.NetNS && a.Name == b.Name {
		return v, field("endpoint.mechanism.parameters.name", "%q is the client's too, in the same network namespace; the ends need different names", b.Name)
	}
	if a.MAC == b.MAC {
		return v, field("endpoint.mac", "%s is the client's too; the ends need different ones", b.MAC)
	}
	return v, nil
}

func renderEnd(tag linux.Tag, a *models.Attachment) (End, error) {
	p, err := parse(a.GetMechanism().GetParameters())
	if err != nil {
		return End{}, under("mechanism.parameters", err)
	}
	e := End{NetNS: p.netns, Name: p.name, MAC: tag.MAC()}
	if e.Name == "" {
		e.Name = derivedName(tag)
	}
	if a.GetMac() != "" {
		if e.MAC, err = linux.ParseMAC(a.GetMac()); err != nil {
			return e, field("mac", "%v", err)
		}
	}
	return e, nil
}

// ends are the addresses of an end and of the other, parsed.
type ends struct {
	own   []netip.Prefix
	other []netip.Addr
}

// config renders what is to be set on the end that has these addresses.
func (e ends) config(own *models.Attachment) (c linux.Config, err error) {
	c.Addresses = e.own
	if c.Routes, err = e.routes(own.GetRoutes()); err != nil {
		return c, under("routes", err)
	}
	c.Routes = append(c.Routes, e.hostRoutes(c.Routes)...)
	for i, n := range own.GetNeighbors() {
		ip, err1 := netip.ParseAddr(n.GetAddress())
		mac, err2 := linux.ParseMAC(n.GetMac())
		if err := errors.Join(err1, err2); err != nil {
			return c, field(fmt.Sprintf("neighbors[%d]", i), "%v", err)
		}
		c.Neighbors = append(c.Neighbors, linux.Neighbor{Address: ip, MAC: mac})
	}
	for i, p := range own.GetPolicies() {
		if err := e.policy(&c, i+1, p); err != nil {
			return c, under(fmt.Sprintf("policies[%d]", i), err)
		}
	}
	return c, nil
}

func prefixes(list []string) (all []netip.Prefix, err error) {
	for i, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, field(fmt.Sprintf("addresses[%d]", i), "%v", err)
		}
		all = append(all, p)
	}
	return all, nil
}

// routes renders the routes of the main table. One to a subnet of this end with no next
// hop says what the address says already.
func (e ends) routes(list []*models.Route) (all []linux.Route, err error) {
	for i, r := range list {
		route, err := e.route(0, r)
		if err != nil {
			return nil, under(fmt.Sprintf("[%d]", i), err)
		}
		own := func(p netip.Prefix) bool { return p.Masked() == route.Prefix }
		if r.GetNextHop() == "" && slices.ContainsFunc(e.own, own) {
			continue
		}
		all = append(all, route)
	}
	return all, nil
}

// route renders a route into the table of a policy, or into the main one (0).
func (e ends) route(policy int, r *models.Route) (route linux.Route, err error) {
	p, err := netip.ParsePrefix(r.GetPrefix())
	if err != nil {
		return route, field("prefix", "%v", err)
	}
	route = linux.Route{Policy: policy, Prefix: p.Masked()}
	if r.GetNextHop() == "" {
		route.NextHop = e.first(p.Addr().Is4())
	} else if route.NextHop, err = netip.ParseAddr(r.GetNextHop()); err != nil {
		return route, field("nextHop", "%v", err)
	}
	if p.IsSingleIP() && p.Addr() == route.NextHop { // the next hop itself is on the link
		route.NextHop = netip.Addr{}
	}
	route.OnLink = route.NextHop.IsValid() && !e.covers(route.NextHop)
	return route, nil
}

// first is the other end's first address of a family; not valid if it has none.
func (e ends) first(ipv4 bool) netip.Addr {
	for _, a := range e.other {
		if a.Is4() == ipv4 {
			return a
		}
	}
	return netip.Addr{}
}

// covers tells whether an address is in a subnet of this end.
func (e ends) covers(a netip.Addr) bool {
	return slices.ContainsFunc(e.own, func(p netip.Prefix) bool { return p.Contains(a) })
}

// hostRoutes lead to the addresses of the other end that are in no subnet of this one,
// as with addresses that are handed out one by one; where this end has an address of
// the family, and the record says nothing about them.
func (e ends) hostRoutes(given []linux.Route) (all []linux.Route) {
	for _, a := range e.other {
		host := linux.Route{Prefix: netip.PrefixFrom(a, a.BitLen())}
		said := slices.ContainsFunc(given, func(r linux.Route) bool { return r.Prefix == host.Prefix })
		family := slices.ContainsFunc(e.own, func(p netip.Prefix) bool { return p.Addr().Is4() == a.Is4() })
		if family && !said && !e.covers(a) {
			all = append(all, host)
		}
	}
	return all
}

// policy renders the number-th policy: a rule for each address family that it concerns,
// and the routes of its table.
func (e ends) policy(c *linux.Config, number int, p *models.Policy) error {
	rule, err := renderRule(number, p)
	if err != nil {
		return err
	}
	rules := len(c.Rules)
	for _, ipv4 := range []bool{true, false} {
		routes, err := e.tableOf(rule, p.GetRoutes(), ipv4)
		if err != nil {
			return err
		}
		if len(routes) == 0 || (rule.From.IsValid() && rule.From.Addr().Is4() != ipv4) || otherFamily(rule.Protocol, ipv4) {
			continue
		}
		r := rule
		r.IPv6 = !ipv4
		if r.From.Bits() == 0 { // from everywhere, which the kernel does not keep
			r.From = netip.Prefix{}
		}
		c.Rules = append(c.Rules, r)
		c.Routes = append(c.Routes, routes...)
	}
	if len(c.Rules) == rules {
		return field("routes", "are of no address family that from and protocol allow; give a route of that family")
	}
	return nil
}

// otherFamily tells whether a protocol belongs to one family only, and not to this.
func otherFamily(protocol uint8, ipv4 bool) bool {
	return (protocol == protocols["icmp"] && !ipv4) || (protocol == protocols["icmpv6"] && ipv4)
}

// tableOf renders a policy's routes of a family; with none given, a default route to the
// other end where anything else speaks of the family.
func (e ends) tableOf(rule linux.Rule, list []*models.Route, ipv4 bool) (all []linux.Route, err error) {
	if len(list) == 0 && e.speaks(rule, ipv4) {
		everything := "::/0"
		if ipv4 {
			everything = "0.0.0.0/0"
		}
		list = []*models.Route{{Prefix: everything}}
	}
	for i, r := range list {
		route, err := e.route(rule.Policy, r)
		if err != nil {
			return nil, under(fmt.Sprintf("routes[%d]", i), err)
		}
		if route.Prefix.Addr().Is4() == ipv4 {
			all = append(all, route)
		}
	}
	return all, nil
}

func (e ends) speaks(rule linux.Rule, ipv4 bool) bool {
	own := slices.ContainsFunc(e.own, func(p netip.Prefix) bool { return p.Addr().Is4() == ipv4 })
	return own || e.first(ipv4).IsValid() || (rule.From.IsValid() && rule.From.Addr().Is4() == ipv4)
}

// protocols by name (IANA protocol numbers).
var protocols = map[string]uint8{"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58, "sctp": 132}

func renderRule(number int, p *models.Policy) (r linux.Rule, err error) {
	r.Policy = number
	if number > linux.MaxPolicies {
		return r, field("from", "is policy number %d; an interface has at most %d", number, linux.MaxPolicies)
	}
	if p.GetFrom() != "" {
		from, err := models.ParsePrefix(p.GetFrom())
		if err != nil {
			return r, field("from", "%v", err)
		}
		r.From = from.Masked()
	}
	if s := strings.ToLower(p.GetProtocol()); s != "" {
		known := false
		if r.Protocol, known = protocols[s]; !known {
			number, err := strconv.ParseUint(s, 10, 8)
			if err != nil {
				return r, field("protocol", "%q is not known", s)
			}
			r.Protocol = uint8(number)
		}
	}
	if r.SourcePorts, err = ports(p.GetSourcePort()); err != nil {
		return r, field("sourcePort", "%v", err)
	}
	if r.DestinationPorts, err = ports(p.GetDestinationPort()); err != nil {
		return r, field("destinationPort", "%v", err)
	}
	return r, nil
}

func ports(s string) (linux.Ports, error) {
	if s == "" {
		return linux.Ports{}, nil
	}
	from, to, err := models.ParsePorts(s)
	return linux.Ports{From: from, To: to}, err
}
