package tunnel

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"go.patchbay.dev/models"
)

// Parameters that every tunnel has, in records and between nodes, as Network Service Mesh
// spells them (package api/pkg/api/networkservice/mechanisms/vxlan).
const (
	SrcIP = "src_ip" // of the client's node
	DstIP = "dst_ip" // of the endpoint's node
)

// ignored are parameters that Network Service Mesh's forwarders send with every tunnel.
var ignored = []string{"MTU"}

// Params are the parameters of a tunnel.
type Params map[string]string

// Place is one end of a tunnel, as the node sees it that is there. The endpoint's side of a
// record has the tunnel to the endpoint's node, so the client's node is Local there.
type Place struct {
	Side          models.Side // of the record
	Payload       string
	Local, Remote netip.Addr
}

// Place reads both addresses. An error is a *models.FieldError whose field is the parameter.
func (p Params) Place(side models.Side, payload string) (Place, error) {
	src, err := p.address(SrcIP)
	if err != nil {
		return Place{}, err
	}
	dst, err := p.address(DstIP)
	switch {
	case err != nil:
		return Place{}, err
	case src.Is4() != dst.Is4():
		return Place{}, field(DstIP, "%s and %s %s are of different families", dst, SrcIP, src)
	case src == dst:
		return Place{}, field(DstIP, "%s is %s, too; the tunnel leads to another node", dst, SrcIP)
	}
	if side == models.ClientSide {
		src, dst = dst, src
	}
	return Place{Side: side, Payload: payload, Local: src, Remote: dst}, nil
}

func (p Params) address(name string) (netip.Addr, error) {
	a, err := netip.ParseAddr(p[name])
	if err != nil || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a.Is4In6() {
		return a, field(name, "%q is not an address that a tunnel can end at, like 192.0.2.1 or 2001:db8::1", p[name])
	}
	return a, nil
}

// Number reads a parameter; def is its value where it is not there, a negative one says that
// it must be. An error is as of Place.
func (p Params) Number(name string, lo, hi, def int64) (uint32, error) {
	s, ok := p[name]
	if !ok && def >= 0 {
		return uint32(def), nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < lo || n > hi {
		return 0, field(name, "%q cannot be; use %d–%d", s, lo, hi)
	}
	return uint32(n), nil
}

// With is p with one parameter more.
func (p Params) With(name, value string) Params {
	q := maps.Clone(p)
	q[name] = value
	return q
}

// holds tells whether q has every parameter of p.
func (p Params) within(q Params) bool {
	for name, value := range p {
		if q[name] != value {
			return false
		}
	}
	return true
}

// Validate checks all parameters of a kind.
func Validate(k Kind, p Params) error {
	known := append([]string{SrcIP, DstIP}, k.Parameters()...)
	for _, name := range slices.Sorted(maps.Keys(p)) {
		if !slices.Contains(known, name) && !slices.Contains(ignored, name) {
			return field(name, "is not a parameter of %s; it has %s", k.Type(), strings.Join(known, ", "))
		}
	}
	if _, err := p.Place(models.EndpointSide, ""); err != nil {
		return err
	}
	return k.Check(p)
}

// field is an error of one parameter.
func field(name, format string, args ...any) error {
	return &models.FieldError{Field: name, Reason: fmt.Sprintf(format, args...)}
}

// Field is an error of one parameter, for a kind's own.
func Field(name, format string, args ...any) error { return field(name, format, args...) }
