package vppapi

import (
	"errors"

	"go.fd.io/govpp/api"
)

// Exists tells whether VPP refused because what was to be made is there already.
func Exists(err error) bool {
	for _, code := range []Error{api.IF_ALREADY_EXISTS, api.SUBIF_ALREADY_EXISTS, api.ENTRY_ALREADY_EXISTS, api.TUNNEL_EXIST, api.BD_ALREADY_EXISTS} {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}

// SocketNumberTaken tells whether VPP refused a memif socket because its number belongs
// to another.
func SocketNumberTaken(err error) bool { return errors.Is(err, api.ENTRY_ALREADY_EXISTS) }
