// Package tunnel is what all tunnels between nodes share: their parameters, what each takes
// on its nodes, the choice of addresses and numbers that are free on both, and how a tunnel
// is made in VPP. Each mechanism under plugins/mechanism says what is its own by a [Kind].
package tunnel

import (
	"net/netip"

	"go.patchbay.dev/models"
)

// Version of the parameters of all kinds, see models.Offer.
const Version = 1

// Kind is one kind of tunnel. Its methods look at nothing but their arguments, but for those
// that choose.
type Kind interface {
	// Type is the name on the wire and in records.
	Type() string
	// Payloads that it carries.
	Payloads() []string
	// Parameters that it has beside SrcIP and DstIP.
	Parameters() []string
	// Check reads those. An error is a *models.FieldError that names one.
	Check(p Params) error
	// Overhead is what stands between the outer IP header and the payload's IP packet, bytes.
	Overhead(p Params, payload string) int
	// Claims name what the tunnel takes at a place, of which the node has one. Parameters
	// that are not known yet are not there.
	Claims(p Params, at Place) []string
	// Propose adds to addresses what the client's node chooses; several are alternatives,
	// best first. An error says what the node has no more of.
	Propose(p Params, c Choice) ([]Params, error)
	// Accept adds what the endpoint's node chooses.
	Accept(p Params, c Choice) (Params, error)
	// DeviceKind is the kernel's word for it between addresses of a's family.
	DeviceKind(a netip.Addr, payload string) string
}

// carries tells whether a kind carries a payload.
func carries(k Kind, payload string) bool {
	for _, p := range k.Payloads() {
		if p == payload || payload == "" && p == models.Ethernet {
			return true
		}
	}
	return false
}

// ipHeader is the size of an IP header without options, bytes (RFC 791, RFC 8200).
func ipHeader(a netip.Addr) int {
	if a.Is4() {
		return 20
	}
	return 40
}

// defaultUnderlay is the MTU of an underlay of which nothing is known, bytes (RFC 894).
const defaultUnderlay = 1500

// mtu is what an underlay leaves of itself for the payload's IP packets, bytes; 0: nothing.
func mtu(k Kind, p Params, payload string, underlay uint32) uint32 {
	if underlay == 0 {
		underlay = defaultUnderlay
	}
	a, _ := netip.ParseAddr(p[SrcIP])
	over := uint32(ipHeader(a) + k.Overhead(p, payload))
	return underlay - min(over, underlay)
}

// MAC is the Ethernet address of the end of a tunnel that is at local, where its frames carry
// IP packets: each end knows the other's without asking.
func MAC(k Kind, number string, local netip.Addr) [6]byte {
	return models.DerivedMAC(k.Type() + " " + number + " " + local.String())
}

// Hops are next hops to whatever is behind a tunnel, where VPP wants to be told one.
func Hops() []netip.Addr {
	return []netip.Addr{netip.AddrFrom4([4]byte{169, 254, 0, 1}), netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 15: 1})}
}
