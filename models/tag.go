package models

import "strings"

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
