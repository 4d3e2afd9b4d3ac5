package vhostuser

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"go.patchbay.dev/models"
)

// Parameters of the mechanism. SocketFile, MAC and PeerMAC are what the workload is told.
const (
	SocketFile = "socketfile" // a path
	// Server is "true" when the workload listens and VPP connects to it, again and again:
	// a guest that outlives VPP. Otherwise VPP listens.
	Server  = "server"
	Owner   = models.ParamOwner // of the socket, or of the directory where the workload makes it
	Mode    = models.ParamMode
	MAC     = "mac"     // that the guest's device must have, with IP as payload
	PeerMAC = "peerMac" // of VPP's end, the next hop to everything with IP as payload
)

var known = []string{SocketFile, Server, Owner, Mode, MAC, PeerMAC}

// ignored are parameters that clients send unasked with every mechanism.
var ignored = []string{"inodeURL", "netnsInode", "netns", "MTU"}

// params are the parameters, parsed.
type params struct {
	server bool // the workload listens
	models.Access
}

// Validate checks the parameters of an attachment. An error is a *models.FieldError
// whose field is the parameter's name.
func (m *Mechanism) Validate(parameters map[string]string) error {
	_, err := parse(parameters)
	return err
}

func parse(in map[string]string) (p params, err error) {
	for _, key := range slices.Sorted(maps.Keys(in)) {
		if !slices.Contains(known, key) && !slices.Contains(ignored, key) {
			return p, field(key, "is not a parameter of %s; it has %s", Type, strings.Join(known, ", "))
		}
	}
	if s := in[Server]; s != "" {
		if p.server, err = strconv.ParseBool(s); err != nil {
			return p, field(Server, "%q is not true or false", s)
		}
	}
	p.Access, err = models.ParseAccess(in, os.Getuid(), os.Getgid())
	return p, err
}

func field(name, format string, args ...any) error {
	return &models.FieldError{Field: name, Reason: fmt.Sprintf(format, args...)}
}
