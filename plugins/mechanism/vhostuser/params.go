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
	Owner   = "owner"   // uid:gid of the socket, or of the directory where the workload makes it
	Mode    = "mode"    // of the socket, octal
	MAC     = "mac"     // that the guest's device must have, with IP as payload
	PeerMAC = "peerMac" // of VPP's end, the next hop to everything with IP as payload
)

var known = []string{SocketFile, Server, Owner, Mode, MAC, PeerMAC}

// ignored are parameters that clients send unasked with every mechanism.
var ignored = []string{"inodeURL", "netnsInode", "netns", "MTU"}

// params are the parameters, parsed.
type params struct {
	server   bool // the workload listens
	uid, gid int
	mode     os.FileMode
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
	p.mode, p.uid, p.gid = 0o600, os.Getuid(), os.Getgid()
	if s := in[Server]; s != "" {
		if p.server, err = strconv.ParseBool(s); err != nil {
			return p, field(Server, "%q is not true or false", s)
		}
	}
	if s := in[Owner]; s != "" {
		u, g, ok := strings.Cut(s, ":")
		uid, err1 := strconv.ParseUint(u, 10, 31)
		gid, err2 := strconv.ParseUint(g, 10, 31)
		if !ok || err1 != nil || err2 != nil {
			return p, field(Owner, "%q is not uid:gid, like 1000:1000", s)
		}
		p.uid, p.gid = int(uid), int(gid)
	}
	if s := in[Mode]; s != "" {
		mode, err := strconv.ParseUint(s, 8, 9)
		if err != nil {
			return p, field(Mode, "%q is no file mode, like 0660", s)
		}
		p.mode = os.FileMode(mode)
	}
	return p, nil
}

func field(name, format string, args ...any) error {
	return &models.FieldError{Field: name, Reason: fmt.Sprintf(format, args...)}
}
