package models

import (
	"crypto/sha256"
	"strings"
)

// Tag marks the interface of one side of a cross-connect in the dataplane, as users see
// it: patchbay:<id>:<side>.
func Tag(id string, side Side) string { return tagPrefix + id + ":" + string(side) }

const tagPrefix = "patchbay:"

// ParseTag reads a tag; ok is false for what is not one of ours.
func ParseTag(tag string) (id string, side Side, ok bool) {
	rest, ok := strings.CutPrefix(tag, tagPrefix)
	i := strings.LastIndexByte(rest, ':')
	if !ok || i < 1 {
		return "", "", false
	}
	side = Side(rest[i+1:])
	return rest[:i], side, side == ClientSide || side == EndpointSide
}

// DerivedMAC makes an Ethernet address of a text, a tag for instance: unicast, locally
// administered, always the same.
func DerivedMAC(text string) (mac [6]byte) {
	sum := sha256.Sum256([]byte(text))
	copy(mac[:], sum[:])
	mac[0] = mac[0]&^1 | 2
	return mac
}

// ForwarderMAC is the Ethernet address of the forwarder's end of the attachment with a tag.
func ForwarderMAC(tag string) [6]byte { return DerivedMAC("vpp " + tag) }
