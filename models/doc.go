// Package models says what users want and what they have: the protobuf messages
// that are kept in etcd, the keys they are kept under, and what makes them valid.
// It does no I/O, so every other room may import it.
package models

// Payloads of a connection, as Network Service Mesh spells them.
const (
	Ethernet = "ETHERNET" // Ethernet frames
	IP       = "IP"       // IP packets without an Ethernet header
)

// Side is one of the two ends of a cross-connect, as it stands in interface tags, metrics
// and the names of fields.
type Side string

// The two sides.
const (
	ClientSide   Side = "client"
	EndpointSide Side = "endpoint"
)

// At is the attachment of one side, nil if the record has none.
func (x *CrossConnect) At(side Side) *Attachment {
	if side == EndpointSide {
		return x.GetEndpoint()
	}
	return x.GetClient()
}
