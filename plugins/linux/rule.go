package linux

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The table of policy n of the interface with index i has the number
//
//	1<<31 | (i & (1<<21 - 1)) << 10 | (n - 1)
//
// so that from a rule alone one sees whether its interface is still there. Rules
// outlive their interface; the routes in the table do not.
const (
	tableOurs   = 1 << 31
	policyBits  = 10
	indexMask   = 1<<21 - 1
	MaxPolicies = 1 << policyBits // of one interface
)

// RulePriority is the priority of the first policy's rule, that of the next is one
// more: after the kernel's local table (0), before the main one (32766).
const RulePriority = 20000

// Table is the number of the routing table of a policy, counted from 1.
func Table(index, policy int) uint32 {
	return tableOurs | uint32(index)&indexMask<<policyBits | uint32(policy-1)
}

// policyOf reads a table's number; ok is false if it is no table of that interface.
func policyOf(table uint32, index int) (policy int, ok bool) {
	policy = int(table&(MaxPolicies-1)) + 1
	return policy, table == Table(index, policy)
}

// Ports is a range of ports, both ends included. Zero is all ports.
type Ports struct{ From, To uint16 }

// A Rule sends what it matches to the table of a policy.
type Rule struct {
	Policy           int // counted from 1 to MaxPolicies; its order among the rules
	IPv6             bool
	From             netip.Prefix // not valid: from everywhere
	Protocol         uint8        // IANA number, 0: all
	SourcePorts      Ports
	DestinationPorts Ports
}

func (r Rule) String() string { return fmt.Sprintf("rule of policy %d", r.Policy) }

func ruleRequest(kind, flags, index int, r Rule) request {
	return ruleOfTable(kind, flags, Table(index, r.Policy), r)
}

func ruleOfTable(kind, flags int, table uint32, r Rule) request {
	// struct fib_rule_hdr has the layout of struct rtmsg; its type is the action.
	h := &nl.RtMsg{RtMsg: unix.RtMsg{Family: unix.AF_INET, Type: nl.FR_ACT_TO_TBL}}
	if r.IPv6 {
		h.Family = unix.AF_INET6
	}
	parts := []nl.NetlinkRequestData{h,
		attrU32(unix.FRA_PRIORITY, uint32(RulePriority+r.Policy-1)),
		attrU32(unix.FRA_TABLE, table),
		attrU8(unix.FRA_PROTOCOL, Protocol),
	}
	if r.From.IsValid() {
		h.Src_len = uint8(r.From.Bits())
		parts = append(parts, nl.NewRtAttr(unix.FRA_SRC, r.From.Addr().AsSlice()))
	}
	if r.Protocol != 0 {
		parts = append(parts, attrU8(unix.FRA_IP_PROTO, r.Protocol))
	}
	if r.SourcePorts != (Ports{}) {
		parts = append(parts, nl.NewRtAttr(unix.FRA_SPORT_RANGE, r.SourcePorts.bytes()))
	}
	if r.DestinationPorts != (Ports{}) {
		parts = append(parts, nl.NewRtAttr(unix.FRA_DPORT_RANGE, r.DestinationPorts.bytes()))
	}
	return newRequest(kind, flags, parts...)
}

// A rule as found, with its table.
type foundRule struct {
	table uint32
	rule  Rule
}

// rules lists all of ours in the namespace.
func (c *conn) rules() ([]foundRule, error) {
	return dump(c, newRequest(unix.RTM_GETRULE, 0, &nl.RtMsg{}), parseRule)
}

// parseRule reads an RTM_NEWRULE, if it is a rule of ours.
func parseRule(body []byte) (f foundRule, ok bool) {
	if len(body) < unix.SizeofRtMsg {
		return f, false
	}
	f.rule.IPv6 = body[0] == unix.AF_INET6
	ours, priority := false, 0
	for kind, v := range attrs(body[unix.SizeofRtMsg:]) {
		switch kind {
		case unix.FRA_PROTOCOL:
			ours = len(v) > 0 && v[0] == Protocol
		case unix.FRA_TABLE:
			f.table = u32(v)
		case unix.FRA_PRIORITY:
			priority = int(u32(v))
		case unix.FRA_SRC:
			src, _ := netip.AddrFromSlice(v)
			f.rule.From = netip.PrefixFrom(src, int(body[2]))
		case unix.FRA_IP_PROTO:
			f.rule.Protocol = uint8(u32(v))
		case unix.FRA_SPORT_RANGE:
			f.rule.SourcePorts = parsePorts(v)
		case unix.FRA_DPORT_RANGE:
			f.rule.DestinationPorts = parsePorts(v)
		}
	}
	f.rule.Policy = int(f.table&(MaxPolicies-1)) + 1
	return f, ours && f.table&tableOurs != 0 && priority == RulePriority+f.rule.Policy-1
}

// bytes is struct fib_rule_port_range.
func (p Ports) bytes() []byte {
	b := binary.NativeEndian.AppendUint16(nil, p.From)
	return binary.NativeEndian.AppendUint16(b, p.To)
}

func parsePorts(b []byte) Ports {
	if len(b) < 4 {
		return Ports{}
	}
	return Ports{binary.NativeEndian.Uint16(b), binary.NativeEndian.Uint16(b[2:])}
}
