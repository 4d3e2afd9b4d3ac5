// Package models says what users want and what they have: the protobuf messages
// that are kept in etcd, the keys they are kept under, and what makes them valid.
// It does no I/O, so every other room may import it.
package models

// Payloads of a connection, as Network Service Mesh spells them.
const (
	Ethernet = "ETHERNET" // Ethernet frames
	IP       = "IP"       // IP packets without an Ethernet header
)
